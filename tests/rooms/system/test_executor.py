"""Submissions are bounded in number and fair between people, within what a site sets."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from functools import partial
from typing import Any

import pytest
from pytest_mock import MockerFixture

from tests.conftest import Clock, Open, Serve, World
from tests.sandbox.core import SimulatedCore
from tests.sandbox.processes import wait_until
from tests.support.executor import let_threads_finish
from tests.support.factories import job_data
from tests.support.model import Model
from ucloud_slurm.errors import StorageFullError
from ucloud_slurm.slurm.records import SlurmJobId
from ucloud_slurm.slurm.scheduler import PendingSubmission
from ucloud_slurm.store.breaker import SLURM
from ucloud_slurm.store.job_state import JobPhase
from ucloud_slurm.store.jobs import RATE_WINDOW_SECONDS
from ucloud_slurm.system.executor import FairExecutor, round_robin
from ucloud_slurm.worker import pending

PATIENCE = 30.0


def test_an_account_with_one_task_waits_for_one_of_the_thousand_of_another() -> None:
    executor, begun, go = FairExecutor(1), threading.Event(), threading.Event()
    done: list[str] = []

    def hold() -> None:
        begun.set()
        go.wait(PATIENCE)

    executor.submit("alice", hold)
    assert begun.wait(PATIENCE)
    others = [executor.submit("alice", lambda: done.append("alice")) for _ in range(1000)]
    bob = executor.submit("bob", lambda: done.append("bob"))
    go.set()
    wait([*others, bob], PATIENCE)
    executor.close()
    assert done.index("bob") == 1
    assert Counter(done) == {"alice": 1000, "bob": 1}


def test_no_more_tasks_run_at_once_than_there_are_threads() -> None:
    executor, lock, all_there = FairExecutor(3), threading.Lock(), threading.Barrier(3)
    under_way, most = 0, 0

    def work() -> None:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        all_there.wait(PATIENCE)  # of any three, so that three must be under way
        with lock:
            under_way -= 1

    given = [executor.submit("alice", work) for _ in range(9)]
    _, late = wait(given, PATIENCE)
    executor.close()
    assert (late, most) == (set(), 3)


def test_one_account_takes_no_more_than_its_share_and_leaves_the_rest_to_others() -> None:
    executor, go, mine = FairExecutor(3, 2), threading.Event(), [threading.Event() for _ in range(4)]

    def hang(begun: threading.Event) -> None:
        begun.set()
        go.wait(PATIENCE)

    hanging = [executor.submit("alice", partial(hang, begun)) for begun in mine]
    assert mine[0].wait(PATIENCE)
    assert mine[1].wait(PATIENCE)
    for number in range(20):
        assert executor.submit("bob", partial(int, number)).result(PATIENCE) == number
    assert [begun.is_set() for begun in mine] == [True, True, False, False]
    go.set()
    wait(hanging, PATIENCE)
    assert all(begun.is_set() for begun in mine), "what waited for its share is done too"
    assert executor.submit("alice", lambda: 1).result(PATIENCE) == 1
    executor.close()
    assert FairExecutor(1, 0).submit("alice", lambda: 2).result(PATIENCE) == 2


def test_it_is_free_while_a_task_would_begin_at_once() -> None:
    executor, begun, go = FairExecutor(1), threading.Event(), threading.Event()
    assert executor.is_free()

    def hold() -> None:
        begun.set()
        go.wait(PATIENCE)

    first = executor.submit("alice", hold)
    assert begun.wait(PATIENCE)
    assert not executor.is_free()
    second = executor.submit("bob", lambda: None)
    go.set()
    wait([first, second], PATIENCE)
    wait_until("the thread waits again", executor.is_free, seconds=PATIENCE)
    executor.close()


def test_what_has_not_begun_can_be_taken_back_and_the_rest_goes_on() -> None:
    executor, go = FairExecutor(1), threading.Event()
    done: list[int] = []
    first: Future[Any] = executor.submit("alice", lambda: go.wait(PATIENCE))
    second = executor.submit("alice", lambda: done.append(2))
    third = executor.submit("alice", lambda: done.append(3))
    assert second.cancel()
    go.set()
    wait([first, third], PATIENCE)
    executor.close()
    assert done == [3]


def test_an_error_is_raised_by_the_future_and_the_thread_goes_on() -> None:
    executor = FairExecutor(1)
    broken, whole = executor.submit("a", lambda: 1 // 0), executor.submit("a", lambda: None)
    with pytest.raises(ZeroDivisionError):
        broken.result(PATIENCE)
    whole.result(PATIENCE)
    executor.close()


def test_nothing_waits_for_an_executor_that_is_closed() -> None:
    executor, begun, go = FairExecutor(1), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go.wait(PATIENCE)

    first = executor.submit("a", work)
    second = executor.submit("a", lambda: None)
    begun.wait(PATIENCE)
    executor.close()
    assert second.cancelled()
    go.set()
    first.result(PATIENCE)


def test_things_come_one_of_each_account_after_the_other() -> None:
    assert round_robin(["a1", "a2", "a3", "b1", "c1", "c2"], lambda thing: thing[0]) == ["a1", "b1", "c1", "a2", "c2", "a3"]
    assert round_robin([], str) == []


@pytest.fixture
def site(core: SimulatedCore, open_provider: Open, serve: Serve, model: Model, clock: Clock) -> Callable[..., World]:
    """Opens a world whose configuration says something of its own in ``[slurm]``."""

    def open_(**slurm: object) -> World:
        provider = open_provider(slurm=slurm)
        return World(core, provider, model, clock, serve(provider))

    return open_


def bulk(world: World, owners: Sequence[str]) -> None:
    jobs = [job_data(str(number)) for number in range(len(owners))]
    for each, owner in zip(jobs, owners, strict=True):
        each["owner"]["createdBy"] = owner
    assert world.core.call("POST", "/ucloud/example/jobs", {"items": jobs})[0] == 200


def submitted(world: World) -> list[str]:
    return [world.row(made.submission.name.removeprefix("ucloud-")).owner for made in world.model.jobs]


@pytest.mark.parametrize("by", ["create", "worker"])
def test_a_bulk_is_submitted_round_robin_over_its_owners(site: Callable[..., World], by: str) -> None:
    world = site(submit_at_once=1)
    if by == "worker":
        world.provider.breaker.record_failure(SLURM, "away", world.clock(), 15.0)
    bulk(world, ["alice"] * 7 + ["bob"])
    assert len(world.model.jobs) == (8 if by == "create" else 0)
    world.work(60)
    assert submitted(world) == ["alice", "bob", *["alice"] * 6]


def test_no_account_is_submitted_for_more_often_than_the_site_says(site: Callable[..., World]) -> None:
    world = site(submit_per_second=0.5)  # five in ten seconds
    bulk(world, ["alice"] * 12)
    assert len(world.model.jobs) == 5
    world.work(RATE_WINDOW_SECONDS - 1)
    assert len(world.model.jobs) == 5
    world.work(1)
    assert len(world.model.jobs) == 10
    world.work(RATE_WINDOW_SECONDS)
    assert {row.phase for row in world.provider.jobs.newest(20)} == {JobPhase.LIVE}
    assert len(world.model.jobs) == 12


@pytest.mark.parametrize("submit_within", ["2s"])
def test_a_submission_that_takes_long_goes_on_when_its_create_has_been_answered(
    site: Callable[..., World], mocker: MockerFixture
) -> None:
    world = site(submit_at_once=1)
    go, submit = threading.Event(), world.model.submit

    def slow(*arguments: Any) -> SlurmJobId:
        found = submit(*arguments)
        go.wait(PATIENCE)
        return found

    mocker.patch.object(world.model, "submit", slow)
    bulk(world, ["alice", "alice"])
    assert [world.row(id_).phase for id_ in ("0", "1")] == [JobPhase.SUBMITTING, JobPhase.ACCEPTED]
    go.set()
    let_threads_finish(world.provider)
    assert world.row("0").phase is JobPhase.LIVE
    world.work(60)
    assert [len(world.model.of(id_)) for id_ in ("0", "1")] == [1, 1]


@pytest.mark.parametrize("submit_within", ["2s"])
def test_a_submission_whose_command_does_not_start_in_time_is_left_to_the_worker(
    site: Callable[..., World], mocker: MockerFixture
) -> None:
    world = site(submit_at_once=1)
    go, start = threading.Event(), world.model.start

    def late(*arguments: Any) -> PendingSubmission:
        go.wait(PATIENCE)
        return start(*arguments)

    mocker.patch.object(world.model, "start", late)
    bulk(world, ["alice"])
    assert (world.row("0").phase, world.row("0").acknowledged_at) == (JobPhase.ACCEPTED, world.clock())
    go.set()
    let_threads_finish(world.provider)
    assert world.model.jobs == []
    world.work(60)
    assert len(world.model.of("0")) == 1


def test_a_host_that_gives_no_more_threads_slows_submissions_down_and_loses_none(mocker: MockerFixture) -> None:
    start, given = threading.Thread.start, list[threading.Thread]()

    def scarce(thread: threading.Thread) -> None:
        if given:
            raise RuntimeError("can't start new thread")
        given.append(thread)
        start(thread)

    mocker.patch.object(threading.Thread, "start", scarce)
    executor, done = FairExecutor(4), list[int]()
    _, late = wait([executor.submit("a", partial(done.append, number)) for number in range(20)], PATIENCE)
    assert (late, sorted(done)) == (set(), list(range(20)))
    executor.close()
    none = FairExecutor(4)
    with pytest.raises(RuntimeError):
        none.submit("a", lambda: None)
    mocker.stopall()
    none.submit("a", lambda: None).result(PATIENCE)
    none.close()


def test_jobs_that_could_not_be_written_down_start_no_command(site: Callable[..., World], mocker: MockerFixture) -> None:
    world = site(submit_at_once=2)
    submit = mocker.spy(world.model, "submit")
    mocker.patch.object(world.provider.jobs.__class__, "accept", side_effect=StorageFullError("the disk is full"))
    jobs = [job_data(str(number)) for number in range(40)]
    assert world.core.call("POST", "/ucloud/example/jobs", {"items": jobs})[0] == 507
    let_threads_finish(world.provider)
    assert submit.call_count <= 2
    assert world.model.jobs == []


def test_what_has_to_wait_for_its_pace_is_not_built(site: Callable[..., World], mocker: MockerFixture) -> None:
    world = site(submit_per_second=0.5)
    world.provider.breaker.record_failure(SLURM, "away", world.clock(), 15.0)
    bulk(world, ["alice"] * 12)
    build = mocker.spy(pending, "build")
    world.work(60)
    assert (build.call_count, len(world.model.jobs)) == (5, 5)
