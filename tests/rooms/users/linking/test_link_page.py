"""The calls of linking and its page: what strangers see, and which users get a code."""

from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from tests.conftest import Clock, World, configuration
from tests.rooms.users.linking.people import ADA, BASE, NAMES, USER, connect
from tests.sandbox.browser import NOT_MINE, Browser
from tests.sandbox.core import CoreError, SimulatedCore
from tests.support.model import Model
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.store.people import UserLink


def test_only_connected_people_are_prepared_for_and_never_with_449(world: World) -> None:
    answer = world.core.call("POST", f"{BASE}/integration/init", {"username": USER})
    assert answer == (400, {"why": "Unknown user", "errorCode": None})
    world.provider.people.add([UserLink(USER, "ada", ADA, world.clock(), "root")])
    assert world.core.call("POST", f"{BASE}/integration/init", {"username": USER}) == (200, {})


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 300])
def test_what_is_no_name_gets_no_code(world: World, name: str) -> None:
    assert world.core.call("POST", f"{BASE}/integration/connect", {"username": name})[0] == 400


def test_the_page_shows_the_user_and_the_code_looks_again_and_names_no_account_before_somebody_types_it(world: World) -> None:
    page = connect(world).look()
    assert page.status_code == 200
    assert "within ten minutes" in page.text
    assert f"You are {USER} at UCloud" in page.text
    assert 'http-equiv="refresh"' in page.text
    assert not any(name in page.text for name in NAMES.values())
    assert NOT_MINE not in page.text


@pytest.mark.parametrize("wrong", [False, True])
def test_the_page_is_kept_nowhere_and_loads_nothing(world: World, wrong: bool) -> None:
    browser = connect(world)
    page = Browser(browser.address.replace(browser.secret, "x%3Cb%3E")).look() if wrong else browser.look()
    assert page.status_code == (404 if wrong else 200)
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert page.headers["Cache-Control"] == "no-store"
    assert page.headers["Referrer-Policy"] == "no-referrer"
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "form-action 'self'; frame-ancestors 'none'" in policy
    assert "<script" not in page.text
    assert "<b>" not in page.text
    assert ("choose\nConnect" in page.text) is wrong


def test_nothing_but_the_page_is_public(world: World) -> None:
    browser = connect(world)
    code, link = browser.code(), f"link/{browser.secret}"
    for verb, path in (("PUT", link), ("POST", "link/x"), ("GET", "link"), ("GET", f"{link}/x")):
        answer = requests.request(verb, f"{world.url}{BASE}/{path}", allow_redirects=False, timeout=5)
        assert answer.status_code in (401, 404, 405)
        assert code not in answer.text


@pytest.mark.parametrize("form", [{}, {"answer": "connect"}, {"answer": "x", "shown": "1-None"}, {"answer": "reject"}])
def test_an_answer_to_what_was_not_asked_changes_nothing(world: World, form: dict[str, str]) -> None:
    browser = connect(world)
    code = browser.code()
    assert requests.post(browser.address, form, timeout=5).status_code in (200, 409)
    assert browser.code() == code
    assert world.provider.people.listed() == []


def test_calls_of_ucloud_need_its_token(world: World) -> None:
    assert requests.post(f"{world.url}{BASE}/integration/connect", json={"username": "x"}, timeout=5).status_code == 401


@pytest.mark.parametrize("mapping", ["service", "script"])
def test_with_another_mapping_no_user_connects(
    core: SimulatedCore, clock: Clock, model: Model, tmp_path: Path, serve: Callable[..., str], mapping: str
) -> None:
    users = {"mapping": mapping, "script": "/bin/true"} if mapping == "script" else {"mapping": mapping}
    provider = Provider.open(configuration(core, tmp_path, users=users), now=clock, scheduler=model)
    url = serve(provider)
    with pytest.raises(CoreError):
        core.connect_user(USER)
    status, body = core.call("POST", f"{BASE}/integration/connect", {"username": USER})
    assert status == 400
    assert "no need to connect" in body["why"]
    secret = provider.codes.new(USER, clock())
    assert Browser(f"{url}{BASE}/link/{secret}").look().status_code == 404
    provider.close()
