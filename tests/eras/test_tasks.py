"""Long changes of files as today's UCloud shows them: what lasts or fails is shown, and cancelled there by its own user."""

import pytest

from tests.conftest import World
from tests.sandbox.core import CoreError
from tests.sandbox.core.today.tasks import LISTED_MS, CoreTask
from ucloud_slurm.provider.tasks import LongWork, begin, work_of
from ucloud_slurm.store.tasks import Task
from ucloud_slurm.ucloud.tasks import TaskState
from ucloud_slurm.users.files import ConflictPolicy, Place, Work
from ucloud_slurm.worker.run import Result
from ucloud_slurm.worker.tasks import SHOW_SECONDS

pytestmark = pytest.mark.parametrize("era", ["today"], scope="session")
COPY = LongWork(Work.COPY, Place("/home/u", ("in.dat",)), Place("/project/p", ("results", "in.dat")), ConflictPolicy.RENAME, ())
FULL = "The quota of this folder is used up."


def begun(world: World, username: str = "user") -> Task:
    """A copy that the file unit has begun."""
    world.core.directory.add_user(username)
    begin(world.provider, username, "u", [COPY])
    now = world.clock()
    task = world.provider.tasks.claim(now, until=now + 86400, per_user=2, in_all=8)
    assert task is not None
    return task


def shown(world: World) -> CoreTask:
    """The only task that UCloud has."""
    (task,) = world.core.tasks.all()
    return task


def test_what_is_written_into_a_row_is_read_out_again(world: World) -> None:
    assert work_of(begun(world)) == COPY
    erase = LongWork(Work.ERASE, Place("/home/u", ("Trash",)), None, ConflictPolicy.REJECT, ())
    begin(world.provider, "other", "v", [erase])
    task = world.provider.tasks.claim(world.clock(), until=world.clock() + 1, per_user=2, in_all=8)
    assert task is not None
    assert (work_of(task), task.local_user, task.title) == (erase, "v", "Deleting Trash")


def test_short_work_is_not_shown(world: World) -> None:
    task = begun(world)
    world.work(4.9)
    world.provider.tasks.finish(task, TaskState.SUCCESS, "Done", world.clock())
    world.work(100)
    assert world.core.tasks.all() == []


def test_work_that_lasts_is_shown_with_its_progress_and_its_end(world: World) -> None:
    task = begun(world)
    world.provider.tasks.progress(task, "3 of 10 files", 30)
    world.work(SHOW_SECONDS)
    first = shown(world)
    assert (first.user, first.title, first.state, first.percentage) == ("user", "Copying in.dat to results", "RUNNING", 30)
    assert (first.can_cancel, first.can_pause) == (True, False)
    world.provider.tasks.progress(task, "4 of 10 files", 40)
    world.work(15)
    assert (shown(world).progress, shown(world).percentage) == ("4 of 10 files", 40)
    world.provider.tasks.finish(task, TaskState.SUCCESS, "10 files", world.clock())
    world.work(15)
    assert (shown(world).state, shown(world).progress) == ("SUCCESS", "10 files")


def test_a_failure_is_shown_with_its_reason_however_short_it_was(world: World) -> None:
    world.provider.tasks.finish(begun(world), TaskState.FAILURE, FULL, world.clock())
    world.work()
    assert (shown(world).state, shown(world).progress) == ("FAILURE", FULL)


