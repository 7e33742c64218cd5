"""Calls that may never return, such as those to a file system of a user: threads with a share for each account."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ucloud_slurm.errors import NotNow
from ucloud_slurm.system.executor import FairExecutor

if TYPE_CHECKING:
    from concurrent.futures import Future

WAITING_PER_ACCOUNT = 256  # calls that have not returned
STUCK_SECONDS = 5.0  # a call that has run for so long may never return; a program of the user starts in less

T = TypeVar("T")


def admits(own: int, own_most: int, every: int, most: int) -> bool:
    """Whether a user may have one more of something, of which half is for users who have none.

    :param own: how many the user has
    :param every: how many all have
    """
    return every < most and (own == 0 or (own < own_most and every < most // 2))


class StuckError(NotNow):
    """Earlier calls of the account do not return, or too many wait; this one has not begun."""


class Bulkhead:
    """A pool of threads in which an account loses no more than its own share of them.

    Threads start on demand, so that some which never come back leave room for the calls of other accounts. The calls
    of an account whose whole share is stuck are refused at once. Safe for several threads.

    :param threads: in all
    :param share: of them that one account may take at a time
    """

    def __init__(self, threads: int, share: int = 2, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._executor = FairExecutor(threads, share)
        self._share = share
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: Counter[str] = Counter()  # calls that have not returned, by account
        self._begun: dict[str, list[float]] = {}  # when those began that run, by account

    def submit(self, account: str, work: Callable[[], T], *, cleanup: bool = False) -> "Future[T]":
        """Queues a call of an account.

        :param cleanup: it releases something, and is queued even behind calls that are stuck
        :raises StuckError: see there
        """
        with self._lock:
            if not cleanup and (self._is_stuck(account) or self._waiting[account] >= WAITING_PER_ACCOUNT):
                raise StuckError(f"earlier calls for {account} do not return")
            self._waiting[account] += 1
        try:
            future = self._executor.submit(account, partial(self._run, account, work))
        except RuntimeError as error:  # the host gives no thread
            self._returned(account)
            raise StuckError(str(error)) from None
        future.add_done_callback(lambda _: self._returned(account))
        return future

    def abandon(self, account: str, call: "Future[T]", discard: Callable[[T], object] | None = None) -> None:
        """Gives up waiting for a call. One that has not begun never does.

        :param discard: releases what the call returns in the end, in a thread of the pool
        """
        if call.cancel() or discard is None:
            return

        def queue(done: "Future[T]") -> None:
            if not done.cancelled() and done.exception() is None:
                self.submit(account, partial(discard, done.result()), cleanup=True)

        call.add_done_callback(queue)

    def call(self, account: str, work: Callable[[], T], *, within: float, discard: Callable[[T], object] | None = None) -> T:
        """Runs a call and waits for it.

        :param within: seconds
        :raises StuckError: it has not returned within that time, or has not begun
        """
        future = self.submit(account, work)
        try:
            return future.result(within)
        except TimeoutError:
            if future.done():  # it has raised this itself, or has returned a moment ago
                return future.result()
            self.abandon(account, future, discard)
            raise StuckError(f"a call for {account} has not returned within {within:g} s") from None

    def close(self) -> None:
        """Lets the threads end when their calls have returned."""
        self._executor.close()

    def _is_stuck(self, account: str) -> bool:
        since = self._clock() - STUCK_SECONDS
        return sum(begun <= since for begun in self._begun.get(account, ())) >= self._share

    def _run(self, account: str, work: Callable[[], Any]) -> Any:
        with self._lock:
            begun = self._clock()
            self._begun.setdefault(account, []).append(begun)
        try:
            return work()
        finally:
            with self._lock:
                self._begun[account].remove(begun)
                if not self._begun[account]:
                    del self._begun[account]

    def _returned(self, account: str) -> None:
        with self._lock:
            self._waiting -= Counter([account])
