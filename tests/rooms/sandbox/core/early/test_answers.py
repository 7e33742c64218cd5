"""What the provider answers about sessions, suspension and its load."""

from collections.abc import Callable
from typing import Any, Literal

import pytest

from tests.rooms.sandbox.core.conftest import SLEEPER, FakeProvider, Json
from tests.sandbox.core import CORE_2021, CORE_2022, CoreError, SimulatedCore

SHELL: Json = {"type": "shell", "jobId": "54112", "rank": 0, "sessionIdentifier": "x"}
WEB: Json = {"type": "web", "jobId": "54112", "rank": 0, "redirectClientTo": "/x"}
VNC: Json = {"type": "vnc", "jobId": "54112", "rank": 0, "url": "/x", "password": None}
LOAD: Json = {
    "capacity": {"cpu": 1024.0, "memory": 4398046511104},
    "usedCapacity": {"cpu": 640, "memory": 2199023255552},
    "queueStatus": {"running": 37, "pending": 12},
}


def without(data: Json, key: str) -> Json:
    return {name: value for name, value in data.items() if name != key}


@pytest.mark.parametrize(
    ("kind", "session", "sentence"),
    [
        ("SHELL", SHELL, None),
        ("WEB", WEB, None),
        ("VNC", VNC, None),
        ("VNC", without(VNC, "password") | {"domainOverride": "example.com"}, None),
        ("SHELL", None, None),
        ("SHELL", SHELL | {"type": "ssh"}, "'ssh' is no type of a session"),
        ("SHELL", without(SHELL, "type"), "None is no type of a session"),
        ("SHELL", SHELL | {"type": []}, "[] is no type of a session"),
        ("SHELL", WEB, "a session of type web came where SHELL was asked for"),
        ("SHELL", without(SHELL, "sessionIdentifier"), "sessionIdentifier is missing"),
        ("SHELL", SHELL | {"sessionIdentifier": ""}, "sessionIdentifier is not a string that is not empty"),
        ("WEB", without(WEB, "redirectClientTo"), "redirectClientTo is missing"),
        ("VNC", VNC | {"url": 1}, "url is not a string that is not empty"),
        ("VNC", VNC | {"password": 1}, "password is not a string or null"),
        ("SHELL", SHELL | {"domainOverride": 1}, "domainOverride is not a string or null"),
        ("SHELL", SHELL | {"rank": "0"}, "rank is not a whole number"),
        ("SHELL", SHELL | {"rank": 1}, "the session is of rank 1, not 0"),
        ("SHELL", SHELL | {"jobId": 54112}, "jobId is not a string"),
        ("SHELL", SHELL | {"jobId": "1"}, "the session is of job 1, not 54112"),
        ("SHELL", SHELL | {"url": "/x"}, "url is a key that UCloud does not know"),
    ],
)
def test_a_session_that_is_none_is_handed_on_and_noted(
    core: SimulatedCore,
    provider: FakeProvider,
    job_id: str,
    kind: Literal["WEB", "VNC", "SHELL"],
    session: Any,
    sentence: str | None,
) -> None:
    provider.answer("jobs/interactiveSession", (200, {"responses": [session]}))
    assert core.open_session(job_id, 0, kind) == session
    call = "jobs.provider.example.openInteractiveSession"
    assert core.protocol_errors == ([] if sentence is None else [f"{call}: {sentence}"])


@pytest.mark.parametrize(
    ("era", "queries"), [(CORE_2021, ["", ""]), (CORE_2022, ["categoryId=example-compute", "categoryId=other+%26"])]
)
def test_the_load_is_asked_for_in_the_way_of_the_era(
    make_core: Callable[..., SimulatedCore], provider: FakeProvider, era: Any, queries: list[str]
) -> None:
    core = make_core(era)
    job_id = core.submit(**SLEEPER)
    provider.answer("jobs/retrieveUtilization", (200, LOAD), (200, LOAD))
    assert core.retrieve_utilization(job_id) == core.retrieve_utilization(job_id, "other &") == LOAD
    asked = provider.at("jobs/retrieveUtilization")
    assert [(seen.method, seen.query) for seen in asked] == [("GET", query) for query in queries]
    assert all("Ucloud-Username" not in seen.headers for seen in asked)
    assert core.protocol_errors == []
    with pytest.raises(CoreError, match="404"):
        core.retrieve_utilization("1")


@pytest.mark.parametrize(
    ("load", "sentence"),
    [
        (without(LOAD, "capacity"), "capacity is missing"),
        (LOAD | {"queueStatus": None}, "queueStatus is not a JSON object"),
        (LOAD | {"capacity": {"cpu": "4", "memory": 1}}, "capacity.cpu is not a number"),
        (LOAD | {"capacity": {"cpu": True, "memory": 1}}, "capacity.cpu is not a number"),
        (LOAD | {"usedCapacity": {"cpu": 4, "memory": 1.0}}, "usedCapacity.memory is not a whole number"),
        (LOAD | {"usedCapacity": {"memory": 1}}, "usedCapacity.cpu is missing"),
        (LOAD | {"queueStatus": {"running": 1.5, "pending": 0}}, "queueStatus.running is not a whole number of at least 0"),
        (LOAD | {"queueStatus": {"running": 1, "pending": -1}}, "queueStatus.pending is not a whole number of at least 0"),
        (LOAD | {"gpu": 1}, "gpu is a key that UCloud does not know"),
    ],
)
def test_a_load_that_is_none_is_handed_on_and_noted(
    core: SimulatedCore, provider: FakeProvider, job_id: str, load: Json, sentence: str
) -> None:
    provider.answer("jobs/retrieveUtilization", (200, load), (200, []))
    assert core.retrieve_utilization(job_id) == load
    call = "jobs.provider.example.retrieveUtilization"
    assert core.protocol_errors == [f"{call}: {sentence}"]
    with pytest.raises(CoreError) as unreadable:
        core.retrieve_utilization(job_id)
    assert unreadable.value.status == 502


def test_a_suspended_job_goes_on_when_it_is_asked_for_in_2022(
    make_core: Callable[..., SimulatedCore], provider: FakeProvider
) -> None:
    core = make_core(CORE_2022)
    job_id = core.submit(**SLEEPER)
    core.unsuspend(job_id, user="admin")
    (seen,) = provider.at("jobs/unsuspend")
    assert [item["job"]["id"] for item in seen.body["items"]] == [job_id]
    assert seen.headers["Ucloud-Username"] == "YWRtaW4="
    provider.answer("jobs/suspend", (200, {}))
    with pytest.raises(CoreError, match="502"):
        core.suspend(job_id)
    assert core.protocol_errors == ["jobs.provider.example.suspend: the answer is no BulkResponse"]


def test_core_of_2021_has_no_unsuspend_and_reads_no_answer_of_suspend(
    core: SimulatedCore, provider: FakeProvider, job_id: str
) -> None:
    with pytest.raises(CoreError) as missing:
        core.unsuspend(job_id)
    assert missing.value.status == 404
    assert provider.at("jobs/unsuspend") == []
    provider.answer("jobs/suspend", (200, ""))
    core.suspend(job_id)
    assert core.protocol_errors == []
