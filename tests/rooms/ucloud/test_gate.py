"""Whatever a request is made of, UCloud survives it: it is cleaned, or it is not sent. And there is no other way out."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ucloud_slurm
from tests.conftest import World
from tests.support.source import parsed
from ucloud_slurm.store.outbox import MessageOutcome
from ucloud_slurm.ucloud import gate
from ucloud_slurm.ucloud.gate import (
    MAX_INT4,
    MAX_NAME_BYTES,
    MAX_TEXT_CHARACTERS,
    Call,
    Cleared,
    DriveRegistration,
    GateRefusedError,
    JobRegistration,
    NamedProject,
    NamedUser,
    RegisteredProduct,
    Request,
    admit,
)
from ucloud_slurm.ucloud.reports import Charge, JobState, JobUpdate, Usage
from ucloud_slurm.worker.run import Result

BAD = ("a\0b", "\0", "a\ud800b", "\udfff", "x" * (MAX_NAME_BYTES + 1), "ø" * (MAX_NAME_BYTES // 2 + 1))
USAGE = Usage("Ada#1", None, "example-compute", "example", "example/example-compute/job/1", 7).body()
UPDATE = JobUpdate(JobState.RUNNING, "It runs.", 3_600_000, "/1/jobs/7").body("7")
CHARGE = Charge("7-1", "7", 1, 1, "Slurm job 7").body()
PRODUCT = {
    "type": "compute",
    "category": {"name": "example-compute", "provider": "example", "accountingUnit": {"name": "Core", "floatingPoint": False}},
    "name": "example-compute-1",
    "description": "A machine",
    "cpu": 4,
    "memoryInGigs": 16,
    "gpu": 0,
    "cpuModel": "Epyc",
}
STATUS = {"state": "RUNNING", "title": "Copying", "body": "", "progress": "1 of 2", "progressPercentage": 50}
BODIES: list[tuple[Call, dict[str, Any]]] = [
    (Call.UPDATE, {"items": [UPDATE]}),
    (Call.REPORT_USAGE, {"items": [USAGE]}),
    (Call.CHARGE, {"items": [CHARGE]}),
    (Call.CREATE_PRODUCTS_V2, {"items": [PRODUCT]}),
    (Call.CHECK_EXISTENCE, {"items": [{"type": "job", "id": "7"}]}),
    (Call.REFRESH, {"items": [{"refreshToken": "abc"}]}),
    (Call.POST_TASK_STATUS, {"update": {"taskId": 815, "newStatus": STATUS}}),
]
PROSE = {"title", "body", "progress", "status", "outputFolder", "description", "cpuModel"}


def texts(data: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where the texts of a body are."""
    if isinstance(data, str):
        yield path
    for key, item in data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ():
        yield from texts(item, (*path, key))


def put(data: Any, path: tuple[str | int, ...], value: Any) -> Any:
    """A copy with another value at a place."""
    if not path:
        return value
    copied: Any = list(data) if isinstance(data, list) else dict(data)
    copied[path[0]] = put(copied[path[0]], path[1:], value)
    return copied


PLACES = [(call, body, path) for call, body in BODIES for path in texts(body)]


def ids(value: object) -> str | None:
    return ".".join(map(str, value)) if isinstance(value, tuple) else None


@pytest.mark.parametrize(("call", "body", "path"), PLACES, ids=ids)
@pytest.mark.parametrize("bad", BAD, ids=repr)
def test_a_text_that_ucloud_cannot_store_is_cleaned_where_people_read_it_and_refused_elsewhere(
    call: Call, body: dict[str, Any], path: tuple[str | int, ...], bad: str
) -> None:
    if path[-1] not in PROSE:
        with pytest.raises(GateRefusedError, match=str(path[-1])):
            admit(call, body=put(body, path, bad))
        return
    sent = json.loads(admit(call, body=put(body, path, bad)).content or b"")
    for key in path:
        sent = sent[key]
    assert "\0" not in sent
    assert len(sent.encode()) <= 4 * MAX_TEXT_CHARACTERS


@given(st.text(st.characters(), max_size=50), st.sampled_from(PLACES))
def test_whatever_a_text_is_what_is_sent_can_be_stored(text: str, place: tuple[Call, dict[str, Any], Any]) -> None:
    call, body, path = place
    try:
        content = admit(call, body=put(body, path, text)).content or b""
    except GateRefusedError:
        return
    sent = json.loads(content)
    for where in texts(sent):
        value: Any = sent
        for key in where:
            value = value[key]
        assert "\0" not in value.encode().decode()


