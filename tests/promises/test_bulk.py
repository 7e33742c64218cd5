"""A bulk is accepted whole or not at all: it stops at its first refusal, and is rolled back in one transaction."""

import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pytest_mock import MockerFixture

from tests.conftest import Open, Serve, World
from tests.support.executor import let_threads_finish
from tests.support.factories import job, job_data
from tests.support.foreign import slow_disk
from tests.support.model import ModelSubmission
from ucloud_slurm.bridge import naming
from ucloud_slurm.errors import StorageFullError
from ucloud_slurm.provider.lookup import Lookup
from ucloud_slurm.provider.submission import StartedSubmission, build, new_job
from ucloud_slurm.slurm.errors import SchedulerUnavailableError, SubmissionRefusedError
from ucloud_slurm.slurm.records import SlurmJobId, Submission
from ucloud_slurm.store.job_rows import NewJob
from ucloud_slurm.store.job_state import JobPhase
from ucloud_slurm.store.sqlite import BUSY_SECONDS, StorageBusyError, Store
from ucloud_slurm.system import deadline
from ucloud_slurm.users.service import OwnPreparation
from ucloud_slurm.web import bulk
from ucloud_slurm.web.bulk import Bulk

JOBS = 300  # many windows, and few enough for a busy host to read and build them in a part of the time
AT_ONCE = 4  # slurm.submit_at_once, by default
WINDOW = 32  # jobs that are claimed in one transaction
SYNC_SECONDS = 0.010  # a disk that needs that long for each durable transaction
PATIENCE = 20.0

Writing = Callable[..., Any]


def create(world: World, jobs: int) -> tuple[int, Any]:
    status, body = world.core.call("POST", "/ucloud/example/jobs", {"items": [job_data(str(n)) for n in range(jobs)]})
    return int(status), body


def refuse_from(world: World, mocker: MockerFixture, number: int) -> list[str]:
    """Has Slurm refuse submissions from that one on; gives the names of those that it heard of."""
    real, lock, heard = world.model.submit, threading.Lock(), list[str]()

    def submit(submission: Submission, within: float) -> SlurmJobId:
        with lock:
            heard.append(submission.name)
            late = len(heard) > number
        if late:
            raise SubmissionRefusedError("Invalid account or account/partition combination specified")
        return real(submission, within)

    mocker.patch.object(world.model, "submit", submit)
    return heard


@pytest.fixture
def durable(mocker: MockerFixture) -> list[float]:
    """The disk syncs slowly; gives the times of the durable transactions."""
    real, there, times = Store.writing, threading.local(), list[float]()

    @contextmanager
    def writing(self: Store, *, durable: bool = True, within: float = BUSY_SECONDS) -> Iterator[Any]:
        outermost = not getattr(there, "inside", False)
        there.inside = True
        try:
            with real(self, durable=durable, within=within) as connection:
                yield connection
                if outermost and durable:
                    times.append(time.monotonic())
                    slow_disk(SYNC_SECONDS)
        finally:
            there.inside = not outermost

    mocker.patch.object(Store, "writing", writing)
    return times


def test_a_bulk_stops_at_its_first_refusal(world: World, mocker: MockerFixture) -> None:
    heard = refuse_from(world, mocker, 0)
    status, body = create(world, JOBS)
    assert status == 403
    assert re.match(r"items\[[0-9]+\] \(job [0-9]+\): .*account", body["why"])
    assert 1 <= len(heard) <= AT_ONCE + WINDOW
    assert {row.phase for row in world.provider.jobs.newest(JOBS)} == {JobPhase.REFUSED}


def test_a_refusal_in_the_middle_takes_back_what_slurm_has(world: World, mocker: MockerFixture) -> None:
    heard = refuse_from(world, mocker, 100)
    status, _ = create(world, JOBS)
    assert status == 403
    assert 101 <= len(heard) <= 100 + AT_ONCE + WINDOW
    for _ in range(3):
        world.work(60)
    assert {made.run.state_text for made in world.model.jobs} == {"CANCELLED"}
    assert len(world.model.jobs) == 100
    assert {row.phase for row in world.provider.jobs.newest(JOBS)} <= {JobPhase.REFUSED, JobPhase.ENDED}
    assert world.core.protocol_errors == [], "UCloud hears nothing of jobs that it was refused"


