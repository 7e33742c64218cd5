"""Several web pages of one job: announced by a template, shown by UCloud, opened each at a host name of its own."""

import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from tests.conftest import Clock, Open, Serve, World
from tests.sandbox.core import CoreError, SimulatedCore
from tests.sandbox.core.today import job_page
from tests.support.factories import application, jinja, parameter, text
from tests.support.model import Model
from tests.support.restore import pass_time
from tests.support.scripts import PLAN, build
from ucloud_slurm.bridge.script.resources import Plan
from ucloud_slurm.bridge.template.messages import Request, WebPage
from ucloud_slurm.errors import Refused
from ucloud_slurm.provider import rendering

URL = "https://*.apps.example.org"
TWO = Plan(nodes=2, cpus=1, memory=1024, gres=None, minutes=60)
today = pytest.mark.parametrize("era", ["today"], scope="session")


@pytest.fixture
def world(core: SimulatedCore, open_provider: Open, serve: Serve, model: Model, clock: Clock) -> World:
    provider = open_provider(sessions={"url": URL})
    return World(core, provider, model, clock, serve(provider))


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A port on which nobody listens yet, and that nobody else can take."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        yield server


def running(world: World, *pages: tuple[int, str, int], **more: Any) -> str:
    """A job that has announced further pages and runs."""
    calls = "".join(f"{{{{ dynamicInterface({rank}, 'WEB', {json.dumps(name)}, {port}) }}}}" for rank, name, port in pages)
    app = application(jinja(calls + "serve"), allowMultiNode=True, **more)
    world.core.catalogue.add_application(app)
    job = world.submit(application=(app["metadata"]["name"], "1.0"), parameters={}, replicas=2)
    world.model.begin_run(world.slurm(job))
    pass_time(world, 180)
    return job


def opened(world: World, job: str, rank: int, target: str) -> tuple[requests.Session, str]:
    """A browser that has opened a page, and the label of its session."""
    link = urlsplit(str((world.core.open_session(job, rank, "WEB", target=target) or {})["redirectClientTo"]))
    label = (link.hostname or "").partition(".")[0]
    browser = requests.Session()
    browser.headers["X-UCloud-Session"] = label
    token = parse_qs(link.query)["token"][0]
    answer = browser.get(f"{world.url}/_ucloud/enter", params={"token": token}, allow_redirects=False, timeout=5)
    assert answer.status_code == 303
    browser.headers["Cookie"] = answer.headers["Set-Cookie"].partition(";")[0]
    return browser, label


@today
def test_the_page_of_a_job_has_a_button_for_each_page_and_each_leads_to_its_port(world: World) -> None:
    job = running(world, (0, 'Dash "board"', 6006), (0, "Metrics", 9090), (1, "Metrics", 9091))
    shown = job_page.targets(world.core.job(job))
    assert shown == [(0, 'Dash "board"'), (0, "Metrics"), (1, "Metrics")]
    assert not [message for message in job_page.messages(world.core.job(job)) if "6006" in message]
    labels = set()
    for (rank, name), port in zip(shown[:2], (6006, 9090), strict=True):
        browser, label = opened(world, job, rank, name)
        answer = browser.get(f"{world.url}/_ucloud/authorize", headers={"X-Original-URI": "/"}, timeout=5)
        assert (answer.status_code, answer.headers["X-UCloud-Upstream"]) == (204, f"127.0.0.1:{port}")
        labels.add(label)
    assert len(labels) == 2
    assert len(world.core.job(job).updates) == len({update["status"] for update in world.core.job(job).updates})


@today
def test_a_browser_waits_until_a_page_listens(world: World, silent: socket.socket) -> None:
    job = running(world, (0, "late", silent.getsockname()[1]))
    browser, _ = opened(world, job, 0, "late")
    go = f"{world.url}/_ucloud/go"
    waiting = browser.get(go, allow_redirects=False, timeout=5)
    assert (waiting.status_code, "The application is starting" in waiting.text) == (503, True)
    silent.listen()
    assert browser.get(go, allow_redirects=False, timeout=5).headers["Location"] == "/"


@today
@pytest.mark.parametrize(("rank", "target", "kind"), [(0, "other", "WEB"), (1, "one", "WEB"), (0, "one", "VNC")])
def test_a_page_that_no_template_has_announced_is_not_opened(world: World, rank: int, target: str, kind: Any) -> None:
    job = running(world, (0, "one", 6006))
    with pytest.raises(CoreError, match=f"the job has no page {target} on node {rank}"):
        world.core.open_session(job, rank, kind, target=target)


def test_a_template_may_take_the_name_from_a_value() -> None:
    app = application(jinja("{{ dynamicInterface(0, 'WEB', name, 6006) }}serve"), parameters=[parameter("name")])
    assert build(app=app, parameters={"name": text("$(id)")}, url=URL).pages == ((0, "$(id)", 6006),)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("0, 'VNC', 'x', 6006", "type WEB"),
        ("0, 'WEB', 'x', 22", "a port of 1024 to 65535"),
        ("0, 'WEB', 'x', 65536", "a port of 1024 to 65535"),
        ("-1, 'WEB', 'x', 6006", "the number of a node"),
        ("0, 'WEB', 'x', '6006'", "a port of"),
        ("true, 'WEB', 'x', 6006", "the number of a node"),
        ("0, 'WEB', '', 6006", "a name of 1 to 60"),
        ("0, 'WEB', 'a\\nSSH: b', 6006", "a name of 1 to 60"),
        ("2, 'WEB', 'x', 6006", "on node 2, and the job has 2"),
    ],
)
def test_what_cannot_be_a_page_is_refused_by_a_sentence(call: str, words: str) -> None:
    with pytest.raises(Refused, match=words):
        build(TWO, app=application(jinja(f"{{{{ dynamicInterface({call}) }}}}x"), allowMultiNode=True), url=URL)


def test_a_template_that_announces_pages_without_an_end_is_refused() -> None:
    many = "{% for i in range(21) %}{{ dynamicInterface(0, 'WEB', i ~ '', 6006) }}{% endfor %}x"
    with pytest.raises(Refused, match="more than 20 pages"):
        build(PLAN, app=application(jinja(many)), url=URL)


@pytest.mark.parametrize("url", [None, "https://apps.example.org/*"])
def test_pages_need_host_names_of_their_own(url: str | None) -> None:
    with pytest.raises(Refused, match="need a host name for each"):
        build(app=application(jinja("{{ dynamicInterface(0, 'WEB', 'x', 6006) }}x")), url=url)


def test_pages_pass_through_the_process_that_renders() -> None:
    request = Request("{{ dynamicInterface(0, 'WEB', 'x', 6006) }}run")
    assert rendering.render(request, within=rendering.WORKER_SECONDS).pages == (WebPage(0, "x", 6006),)