def test_nothing_is_posted_without_a_change_but_a_task_stays_listed_while_it_runs(world: World) -> None:
    begun(world)
    world.work(SHOW_SECONDS)
    posted = len(shown(world).history)
    world.work(15)
    assert len(shown(world).history) == posted
    for _ in range(2 * LISTED_MS // 15_000):
        world.work(15)
        assert world.core.tasks.listed("user") != []
    assert len(shown(world).history) < posted + 10


def test_what_ucloud_did_not_answer_is_posted_in_a_later_pass(world: World) -> None:
    task = begun(world)
    world.core.faults.outage(True)
    assert world.work(SHOW_SECONDS) is Result.NOT_ALL
    world.provider.tasks.finish(task, TaskState.FAILURE, FULL, world.clock())
    world.core.faults.outage(False)
    assert world.work(60) is Result.DONE
    assert (shown(world).state, shown(world).progress) == ("FAILURE", FULL)


def test_a_user_whom_ucloud_does_not_know_is_no_reason_to_ask_again(world: World) -> None:
    task = begun(world, "alice")
    world.core.directory._users.discard("alice")
    world.work(SHOW_SECONDS)
    world.provider.tasks.finish(task, TaskState.FAILURE, FULL, world.clock())
    world.work(60)
    assert len([each for each in world.core.exchanges if each.call == "tasks.create"]) == 1


def test_a_task_that_ucloud_has_lost_is_left_alone(world: World) -> None:
    task = begun(world)
    world.work(SHOW_SECONDS)
    world.core.tasks.forget(shown(world).id)
    world.provider.tasks.progress(task, "4 of 10 files", 40)
    assert world.work(60) is Result.DONE
    world.provider.tasks.progress(task, "5 of 10 files", 50)
    world.work(60)
    assert len([each for each in world.core.exchanges if each.call == "tasks.postStatus"]) == 2
    assert world.provider.tasks.goes_on(task)


def test_what_its_user_cancels_is_cancelled_there_when_it_is_here(world: World) -> None:
    task = begun(world)
    world.work(SHOW_SECONDS)
    world.core.tasks.request("user", shown(world).id)
    world.core.tasks.request("user", shown(world).id)
    world.work(15)
    assert shown(world).state == "RUNNING"
    assert not world.provider.tasks.goes_on(task)
    world.provider.tasks.finish(task, TaskState.CANCELLED, "Cancelled", world.clock())
    world.work(15)
    assert shown(world).state == "CANCELLED"


@pytest.mark.parametrize("state", ["SUSPENDED", "RUNNING", "", "cancelled"])
def test_nothing_is_paused(world: World, state: str) -> None:
    task = begun(world)
    world.work(SHOW_SECONDS)
    with pytest.raises(CoreError, match="cannot be paused") as refused:
        world.core.tasks.request("user", shown(world).id, state)
    assert refused.value.status == 400
    assert world.provider.tasks.goes_on(task)


def test_nobody_cancels_the_task_of_another_user(world: World) -> None:
    task = begun(world)
    world.work(SHOW_SECONDS)
    path, body = "/ucloud/example/tasks/pauseOrCancel", {"id": shown(world).id, "requestedState": "CANCELLED"}
    assert world.core.call("POST", path, body, user="other")[0] == 404
    assert world.core.call("POST", path, body)[0] == 404
    assert world.core.call("POST", path, body | {"id": 1}, user="user")[0] == 404
    assert world.core.call("POST", path, body, user="user", token=None)[0] == 401
    assert world.provider.tasks.goes_on(task)


def test_names_of_files_never_end_ucloud(world: World) -> None:
    names = ("a\0b", "\ud800", "x" * 255, "\n\r\t", "ü" * 127)
    begin(
        world.provider,
        "user",
        "u",
        [LongWork(Work.COPY, Place("/", (name,)), Place("/", (name, name)), ConflictPolicy.RENAME, ()) for name in names],
    )
    world.core.directory.add_user("user")
    world.work(SHOW_SECONDS)
    assert len(world.core.tasks.all()) == len(names)
    assert world.core.ended is None


def test_old_tasks_are_deleted(world: World) -> None:
    task = begun(world)
    world.provider.tasks.finish(task, TaskState.SUCCESS, "Done", world.clock())
    world.work(89 * 86400)
    assert world.provider.tasks.of(task.id) is not None
    world.work(2 * 86400)
    assert world.provider.tasks.of(task.id) is None
