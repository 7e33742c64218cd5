"""Long changes of files: each is done by one process at a time, no user waits for another, and UCloud shows them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ucloud_slurm.errors import TooMany
from ucloud_slurm.store.sqlite import Store
from ucloud_slurm.store.tasks import MOST_OPEN_PER_USER, NewTask, Task, Tasks
from ucloud_slurm.ucloud.tasks import TaskState

LEASE = 60.0


@pytest.fixture
def tasks(tmp_path: Path) -> Iterator[Tasks]:
    store = Store(tmp_path / "database.sqlite")
    yield Tasks(store)
    store.close()


def new(username: str = "alice", title: str = "Copying a to b") -> NewTask:
    return NewTask("copy", username, f"unix-{username}", "{}", title)


def claim(tasks: Tasks, now: float, per_user: int = 2, in_all: int = 8) -> Task | None:
    return tasks.claim(now, until=now + LEASE, per_user=per_user, in_all=in_all)


def claimed(tasks: Tasks, now: float, per_user: int = 2, in_all: int = 8) -> Task:
    task = claim(tasks, now, per_user, in_all)
    assert task is not None
    return task


def failed(tasks: Tasks, now: float = 0.0) -> Task:
    """A task that UCloud must show."""
    tasks.add([new()], now)
    task = claimed(tasks, now)
    assert tasks.finish(task, TaskState.FAILURE, "No space is left.", now)
    (found,) = tasks.to_create(now, 10)
    return found


def shown(tasks: Tasks, task_id: int = 815, now: float = 0.0) -> Task:
    """A task that runs, and that UCloud shows as it is."""
    tasks.add([new()], now)
    task = claimed(tasks, now)
    tasks.created(task, task_id, now)
    tasks.posted(task, now)
    return task


def test_a_task_is_done_by_one_process_at_a_time(tasks: Tasks) -> None:
    tasks.add([new()], 0.0)
    first = claimed(tasks, 1.0)
    assert first.state is TaskState.RUNNING
    assert claim(tasks, 1.0 + LEASE - 0.1) is None


def test_a_task_begins_again_when_its_process_died_and_the_outcome_of_the_first_does_not_count(tasks: Tasks) -> None:
    tasks.add([new()], 0.0)
    first = claimed(tasks, 1.0)
    second = claimed(tasks, 1.0 + LEASE)
    assert (second.id, second.key, second.attempts) == (first.id, first.key, 2)
    tasks.progress(first, "of the first", 50)
    assert not tasks.renew(first, 1000.0)
    assert not tasks.goes_on(first)
    assert not tasks.finish(first, TaskState.SUCCESS, "Done", 70.0)
    assert tasks.of(first.id) == second
    assert tasks.finish(second, TaskState.SUCCESS, "Done", 71.0)


def test_a_process_that_stops_leaves_its_task_to_the_next_at_once(tasks: Tasks) -> None:
    tasks.add([new()], 0.0)
    first = claimed(tasks, 1.0)
    tasks.release(first)
    assert claimed(tasks, 1.0).attempts == 2


def test_a_renewed_lease_holds_the_task(tasks: Tasks) -> None:
    tasks.add([new()], 0.0)
    first = claimed(tasks, 1.0)
    assert tasks.renew(first, 500.0)
    assert claim(tasks, 499.0) is None


def test_no_user_waits_for_all_the_work_of_another(tasks: Tasks) -> None:
    tasks.add([new("alice") for _ in range(9)], 0.0)
    tasks.add([new("bob"), new("bob")], 1.0)
    assert [claimed(tasks, 2.0 + number).username for number in range(4)] == ["alice", "bob", "alice", "bob"]
    assert claim(tasks, 7.0) is None  # two of each are under way


def test_users_take_the_only_place_one_after_another(tasks: Tasks) -> None:
    for name in ("alice", "bob", "carol"):
        tasks.add([new(name) for _ in range(3)], 0.0)
    served = []
    for number in range(6):
        task = claimed(tasks, float(number), in_all=1)
        served.append(task.username)
        tasks.finish(task, TaskState.SUCCESS, "Done", float(number))
    assert served == ["alice", "bob", "carol"] * 2


def test_so_many_are_done_at_a_time_in_all(tasks: Tasks) -> None:
    tasks.add([new(f"user-{number}") for number in range(5)], 0.0)
    assert [claim(tasks, 1.0, in_all=3) is not None for _ in range(4)] == [True, True, True, False]


def test_all_or_none_of_a_call_is_written_and_a_user_has_a_bounded_number_of_them(tasks: Tasks) -> None:
    tasks.add([new() for _ in range(MOST_OPEN_PER_USER - 1)], 0.0)
    with pytest.raises(TooMany, match="999 changes of files under way"):
        tasks.add([new("bob"), new(), new()], 0.0)
    assert {task.username for task in tasks.to_create(0.0, 10_000)} == {"alice"}
    tasks.add([new()], 0.0)


def test_short_work_that_succeeds_is_never_shown(tasks: Tasks) -> None:
    tasks.add([new()], 0.0)
    task = claimed(tasks, 0.0)
    assert tasks.to_create(-5.0, 10) == []  # it is too young
    assert [found.id for found in tasks.to_create(0.0, 10)] == [task.id]
    tasks.finish(task, TaskState.SUCCESS, "Done", 1.0)
    assert tasks.to_create(1000.0, 10) == []


def test_a_failure_is_shown_however_short_it_was(tasks: Tasks) -> None:
    task = failed(tasks)
    assert (task.status.state, task.status.progress) == (TaskState.FAILURE, "No space is left.")
    tasks.created(task, 815, 1.0)
    assert [found.status for found in tasks.to_post(-1000.0, 10)] == [task.status]
    tasks.posted(task, 1.0)
    assert (tasks.to_create(2.0, 10), tasks.to_post(1000.0, 10)) == ([], [])


def test_what_ends_while_ucloud_makes_the_task_is_posted(tasks: Tasks) -> None:
    tasks.add([new()], 0.0)
    task = claimed(tasks, 0.0)
    (read,) = tasks.to_create(0.0, 10)
    tasks.finish(task, TaskState.SUCCESS, "Done", 1.0)
    tasks.created(read, 815, 1.0)
    assert [found.state for found in tasks.to_post(-1000.0, 10)] == [TaskState.SUCCESS]


def test_what_changes_while_a_status_is_posted_is_posted_afterwards(tasks: Tasks) -> None:
    task = shown(tasks)
    tasks.progress(task, "1 of 3 files", 33)
    (read,) = tasks.to_post(-1000.0, 10)
    tasks.progress(task, "2 of 3 files", 66)
    tasks.posted(read, 1.0)
    assert [found.progress for found in tasks.to_post(-1000.0, 10)] == ["2 of 3 files"]


def test_a_status_without_a_change_is_posted_again_before_ucloud_lists_the_task_no_more(tasks: Tasks) -> None:
    task = shown(tasks)
    tasks.progress(task, "Starting", None)  # nothing new
    assert tasks.to_post(-1.0, 10) == []
    assert [found.id for found in tasks.to_post(0.0, 10)] == [task.id]


def test_nothing_more_is_reported_of_what_ucloud_refused(tasks: Tasks) -> None:
    task = failed(tasks)
    tasks.refused(task, "Not found")
    assert (tasks.to_create(1000.0, 10), tasks.to_post(1000.0, 10)) == ([], [])


def test_a_task_that_waits_is_cancelled_at_once(tasks: Tasks) -> None:
    tasks.add([new()], 0.0)
    (read,) = tasks.to_create(0.0, 10)
    tasks.created(read, 815, 1.0)
    found = tasks.cancel(815, "alice", 2.0)
    assert found is not None
    assert (found.state, found.ended_at) == (TaskState.CANCELLED, 2.0)
    assert claim(tasks, 3.0) is None


def test_a_task_that_runs_is_cancelled_by_its_process(tasks: Tasks) -> None:
    task = shown(tasks)
    assert tasks.goes_on(task)
    found = tasks.cancel(815, "alice", 2.0)
    assert found is not None
    assert found.state is TaskState.RUNNING
    assert not tasks.goes_on(task)
    assert not tasks.renew(task, 1000.0)
    assert tasks.finish(task, TaskState.CANCELLED, "Cancelled", 3.0)


def test_a_cancelled_task_whose_process_died_does_not_begin_again(tasks: Tasks) -> None:
    task = shown(tasks)
    tasks.cancel(815, "alice", 2.0)
    assert claim(tasks, LEASE + 1.0) is None
    found = tasks.of(task.id)
    assert found is not None
    assert found.state is TaskState.CANCELLED


def test_only_its_own_user_cancels_a_task_and_what_has_ended_stays(tasks: Tasks) -> None:
    task = shown(tasks)
    assert tasks.cancel(815, "bob", 2.0) is None
    assert tasks.cancel(816, "alice", 2.0) is None
    assert tasks.goes_on(task)
    tasks.finish(task, TaskState.SUCCESS, "Done", 3.0)
    found = tasks.cancel(815, "alice", 4.0)
    assert found is not None
    assert (found.state, found.ended_at) == (TaskState.SUCCESS, 3.0)


def test_after_a_restore_nothing_is_begun_again_and_users_read_why(tasks: Tasks) -> None:
    task = shown(tasks)
    tasks.add([new("bob")], 0.0)
    tasks.give_up(1.0)
    assert claim(tasks, 1000.0) is None
    assert not tasks.finish(task, TaskState.SUCCESS, "Done", 2.0)
    found = [*tasks.to_post(-1000.0, 10), *tasks.to_create(-1000.0, 10)]
    assert [(each.username, each.state) for each in found] == [("alice", TaskState.FAILURE), ("bob", TaskState.FAILURE)]
    assert "restored" in found[0].progress
