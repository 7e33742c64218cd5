"""The request and its submissions write for each other: whatever fails or hangs in one, the other tells the truth."""

import itertools
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pytest_mock import MockerFixture

from tests.conftest import Open, World
from tests.sandbox.processes import wait_until
from tests.support.executor import let_threads_finish
from tests.support.factories import job, job_data
from ucloud_slurm.provider.submission import SubmissionOutcome, conclude
from ucloud_slurm.slurm.errors import SubmissionRefusedError
from ucloud_slurm.store.breaker import SLURM
from ucloud_slurm.store.job_state import JobPhase
from ucloud_slurm.store.sqlite import BUSY_SECONDS
from ucloud_slurm.web.create import Create

PATIENCE = 20.0


class BrokenError(Exception):
    """A fault of the program."""


def create(world: World, *ids: str) -> int:
    return int(world.core.call("POST", "/ucloud/example/jobs", {"items": [job_data(id_) for id_ in ids]})[0])


def concluded(fails: Callable[[int], None]) -> Callable[..., SubmissionOutcome]:
    """Concludes submissions, and calls that with the number of each before, from 1."""
    numbers, lock = itertools.count(1), threading.Lock()

    def conclude_(*arguments: Any, **named: Any) -> SubmissionOutcome:
        with lock:
            number = next(numbers)
        fails(number)
        return conclude(*arguments, **named)

    return conclude_


@contextmanager
def another_writer(world: World) -> Iterator[None]:
    other = sqlite3.connect(world.provider.store.path, isolation_level=None)
    other.execute("begin immediate")
    try:
        yield
    finally:
        other.close()


def test_a_job_that_was_rolled_back_with_a_bulk_is_not_promised_alone(world: World, mocker: MockerFixture) -> None:
    there, go, submit = threading.Event(), threading.Event(), world.model.submit

    def slow(submission: Any, within: float) -> Any:
        if submission.name == "ucloud-8":
            raise SubmissionRefusedError("no")
        found = submit(submission, within)
        there.set()
        go.wait(PATIENCE)
        return found

    mocker.patch.object(world.model, "submit", slow)
    mocker.patch.object(Create, "_wait")  # the time of the bulk is over
    alone: list[int] = []
    request = threading.Thread(target=lambda: alone.append(create(world, "7")))
    request.start()
    assert there.wait(PATIENCE)
    assert create(world, "7", "8") == 400
    go.set()
    request.join()
    assert alone == [400]
    world.work(1)
    assert world.slurm("7").run.ended is not None


def test_what_was_promised_is_not_rolled_back(world: World) -> None:
    assert create(world, "7") == 200
    assert world.provider.jobs.roll_back(["7"], 400, "Job 8 of the same request: no", world.clock()) == []
    assert (world.row("7").phase, world.row("7").stop) == (JobPhase.LIVE, None)


def test_a_submission_that_fails_leaves_no_claim_of_the_others(open_provider: Open, mocker: MockerFixture) -> None:
    provider = open_provider(jobs={"submit_within": "1s"}, slurm={"submit_at_once": 1})
    go = threading.Event()

    def fails(number: int) -> None:
        if number == 2:
            raise BrokenError
        if number == 3:
            go.wait(PATIENCE)

    mocker.patch("ucloud_slurm.web.bulk.conclude", concluded(fails))
    with pytest.raises(BrokenError):
        Create(provider).accept([job(str(number)) for number in range(6)])
    go.set()
    let_threads_finish(provider)
    phases = [row.phase for row in provider.jobs.newest(6)]
    assert phases.count(JobPhase.SUBMITTING) == 1, "the one that failed: it may have reached Slurm"
    assert phases.count(JobPhase.ACCEPTED) >= 3
    assert phases.count(JobPhase.LIVE) == 5 - phases.count(JobPhase.ACCEPTED)


def test_what_has_not_begun_when_a_create_fails_is_not_written_after_the_answer(
    world: World, open_provider: Open, mocker: MockerFixture
) -> None:
    others = set(threading.enumerate())
    provider = open_provider(jobs={"submit_within": "1s"}, slurm={"submit_at_once": 1})
    executor, first, last = provider.executor, threading.Event(), threading.Event()
    for wait in (lambda: first.wait(PATIENCE), lambda: True, lambda: last.wait(PATIENCE)):
        executor.submit("other", wait)  # the thread has job 7 before the last of them, and would have job 8 after it

    def fails(_number: int) -> None:
        raise BrokenError

    def release() -> None:
        wait_until("both are queued", lambda: sum(map(len, executor._queues.values())) == 4, seconds=PATIENCE)
        first.set()

    mocker.patch("ucloud_slurm.web.bulk.conclude", concluded(fails))
    threading.Thread(target=release).start()
    with pytest.raises(BrokenError):
        Create(provider).accept([job("7"), job("8")])
    before = [(row.id, row.phase) for row in provider.jobs.newest(9)]
    last.set()
    executor.close()
    wait_until(
        "its threads have ended",
        lambda: not any(each.name == "submit" for each in set(threading.enumerate()) - others),
        seconds=PATIENCE,
    )
    assert sorted(before) == [("7", JobPhase.SUBMITTING), ("8", JobPhase.ACCEPTED)]
    assert [(row.id, row.phase) for row in provider.jobs.newest(9)] == before
    assert world.model.jobs == []


def test_creates_that_wait_for_another_writer_wait_no_longer_together(world: World) -> None:
    took: list[tuple[float, int]] = []

    def one(number: int) -> None:
        begun = time.monotonic()
        status = create(world, str(number))
        took.append((time.monotonic() - begun, status))

    with another_writer(world):
        threads = [threading.Thread(target=one, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
            thread.join(BUSY_SECONDS / 5)  # they come one after the other
        for thread in threads:
            thread.join()
    assert [status for _, status in took] == [500] * 4
    assert max(seconds for seconds, _ in took) < 1.6 * BUSY_SECONDS
    assert world.provider.breaker.allows(SLURM, world.clock()), "it was not Slurm that took long"
    assert world.model.jobs == []
