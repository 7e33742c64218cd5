"""The calls of linking and its page: what strangers see, and which users get a code."""

from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from tests.conftest import Clock, World, configuration
from tests.rooms.users.linking.people import ADA, BASE, USER, connect, shown
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


def test_the_page_shows_the_code_and_never_its_user(world: World) -> None:
    code = connect(world)
    page = shown(world, code)
    assert page.status_code == 200
    assert "within ten minutes" in page.text
    assert "Ada" not in page.text + str(page.headers)


@pytest.mark.parametrize("wrong", [False, True])
def test_the_page_is_kept_nowhere_and_loads_nothing(world: World, wrong: bool) -> None:
    page = shown(world, "x%3Cb%3E" if wrong else connect(world))
    assert page.status_code == (404 if wrong else 200)
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert page.headers["Cache-Control"] == "no-store"
    assert page.headers["Referrer-Policy"] == "no-referrer"
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "<b>" not in page.text
    assert ("choose\nConnect" in page.text) is wrong


def test_nothing_but_the_page_is_public(world: World) -> None:
    code = connect(world)
    for verb, path in (("POST", f"link/{code}"), ("GET", "link"), ("GET", f"link/{code}/x")):
        answer = requests.request(verb, f"{world.url}{BASE}/{path}", timeout=5)
        assert answer.status_code in (401, 404, 405)
        assert code not in answer.text
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
    code = provider.codes.new(USER, clock())
    assert requests.get(f"{url}{BASE}/link/{code}", timeout=5).status_code == 404
    provider.close()