def test_what_is_sound_is_sent_as_it_is() -> None:
    for call, body in BODIES:
        assert json.loads(admit(call, body=body).content or b"") == body
    assert gate.clean("Ærø, 日本, 🙂 and a new\nline") == "Ærø, 日本, 🙂 and a new\nline"


def test_a_long_text_is_cut_and_says_so() -> None:
    assert gate.clean("x" * 20_000) == "x" * (MAX_TEXT_CHARACTERS - 1) + "…"


@pytest.mark.parametrize(
    ("call", "body", "path", "number"),
    [
        (Call.REPORT_USAGE, {"items": [USAGE]}, ("items", 0, "usage"), -1),
        (Call.REPORT_USAGE, {"items": [USAGE]}, ("items", 0, "usage"), 2**63),
        (Call.REPORT_USAGE, {"items": [USAGE]}, ("items", 0, "usage"), 1.5),
        (Call.UPDATE, {"items": [UPDATE]}, ("items", 0, "update", "newTimeAllocation"), -60_000),
        (Call.UPDATE, {"items": [UPDATE]}, ("items", 0, "update", "newTimeAllocation"), 2**60),
        (Call.CHARGE, {"items": [CHARGE]}, ("items", 0, "units"), 2**63),
        (Call.CREATE_PRODUCTS_V2, {"items": [PRODUCT]}, ("items", 0, "cpu"), 2**31),
    ],
)
def test_a_number_that_no_column_holds_is_not_sent(call: Call, body: Any, path: tuple[str | int, ...], number: Any) -> None:
    with pytest.raises(GateRefusedError):
        admit(call, body=put(body, path, number))


@pytest.mark.parametrize("replicas", [0, MAX_INT4 + 1])
def test_a_job_of_more_nodes_than_a_column_holds_is_not_registered(replicas: int) -> None:
    with pytest.raises(GateRefusedError, match="replicas"):
        gate.registration([JobRegistration("k", NamedUser("Ada#1"), None, {"replicas": replicas})])


@pytest.mark.parametrize(
    "body",
    [
        {"items": [{**USAGE, "owner": {"type": "user", "username": ""}}]},
        {"items": [{**USAGE, "owner": {"type": "project", "projectId": ""}}]},
        {"items": [USAGE] * 1001},
    ],
)
def test_an_owner_without_a_name_and_a_bulk_that_is_too_long_are_not_sent(body: dict[str, Any]) -> None:
    with pytest.raises(GateRefusedError):
        admit(Call.REPORT_USAGE, body=body)


def test_a_query_with_a_nul_is_not_sent() -> None:
    with pytest.raises(GateRefusedError, match="filterName"):
        admit(Call.RETRIEVE_PRODUCT, query={"filterName": "a\0b"})


def test_a_registration_names_owner_and_project() -> None:
    owner, project = NamedUser("Ada#1"), NamedProject("p-1")
    content = gate.registration([JobRegistration("k", owner, project, {"name": "a\0"})]).content or b""
    assert json.loads(content)["items"] == [
        {"spec": {"name": "a"}, "providerGeneratedId": "k", "createdBy": "Ada#1", "project": "p-1"}
    ]
    with pytest.raises(GateRefusedError, match="project: is empty"):
        gate.registration([JobRegistration("k", owner, NamedProject(""), {})])


DRIVE = DriveRegistration(
    "h-example/home/Ada#1", "Home", RegisteredProduct("home", "storage", "example"), NamedUser("Ada#1"), None, writable=True
)


def test_a_drive_is_registered_for_its_owner_or_for_all_of_a_project() -> None:
    (own,) = json.loads(gate.drive_registration(DRIVE).content or b"")["items"]
    assert own == {
        "spec": {"title": "Home", "product": {"id": "home", "category": "storage", "provider": "example"}, "labels": None},
        "providerGeneratedId": "h-example/home/Ada#1",
        "createdBy": "Ada#1",
        "project": None,
        "projectAllRead": False,
        "projectAllWrite": False,
    }
    shared = DRIVE._replace(owner=None, project=NamedProject("p-1"))
    for drive, writable in ((shared, True), (shared._replace(writable=False), False)):
        (item,) = json.loads(gate.drive_registration(drive).content or b"")["items"]
        flags = item["projectAllRead"], item["projectAllWrite"]
        assert (item["createdBy"], item["project"], *flags) == (None, "p-1", True, writable)


