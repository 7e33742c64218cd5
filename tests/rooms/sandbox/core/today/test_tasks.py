"""Tasks at the simulated Core of today: listed while they change, and as deadly for it as at UCloud."""

from typing import Any

import pytest

from tests.conftest import Clock
from tests.rooms.sandbox.core.conftest import FakeProvider, Json
from tests.rooms.sandbox.core.today.conftest import Provider
from tests.sandbox.core import CoreError, SimulatedCore

CREATE, POST = "/api/tasks", "/api/tasks/postStatus"


def new(**more: Any) -> Json:
    task = {"user": "user", "title": "Copying a to b", "body": "", "progress": "Waiting", "icon": "copy"}
    return task | {"canPause": False, "canCancel": True} | more


def status(task_id: int, **more: Any) -> Json:
    new_status = {"state": "RUNNING", "title": "Copying a to b", "body": "", "progress": "1 of 2", "progressPercentage": 50}
    return {"update": {"taskId": task_id, "newStatus": new_status | more}}


@pytest.fixture
def task_id(core: SimulatedCore, client: Provider) -> int:
    core.directory.add_user("user")
    answer = client.post(CREATE, new())
    assert answer.status_code == 200, answer.text
    return int(answer.json()["taskId"])


def complaints(core: SimulatedCore) -> str:
    """What was complained of, which is forgotten."""
    found = " ".join(core.protocol_errors)
    core._complaints._protocol_errors.clear()
    return found


def test_a_task_waits_runs_and_ends(core: SimulatedCore, client: Provider, task_id: int) -> None:
    assert core.tasks.get(task_id).state == "IN_QUEUE"
    assert client.post(POST, status(task_id)).json() == {}
    assert (core.tasks.get(task_id).state, core.tasks.get(task_id).percentage) == ("RUNNING", 50)
    client.post("/api/tasks/markAsComplete", {"id": task_id})
    assert (core.tasks.get(task_id).state, core.tasks.get(task_id).progress) == ("SUCCESS", "1 of 2")
    assert core.tasks.get(task_id).history == ("IN_QUEUE", "RUNNING", "SUCCESS")


def test_a_task_is_listed_for_five_minutes_after_its_last_change(
    core: SimulatedCore, client: Provider, task_id: int, clock: Clock
) -> None:
    clock.advance(299)
    assert [task.id for task in core.tasks.listed("user")] == [task_id]
    assert core.tasks.listed("other") == []
    client.post(POST, status(task_id))
    clock.advance(299)
    assert [task.id for task in core.tasks.listed("user")] == [task_id]
    clock.advance(2)
    assert core.tasks.listed("user") == []


def test_unknown_users_and_tasks_are_not_found(core: SimulatedCore, client: Provider, task_id: int) -> None:
    assert client.post(CREATE, new(user="nobody")).status_code == 404
    assert client.post(POST, status(task_id + 1)).status_code == 404
    assert client.post("/api/tasks/markAsComplete", {"id": 1}).status_code == 404
    assert core.protocol_errors == []


@pytest.mark.parametrize("wrong", [{"icon": "x" * 65}, {"title": "a\0b"}, {"icon": "a\0b"}], ids=["icon", "title", "NUL"])
def test_what_its_table_does_not_hold_ends_core(core: SimulatedCore, client: Provider, task_id: int, wrong: Json) -> None:
    with pytest.raises(OSError):  # noqa: PT011
        client.post(CREATE, new(**wrong))
    assert core.ended is not None
    core._complaints._ended = None
    complaints(core)


def test_a_time_that_is_null_is_refused(core: SimulatedCore, client: Provider, task_id: int) -> None:
    assert client.post(POST, status(task_id, modifiedAt=None)).status_code == 400
    assert client.post(POST, status(task_id, progressPercentage=1.5)).status_code == 400
    complaints(core)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"state": "DONE"}, "no state"),
        ({"title": None}, "without a title"),
        ({"progressPercentage": 101}, "101 percent"),
        ({"state": "FAILURE", "progress": ""}, "does not read why"),
    ],
)
def test_a_status_that_users_cannot_understand_is_complained_of(
    core: SimulatedCore, client: Provider, task_id: int, changes: Json, why: str
) -> None:
    assert client.post(POST, status(task_id, **changes)).status_code == 200
    assert why in complaints(core)


def test_a_task_that_has_ended_does_not_go_on(core: SimulatedCore, client: Provider, task_id: int) -> None:
    client.post(POST, status(task_id, state="SUCCESS"))
    client.post(POST, status(task_id, state="SUCCESS"))
    assert complaints(core) == ""
    client.post(POST, status(task_id))
    assert "has ended" in complaints(core)


def test_only_its_own_user_cancels_a_task_and_core_changes_nothing(
    core: SimulatedCore, client: Provider, task_id: int, provider: FakeProvider
) -> None:
    with pytest.raises(CoreError, match="Not found"):
        core.tasks.request("other", task_id)
    provider.answer("tasks/pauseOrCancel", (200, {}))
    core.tasks.request("user", task_id)
    (seen,) = provider.at("tasks/pauseOrCancel")
    assert seen.body == {"id": task_id, "requestedState": "CANCELLED"}
    assert core.tasks.get(task_id).state == "IN_QUEUE"