def test_a_refused_bulk_waits_for_the_disk_a_few_times_and_not_for_each_item(
    world: World, mocker: MockerFixture, durable: list[float]
) -> None:
    refuse_from(world, mocker, 0)
    create(world, 1)  # what is loaded once is loaded
    durable.clear()
    assert create(world, JOBS)[0] == 403
    assert len(durable) <= 2 * AT_ONCE + 6


def test_no_more_than_a_window_is_claimed_ahead(world: World, mocker: MockerFixture) -> None:
    real, claimed = world.model.submit, list[int]()

    def submit(submission: Submission, within: float) -> SlurmJobId:
        found = world.provider.store.row("select count(*) as number from jobs where phase = 'submitting'")
        claimed.append(found["number"] if found else 0)
        return real(submission, within)

    mocker.patch.object(world.model, "submit", submit)
    assert create(world, 200)[0] == 200
    assert len(world.model.jobs) == 200
    assert 1 <= max(claimed) <= AT_ONCE + WINDOW // 2 + WINDOW


def test_nothing_is_sent_before_its_row_is_claimed_durably(world: World, mocker: MockerFixture) -> None:
    real = world.model.submit

    def submit(submission: Submission, within: float) -> SlurmJobId:
        row = world.row(submission.name.removeprefix("ucloud-"))
        assert (row.phase, row.attempts) == (JobPhase.SUBMITTING, 1)
        assert row.claimed_until is not None
        return real(submission, within)

    mocker.patch.object(world.model, "submit", submit)
    assert create(world, 40)[0] == 200
    assert len(world.model.jobs) == 40


def test_what_was_started_is_abandoned_where_its_row_cannot_be_written(world: World, mocker: MockerFixture) -> None:
    started, real = threading.Event(), world.model.start

    def start(submission: Submission, as_user: Any) -> Any:
        pending = real(submission, as_user)
        started.set()
        return pending

    def full(*_: Any, **__: Any) -> None:
        while not started.is_set():
            slow_disk(0.005)
        raise StorageFullError("the disk is full")

    mocker.patch.object(world.model, "start", start)
    mocker.patch.object(type(world.provider.jobs), "accept", full)
    assert create(world, 1)[0] == 507
    let_threads_finish(world.provider)
    assert (world.model.counts["abandoned"], world.model.jobs) == (1, [])


@pytest.mark.parametrize("submit_within", ["2s"])
def test_a_runner_that_does_not_take_a_submission_does_not_hold_the_answer(world: World, mocker: MockerFixture) -> None:
    go, asked = threading.Event(), []

    def hang(submission: Submission, as_user: Any) -> Any:
        asked.append(deadline.left(PATIENCE))  # as RunnerClient does, which waits for no longer
        go.wait(min(asked[-1], 0.1) if len(asked) == 1 else PATIENCE)
        raise SchedulerUnavailableError("the runner did not take the request")

    mocker.patch.object(world.model, "start", hang)
    assert create(world, 1)[0] == 200  # although it hangs for longer than UCloud has patience
    assert asked == [pytest.approx(bulk.START_SECONDS, abs=0.5), PATIENCE]
    go.set()
    let_threads_finish(world.provider)
    mocker.stopall()
    assert world.model.jobs == []
    world.work(60)
    assert len(world.model.of("0")) == 1


@pytest.mark.parametrize("submit_within", ["2s"])
def test_nothing_is_started_that_would_wait_for_a_thread(world: World, mocker: MockerFixture) -> None:
    """It would keep one of its user's programs until then, and there are only so many."""
    go = threading.Event()
    for _ in range(AT_ONCE):
        world.provider.executor.submit("other", lambda: go.wait(PATIENCE))
    started = mocker.spy(world.model, "start")
    assert create(world, 1)[0] == 200
    assert started.call_count == 0
    go.set()
    let_threads_finish(world.provider)
    world.work(60)
    assert len(world.model.of("0")) == 1