@pytest.mark.parametrize(
    "changes",
    [
        {"title": ""},
        {"title": "x" * 4097},
        {"title": "a\nb"},
        {"title": "a\0b"},
        {"key": ""},
        {"key": "a,b"},
        {"key": "a\0b"},
        {"key": "x" * (MAX_NAME_BYTES + 1)},
        {"owner": None},
        {"owner": NamedUser("")},
        {"owner": NamedUser("x" * (MAX_NAME_BYTES + 1))},
        {"project": NamedProject("")},
        {"product": RegisteredProduct("a\0", "storage", "example")},
    ],
)
def test_a_drive_that_ucloud_may_not_survive_is_not_registered(changes: dict[str, Any]) -> None:
    with pytest.raises(GateRefusedError):
        gate.drive_registration(DRIVE._replace(**changes))


def test_a_clearing_is_good_for_one_approval() -> None:
    cleared = Cleared(gate.clearing(NamedUser("Ada#1")))
    assert json.loads(gate.approval(cleared).content or b"") == {"username": "Ada#1"}
    with pytest.raises(GateRefusedError):
        gate.approval(cleared)


def test_a_task_has_a_user_and_an_icon_that_a_column_holds() -> None:
    body = json.loads(gate.task_creation(NamedUser("u"), "a\0b", "c\ud800", icon="i" * 64).content or b"")
    assert (body["user"], body["title"], body["progress"], body["canCancel"]) == ("u", "ab", "c\ufffd", True)
    for user, icon in (("u", "i" * 65), ("u", "a\0b"), ("", "i"), ("a\0b", "i")):
        with pytest.raises(GateRefusedError):
            gate.task_creation(NamedUser(user), "title", "progress", icon=icon)


def test_nobody_else_makes_a_request() -> None:
    with pytest.raises(TypeError):
        Request(object(), "POST", "/", {}, None)  # type: ignore[arg-type]


def users_of(*names: str) -> set[tuple[str, str]]:
    """Which modules call or read any of these names."""
    found, house = set(), Path(ucloud_slurm.__file__).parent
    for path in house.rglob("*.py"):
        for node in ast.walk(parsed(path)):
            match node:
                case ast.Call(func=ast.Name(id=name)) | ast.Attribute(attr=name) if name in names:
                    found.add((str(path.relative_to(house)), name))
    return found


def test_there_is_no_way_round_the_gate() -> None:
    assert {path for path, _ in users_of("_Key", "_KEY", "Clearing")} == {"ucloud/gate.py"}
    assert users_of("Cleared") == {("ucloud/core.py", "Cleared")}
    assert {path for path, _ in users_of("_http")} == {"ucloud/client.py"}
    named = {path for path, _ in users_of("NamedUser", "NamedProject")}
    assert named == {"store/people.py", "store/tasks.py", "store/wallets.py", "worker/external_jobs.py"}
    assert users_of("RegisteredProduct") == {("ucloud/core.py", "RegisteredProduct")}


# -- the outbox ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("era", ["2021", "today"], scope="session")
def test_what_is_not_sent_is_parked_and_the_rest_goes_on(world: World) -> None:
    first, second = world.submit(), world.submit()
    world.work(1)
    body = JobUpdate(JobState.RUNNING, "x").body("x" * (MAX_NAME_BYTES + 1))
    world.provider.outbox.enqueue(first, "update", body, world.clock())
    world.model.begin_run(world.slurm(second))
    assert world.work(1) is Result.DONE
    assert world.told(second) == ["RUNNING"]
    (parked,) = [each for each in world.provider.outbox.of(first) if each.outcome == MessageOutcome.PARKED]
    assert parked.answer is not None
    assert parked.answer.startswith("not sent to UCloud: items[0].id: ")


@pytest.mark.parametrize("era", ["today"], scope="session")
@pytest.mark.parametrize("field", ["owner", "project"])
@pytest.mark.parametrize("text", ["a\0b", "x" * 2000, ""], ids=["NUL", "long", "empty"])
def test_whatever_a_database_says_of_a_job_ucloud_survives_it(world: World, field: str, text: str) -> None:
    job = world.submit()
    world.model.begin_run(world.slurm(job))
    world.work(1)
    world.provider.store.change(f"update jobs set {field} = ? where id = ?", [text, job])
    world.model.end(world.slurm(job))
    world.work(600)
    assert world.told(job)[-1] == "SUCCESS"
