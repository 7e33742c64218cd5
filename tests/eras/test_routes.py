"""What a UCloud of today asks for besides: answered at once, in JSON, without a content type, and never a failure."""

import http.client
import json
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.conftest import Open, Serve, World
from tests.sandbox.core import SimulatedCore
from tests.support.factories import application, job_data, word
from tests.support.model import Model
from ucloud_slurm.bridge.states import queue_level
from ucloud_slurm.slurm.records import Load
from ucloud_slurm.ucloud.responses import QueueLevel
from ucloud_slurm.web import utilization

BASE = "/ucloud/example"
OWNER = {"createdBy": "user", "project": None}
FORM = {"owner": OWNER, "application": application(word("true"))}
KEY = {"id": "1", "owner": "user", "createdAt": 0, "fingerprint": "f", "specification": {"title": "t", "key": "k"}}
ATTACH = {"job": job_data("9"), "resource": {"type": "ingress", "id": "7"}}


def send(world: World, verb: str, path: str, body: Any) -> tuple[int, Any]:
    """A request as Go's client makes it: a body, and no word about what it is."""
    parts = urlsplit(world.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5)
    try:
        headers = {"Authorization": f"Bearer {world.core.tokens.core_token()}", "Accept-Encoding": "gzip"}
        connection.request(verb, f"{BASE}/{path}", json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("jobs", {"items": [job_data("9")]}, {"responses": [{"id": "ucloud-9"}]}),
        ("jobs/terminate", {"items": [job_data("9")]}, {"responses": [{}]}),
        ("jobs/requestDynamicParameters", FORM, {"parameters": []}),
        ("jobs/onUpdatedLabels", {"items": [job_data("9"), job_data("10")]}, {"responses": [{}, {}]}),
        ("ssh/keyUploaded", {"username": "user", "allKeys": [KEY]}, {}),
        ("integration/init", {"username": "user"}, {}),
        ("integration/unlinked", {"username": "user"}, {}),
    ],
)
def test_a_call_without_a_content_type_is_answered_in_json(path: str, body: Any, said: Any, world: World) -> None:
    assert send(world, "POST", path, body) == (200, said)


@pytest.mark.parametrize("path", ["attachResource", "detachResource", "openTerminalInFolder"])
def test_what_a_job_cannot_have_is_refused_in_a_sentence(path: str, world: World) -> None:
    body = ATTACH if path != "openTerminalInFolder" else {"items": [{"folder": "/7/results"}]}
    status, said = send(world, "POST", f"jobs/{path}", body)
    assert (status, said["errorCode"]) == (400, "FEATURE_NOT_SUPPORTED_BY_PROVIDER")
    assert len(said["why"].split()) > 5


@pytest.mark.parametrize("kind", ["files/collections", "ingresses", "networkips", "licenses", "private-networks"])
def test_of_other_kinds_there_are_no_products(kind: str, world: World) -> None:
    assert send(world, "GET", f"{kind}/retrieveProducts", None) == (200, {"responses": []})


@pytest.mark.parametrize(
    "path",
    ["provider/branding/retrieveInfo", "unheard-of/retrieveProducts", "shares/retrieveProducts", "integration/retrieveNothing"],
)
def test_what_nobody_offers_is_not_found_and_in_json(path: str, world: World) -> None:
    status, said = send(world, "GET", path, None)
    assert (status, said["why"]) == (404, "Not Found")


def test_what_is_polled_and_every_form_ask_neither_slurm_nor_ucloud(world: World) -> None:
    world.core.stop()
    world.model.controller = world.model.accounting = False
    for path in (
        "files/collections/retrieveProducts",
        "ingresses/retrieveProducts",
        "networkips/retrieveProducts",
        "integration/retrieveManifest",
        "provider/branding/retrieveInfo",
    ):
        assert send(world, "GET", path, None)[0] in (200, 404)
    assert send(world, "POST", "jobs/requestDynamicParameters", FORM)[0] == 200
    assert world.model.counts == {}