def test_nothing_of_a_request_begins_after_its_deadline(world: World, mocker: MockerFixture) -> None:
    mocker.patch.object(bulk, "MOST_QUEUED", 0)  # what is submitted after the answer is another matter
    submission, row = built(world, "7")
    late = Bulk(world.provider, [row], {"7": submission}, time.monotonic() - 1.0, acknowledge=True)
    late.submit()
    let_threads_finish(world.provider)  # what was started has been abandoned
    world.model.counts.clear()
    late._started["7"] = StartedSubmission(ModelSubmission(world.model, submission), OwnPreparation(submission.folder, {}))
    assert late._conclude("7", 1, time.monotonic() + 60) is None  # as of a task that came too late
    assert (world.row("7").phase, world.model.jobs, world.model.counts["abandoned"]) == (JobPhase.ACCEPTED, [], 1)


def built(world: World, job_id: str) -> tuple[Submission, NewJob]:
    made, provider = job(job_id), world.provider
    identity = provider.mapping.identity(made.owner.created_by, None)
    row = new_job(made, naming.fingerprint(made), identity.person, provider.now())
    return build(provider, Lookup(provider), made, identity), row


def test_a_window_that_cannot_be_claimed_is_left_to_the_worker(world: World, mocker: MockerFixture) -> None:
    mocker.patch.object(type(world.provider.jobs), "claim", side_effect=StorageBusyError("The provider is busy."))
    assert create(world, WINDOW + 8)[0] == 200
    assert len(world.model.jobs) == WINDOW
    mocker.stopall()
    world.work(60)
    assert len(world.model.jobs) == WINDOW + 8


@pytest.mark.parametrize("submit_within", ["2s"])
def test_claims_that_cannot_be_released_expire(world: World, mocker: MockerFixture) -> None:
    go = threading.Event()
    for _ in range(AT_ONCE):  # nothing begins, so that all claims are to be released
        world.provider.executor.submit("other", lambda: go.wait(PATIENCE))
    mocker.patch.object(type(world.provider.jobs), "release_claim", side_effect=StorageBusyError("The provider is busy."))
    assert create(world, AT_ONCE)[0] == 200
    mocker.stopall()
    go.set()
    let_threads_finish(world.provider)
    assert world.model.jobs == []
    for _ in range(8):
        world.work(20)
    assert len(world.model.jobs) == AT_ONCE
    assert {row.phase for row in world.provider.jobs.newest(AT_ONCE)} == {JobPhase.LIVE}


@pytest.mark.parametrize("submit_within", ["2s"])
def test_a_bulk_is_answered_in_time_where_another_writer_comes_in_the_middle(world: World, mocker: MockerFixture) -> None:
    real, first, other = (
        world.model.submit,
        threading.Lock(),
        sqlite3.connect(world.provider.store.path, isolation_level=None, check_same_thread=False),
    )

    def submit(submission: Submission, within: float) -> SlurmJobId:
        if first.acquire(blocking=False):
            other.execute("begin immediate")
        return real(submission, within)

    mocker.patch.object(world.model, "submit", submit)
    status, _ = create(world, WINDOW + 8)
    other.close()  # it has written until now
    assert status == 500


def test_jobs_that_are_not_sent_hardly_use_up_the_pace(
    open_provider: Open, world: World, serve: Serve, mocker: MockerFixture
) -> None:
    world.provider = open_provider(slurm={"submit_per_second": 2.0}, jobs={"submit_within": "1s"})
    serve(world.provider)
    go, real = threading.Event(), world.model.start

    def hang(submission: Submission, as_user: Any) -> Any:
        go.wait(PATIENCE)
        return real(submission, as_user)

    mocker.patch.object(world.model, "start", hang)
    assert create(world, 30)[0] == 200
    user = world.row("0").local_user
    assert world.provider.jobs.rate_limit_remaining(user, world.clock(), 2.0) >= 20 - 2 * AT_ONCE
    go.set()
