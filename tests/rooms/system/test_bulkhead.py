"""Calls that never return cost their own account its share of the threads, and nobody else anything."""

import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from ucloud_slurm.system import bulkhead as bulkhead_module
from ucloud_slurm.system.bulkhead import Bulkhead, StuckError

PATIENCE = 30.0


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bulkhead(clock: Clock) -> Iterator[Bulkhead]:
    made = Bulkhead(64, 2, clock=clock)
    yield made
    made.close()


class DeadFileSystem:
    """Calls to it return when it is repaired."""

    def __init__(self) -> None:
        self.repaired = threading.Event()
        self.begun = threading.Semaphore(0)

    def call(self) -> str:
        self.begun.release()
        assert self.repaired.wait(PATIENCE)
        return "repaired"

    def wait(self, calls: int) -> None:
        for _ in range(calls):
            assert self.begun.acquire(timeout=PATIENCE)


@pytest.fixture
def dead() -> Iterator[DeadFileSystem]:
    made = DeadFileSystem()
    yield made
    made.repaired.set()


def test_many_accounts_whose_calls_never_return_leave_threads_for_others(bulkhead: Bulkhead, dead: DeadFileSystem) -> None:
    for number in range(20):
        for _ in range(10):
            bulkhead.submit(f"hostile{number}", dead.call)
    dead.wait(40)
    assert [bulkhead.call(f"user{number}", lambda: 1, within=PATIENCE / 3) for number in range(100)] == [1] * 100


def test_an_account_that_is_stuck_is_refused_at_once_until_its_calls_return(
    bulkhead: Bulkhead, dead: DeadFileSystem, clock: Clock
) -> None:
    calls = [bulkhead.submit("hostile", dead.call) for _ in range(2)]
    dead.wait(2)
    queued = bulkhead.submit("hostile", lambda: "queued")  # they may be slow only
    clock.now += bulkhead_module.STUCK_SECONDS
    with pytest.raises(StuckError, match="hostile"):
        bulkhead.submit("hostile", lambda: None)
    released = bulkhead.submit("hostile", lambda: "released", cleanup=True)
    assert not released.done()
    dead.repaired.set()
    assert [call.result(PATIENCE) for call in calls] == ["repaired", "repaired"]
    assert (queued.result(PATIENCE), released.result(PATIENCE)) == ("queued", "released")
    assert bulkhead.call("hostile", lambda: "served", within=PATIENCE) == "served"


def test_an_account_queues_so_many_calls_and_no_more(bulkhead: Bulkhead, dead: DeadFileSystem) -> None:
    for _ in range(bulkhead_module.WAITING_PER_ACCOUNT):
        bulkhead.submit("hostile", dead.call)
    with pytest.raises(StuckError):
        bulkhead.submit("hostile", lambda: None)
    assert bulkhead.call("user", lambda: "served", within=PATIENCE) == "served"


def test_a_caller_waits_for_so_long_and_what_comes_later_is_released(bulkhead: Bulkhead, dead: DeadFileSystem) -> None:
    ours, theirs = os.pipe()
    released = threading.Event()

    def discard(descriptor: int) -> None:
        os.close(descriptor)
        released.set()

    def open_() -> int:
        dead.call()
        return theirs

    with pytest.raises(StuckError, match="has not returned"):
        bulkhead.call("hostile", open_, within=0.01, discard=discard)
    assert not released.is_set()
    dead.repaired.set()
    assert released.wait(PATIENCE)
    assert os.read(ours, 1) == b""  # the other end is closed
    os.close(ours)


def test_a_call_that_has_not_begun_when_nobody_waits_any_more_never_begins(bulkhead: Bulkhead, dead: DeadFileSystem) -> None:
    for _ in range(2):
        bulkhead.submit("hostile", dead.call)
    begun: list[int] = []
    with pytest.raises(StuckError):
        bulkhead.call("hostile", lambda: begun.append(1), within=0.01)
    dead.repaired.set()
    bulkhead.call("hostile", lambda: None, within=PATIENCE)
    assert not begun


def test_what_a_call_raises_reaches_the_one_who_waits(bulkhead: Bulkhead) -> None:
    def fail() -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        bulkhead.call("user", fail, within=PATIENCE)


def test_what_returns_just_when_the_time_is_over_is_not_lost(bulkhead: Bulkhead, monkeypatch: pytest.MonkeyPatch) -> None:
    class Late(Future[int]):
        """The wait ends without it, and it returns then."""

        def result(self, timeout: float | None = None) -> int:
            found = super().result(PATIENCE)
            if timeout is not None:
                raise TimeoutError
            return found

    late = Late()
    late.set_result(7)
    monkeypatch.setattr(bulkhead, "submit", lambda _account, _work: late)
    assert bulkhead.call("user", lambda: 7, within=0.01) == 7