# -- queues -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cpus", "used", "pending", "word"),
    [
        (64, 0, 0, QueueLevel.AVAILABLE),
        (64, 63, 0, QueueLevel.AVAILABLE),
        (64, 64, 0, QueueLevel.BUSY),
        (64, 10, 1, QueueLevel.BUSY),
        (64, 64, 1, QueueLevel.FULL),
        (64, 80, 1, QueueLevel.FULL),
        (0, 0, 0, QueueLevel.FULL),
    ],
)
def test_a_queue_has_one_of_three_words(cpus: int, used: int, pending: int, word: QueueLevel) -> None:
    assert queue_level(Load(cpus, used, 1, 1, running=5, pending=pending)) is word


Ask = Callable[[], list[Any]]


@pytest.fixture
def ask(core: SimulatedCore, open_provider: Open, serve: Serve) -> Ask:
    """What retrieveProducts says of the queues, to a UCloud that wants to know."""
    thin = {"category": "example-compute", "partition": "cpu"}
    products = [{"id": "a", **thin}, {"id": "b", **thin}, {"id": "c", **thin, "partition": "gpu"}]
    provider = open_provider(products=products)
    serve(replace(provider, era=provider.era._replace(has_queue_status=True)))

    def ask_() -> list[Any]:
        status, body = core.call("GET", f"{BASE}/jobs/retrieveProducts")
        assert status == 200
        return [each["queueStatus"] for each in body["responses"]]

    return ask_


def test_a_queue_is_what_slurm_says_of_the_partition(ask: Ask, model: Model, clock: Any) -> None:
    loads = {"cpu": Load(8, 8, 1, 1, 2, 3), "gpu": Load(8, 0, 1, 1, 0, 0)}
    model.load = lambda partitions, within: loads["".join(partitions)]  # type: ignore[method-assign]  # noqa: ARG005
    assert ask() == ["FULL", "FULL", "AVAILABLE"]
    loads["cpu"] = loads["gpu"]
    clock.advance(31)
    assert ask() == ["AVAILABLE"] * 3


def test_a_partition_is_asked_for_once_in_half_a_minute(ask: Ask, model: Model, clock: Any) -> None:
    for _ in range(3):
        ask()
        clock.advance(9)
    assert model.counts["sinfo"] == 2


def test_a_queue_nobody_can_tell_of_is_null_and_fails_nothing(ask: Ask, model: Model, clock: Any) -> None:
    model.controller = False
    assert ask() == [None] * 3
    assert model.counts["sinfo"] == 1, "who does not answer is left alone"
    model.controller = True
    clock.advance(20)
    assert ask() == ["AVAILABLE"] * 3
    model.controller = False
    clock.advance(290)
    assert ask() == ["AVAILABLE"] * 3
    clock.advance(20)
    assert ask() == [None] * 3


def test_all_queues_together_may_take_one_second(ask: Ask, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds, given = [100.0], []

    def slow(partitions: Any, within: float) -> Load:
        given.append(("".join(partitions), within))
        seconds[0] += 1.1
        return Load(8, 0, 1, 1, 0, 0)

    model.load = slow  # type: ignore[method-assign]
    monkeypatch.setattr(utilization, "time", SimpleNamespace(monotonic=lambda: seconds[0]))
    assert ask() == ["AVAILABLE", "AVAILABLE", None]
    assert ask() == ["AVAILABLE"] * 3, "the one that there was no time for comes with the next call"
    assert given == [("cpu", 1.0), ("gpu", 1.0)]


def test_a_ucloud_that_does_not_know_queues_makes_nobody_ask(world: World) -> None:
    products = world.core.call("GET", f"{BASE}/jobs/retrieveProducts")[1]["responses"]
    assert [each["queueStatus"] for each in products] == [None, None]
    assert "sinfo" not in world.model.counts
