"""The runner of long changes of files: each is done as its user, once, until it ends or its user wants no more of it."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from tests.conftest import Clock, Open
from tests.sandbox.processes import wait_until
from tests.support.database import mark_restored
from ucloud_slurm.errors import Problem, StorageError
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.tasks import LongWork, begin
from ucloud_slurm.store.tasks import Task
from ucloud_slurm.transfer import tasks as module
from ucloud_slurm.transfer.tasks import ATTEMPTS, INTERRUPTED, LEASE_SECONDS, TaskRunner
from ucloud_slurm.ucloud.tasks import TaskState
from ucloud_slurm.users.files import ConflictPolicy, Place, Work
from ucloud_slurm.users.impersonation import ImpersonationDeniedError, RunnerUnavailableError


@pytest.fixture
def provider(open_provider: Open) -> Provider:
    return open_provider()


@pytest.fixture
def runner(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> Iterator[TaskRunner]:
    """A runner that looks all the time."""
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(module, "WRITE_SECONDS", 0.0)
    runner = TaskRunner(provider)
    yield runner
    runner.stop()


def begun(provider: Provider, source: Place, target: Place | None = None, verb: Work = Work.COPY, number: int = 1) -> None:
    """A user asks for it."""
    begin(provider, "user", provider.account, [LongWork(verb, source, target, ConflictPolicy.RENAME, ())] * number)


def of(provider: Provider, number: int = 1) -> Task:
    """A task of the table."""
    task = provider.tasks.of(number)
    assert task is not None
    return task


class Works:
    """Works whose processes are led by the test. It is in the place of the files of all users."""

    def __init__(self) -> None:
        self.theirs: list[socket.socket] = []
        self.ours: list[socket.socket] = []
        self.keys: list[str] = []
        self.problems: list[Exception] = []

    def __call__(self, _user: str) -> "Works":
        return self

    def work(self, *_: object, key: str) -> socket.socket:
        if self.problems:
            raise self.problems.pop(0)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.keys.append(key)
        self.ours.append(ours)
        self.theirs.append(theirs)
        return ours

    def say(self, number: int = 0, **packet: object) -> None:
        """The process of a work says something."""
        wait_until("it has begun", lambda: len(self.theirs) > number, seconds=10)
        self.theirs[number].send(json.dumps({"entries": 0, "bytes": 0} | packet).encode())

    def is_wanted(self, number: int = 0) -> bool:
        """Whether the other end of its socket is open."""
        try:
            return self.theirs[number].recv(1, socket.MSG_DONTWAIT) != b""
        except BlockingIOError:
            return True
        except ConnectionResetError:  # it was closed before it had read all
            return False

    def close(self) -> None:
        for one in (*self.theirs, *self.ours):
            one.close()


@pytest.fixture
def works(mocker: MockerFixture) -> Iterator[Works]:
    works = Works()
    mocker.patch.object(Provider, "files", works)
    yield works
    works.close()


HOME = Place("/home/u", ("a",))


# -- as it is -----------------------------------------------------------------------------------------------------


def test_a_folder_is_copied_and_its_user_reads_how_much_it_was(provider: Provider, runner: TaskRunner, tmp_path: Path) -> None:
    root = tmp_path / "drive"
    (root / "in/deep").mkdir(parents=True)
    (root / "in/deep/data").write_bytes(b"x" * 2_500_000)
    begun(provider, Place(str(root), ("in",)), Place(str(root), ("out",)))
    assert runner.run_once() == 1
    assert (root / "out/deep/data").read_bytes() == b"x" * 2_500_000
    assert (of(provider).state, of(provider).progress) == (TaskState.SUCCESS, "3 entries (2.5 MB) copied")


def test_the_trash_is_emptied_and_nothing_else(provider: Provider, runner: TaskRunner, tmp_path: Path) -> None:
    (tmp_path / "Trash/old").mkdir(parents=True)
    (tmp_path / "kept").touch()
    begun(provider, Place(str(tmp_path), ("Trash",)), verb=Work.ERASE)
    begun(provider, Place(str(tmp_path), ("kept",)), verb=Work.ERASE)
    assert runner.run_once() == 2
    assert (tmp_path / "kept").exists()
    assert not (tmp_path / "Trash/old").exists()
    assert [of(provider, number).state for number in (1, 2)] == [TaskState.SUCCESS, TaskState.FAILURE]


def test_what_is_not_there_is_a_failure_in_a_sentence(provider: Provider, runner: TaskRunner, tmp_path: Path) -> None:
    begun(provider, Place(str(tmp_path), ("gone",)), Place(str(tmp_path), ("out",)))
    runner.run_once()
    assert (of(provider).state, of(provider).progress) == (TaskState.FAILURE, '"/gone" does not exist.')


# -- one process, one lease, one user -----------------------------------------------------------------------------


def test_progress_is_written_while_it_goes_on(provider: Provider, runner: TaskRunner, works: Works) -> None:
    begun(provider, HOME, HOME)
    runner.start()
    works.say(entries=7, bytes=1500)
    wait_until("it is written", lambda: of(provider).progress == "7 entries (1.5 kB)", seconds=10)
    works.say(entries=8, bytes=3_200_000_000, name="a", skipped=0)
    wait_until("it has ended", lambda: of(provider).ended_at is not None, seconds=10)
    assert (of(provider).state, of(provider).progress) == (TaskState.SUCCESS, "8 entries (3.2 GB) copied")


def test_what_was_left_out_is_a_failure_that_its_user_reads(provider: Provider, runner: TaskRunner, works: Works) -> None:
    begun(provider, HOME, HOME)
    runner.start()
    works.say(entries=7, name="a", skipped=2)
    wait_until("it has ended", lambda: of(provider).ended_at is not None, seconds=10)
    assert of(provider).state is TaskState.FAILURE
    assert of(provider).progress.startswith("7 entries copied; 2 left out")


def test_a_cancelled_task_ends_its_process(provider: Provider, runner: TaskRunner, works: Works) -> None:
    begun(provider, HOME, HOME)
    runner.start()
    works.say(entries=1)
    provider.tasks.created(of(provider), 815, 0.0)
    provider.tasks.cancel(815, "user", provider.now())
    wait_until("it has ended", lambda: of(provider).state is TaskState.CANCELLED, seconds=10)
    assert not works.is_wanted()


def test_the_end_counts_though_it_was_cancelled_meanwhile(provider: Provider, runner: TaskRunner, works: Works) -> None:
    begun(provider, HOME, HOME)
    provider.tasks.created(of(provider), 815, 0.0)
    begin_work = works.work

    def ended_at_once(*arguments: object, key: str) -> socket.socket:
        channel = begin_work(*arguments, key=key)
        works.say(entries=1, name="a", skipped=0)
        provider.tasks.cancel(815, "user", provider.now())
        return channel

    works.work = ended_at_once  # type: ignore[method-assign]
    runner.run_once()
    assert of(provider).state is TaskState.SUCCESS


def test_so_many_are_done_at_a_time(provider: Provider, runner: TaskRunner, works: Works) -> None:
    for number in range(6):
        begin(provider, f"user-{number}", "u", [LongWork(Work.COPY, HOME, HOME, ConflictPolicy.RENAME, ())] * 3)
    runner.start()
    wait_until("some have begun", lambda: len(works.theirs) == module.AT_ONCE, seconds=10)
    works.say(3, name="a", skipped=0)
    wait_until("another has begun", lambda: len(works.theirs) == module.AT_ONCE + 1, seconds=10)
    assert [of(provider, number).state for number in range(1, 19)].count(TaskState.RUNNING) == module.AT_ONCE


def test_one_user_never_has_all_places(provider: Provider, runner: TaskRunner, works: Works) -> None:
    begun(provider, HOME, HOME, number=4)
    runner.start()
    wait_until("some have begun", lambda: len(works.theirs) == module.AT_ONCE_PER_USER, seconds=10)
    begin(provider, "other", "u", [LongWork(Work.COPY, HOME, HOME, ConflictPolicy.RENAME, ())])
    wait_until("that of the other user has begun", lambda: of(provider, 5).state is TaskState.RUNNING, seconds=10)
    assert [of(provider, number).state for number in range(1, 5)].count(TaskState.RUNNING) == module.AT_ONCE_PER_USER


def test_a_stop_ends_the_processes_and_the_next_one_begins_again_with_the_same_key(
    provider: Provider, runner: TaskRunner, works: Works
) -> None:
    begun(provider, HOME, HOME)
    runner.start()
    works.say(entries=1)
    runner.stop()
    assert not works.is_wanted()
    assert (of(provider).ended_at, of(provider).lease_until) == (None, None)
    second = TaskRunner(provider)
    second.start()
    works.say(1, name="a", skipped=0)
    wait_until("it has ended", lambda: of(provider).ended_at is not None, seconds=10)
    second.stop()
    assert (of(provider).attempts, works.keys[0]) == (2, works.keys[1])


def test_a_process_that_ends_without_a_result_is_begun_again_when_the_lease_is_over(
    provider: Provider, runner: TaskRunner, works: Works, clock: Clock
) -> None:
    begun(provider, HOME, HOME)
    begin_work = works.work

    def dies(*arguments: object, key: str) -> socket.socket:
        channel = begin_work(*arguments, key=key)
        works.theirs[-1].close()
        return channel

    works.work = dies  # type: ignore[method-assign]
    assert runner.run_once() == 1
    assert of(provider).ended_at is None
    assert runner.run_once() == 0
    for _ in range(ATTEMPTS + 5):
        clock.advance(LEASE_SECONDS)
        runner.run_once()
    assert len(works.keys) == ATTEMPTS
    assert (of(provider).state, of(provider).progress) == (TaskState.FAILURE, INTERRUPTED)


def test_what_does_not_answer_now_is_asked_again_and_what_is_refused_is_not(
    provider: Provider, runner: TaskRunner, works: Works, clock: Clock
) -> None:
    works.problems = [RunnerUnavailableError("the runner is away"), ImpersonationDeniedError("Nothing can be done as root.")]
    begun(provider, HOME, HOME)
    runner.run_once()
    assert of(provider).ended_at is None
    clock.advance(LEASE_SECONDS)
    runner.run_once()
    assert (of(provider).state, of(provider).progress) == (TaskState.FAILURE, "Nothing can be done as root.")


def test_a_full_file_system_is_the_users_problem_and_not_that_of_the_database(
    provider: Provider, runner: TaskRunner, works: Works
) -> None:
    works.problems = [StorageError("The cluster's file system reported an error.")]
    begun(provider, HOME, HOME)
    runner.run_once()
    assert of(provider).state is TaskState.FAILURE


def test_an_end_that_cannot_be_written_is_written_later(
    provider: Provider, runner: TaskRunner, works: Works, mocker: MockerFixture
) -> None:
    works.problems = [Problem("no")]
    begun(provider, HOME, HOME)
    finish, full = type(provider.tasks).finish, [StorageError("the disk is full")] * 3

    def finishes(*arguments: object) -> object:
        if full:
            raise full.pop()
        return finish(*arguments)  # type: ignore[arg-type]

    mocker.patch.object(type(provider.tasks), "finish", finishes)
    runner.run_once()
    assert (of(provider).state, full) == (TaskState.FAILURE, [])


def test_an_attempt_that_was_replaced_ends_its_process(
    provider: Provider, runner: TaskRunner, works: Works, clock: Clock
) -> None:
    begun(provider, HOME, HOME)
    runner.start()
    works.say(entries=1)
    clock.advance(LEASE_SECONDS + 1)  # this process stood still
    works.say(1, entries=1)
    wait_until("the first is not wanted any more", lambda: not works.is_wanted(0), seconds=10)
    assert works.is_wanted(1)
    assert of(provider).state is TaskState.RUNNING


def test_nothing_begins_in_a_database_that_is_behind(provider: Provider, runner: TaskRunner, works: Works) -> None:
    works.problems = [Problem("It has begun.")]
    begun(provider, HOME, HOME)
    mark_restored(provider.store, provider.now())
    assert runner.run_once() == 0
    assert len(works.problems) == 1
