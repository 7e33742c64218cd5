"""A thread pool with fair queueing: so many submissions at a time in one process, one account after the other."""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from itertools import zip_longest
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ucloud_slurm.system.request_id import Served, served, serving

if TYPE_CHECKING:
    from concurrent.futures import Future  # a pass of the worker that submits nothing starts without it

T = TypeVar("T")


class _Task(NamedTuple):
    future: "Future[Any]"
    work: Callable[[], Any]
    request: Served | None  # that has queued it


class FairExecutor:
    """A few threads that execute tasks round robin between accounts.

    An account with a thousand tasks delays the task of another by one of them, not by a thousand. A task that has
    begun is finished even if nobody waits for it. Threads start on demand and do not keep a process from exiting.

    :param max_workers: threads
    :param share: of them that one account may take at a time, at least 1; None for all
    """

    def __init__(self, max_workers: int, share: int | None = None) -> None:
        self._max_workers = max_workers
        self._share = max_workers if share is None else max(share, 1)
        self._taken: dict[str, int] = {}  # threads, by account
        self._threads = 0
        self._busy = 0  # of these
        self._queued = 0
        self._queues: dict[str, deque[_Task]] = {}  # by account; the next one comes first
        self._lock = threading.Lock()
        self._ready: SimpleQueue[None] = SimpleQueue()  # an entry for each queued task that a thread may take now
        self._closed = False

    def submit(self, account: str, work: Callable[[], T]) -> "Future[T]":
        """Queues a task of an account.

        :raises RuntimeError: no thread can be started, and there is none
        :returns: the task, which can be cancelled until it has begun
        """
        from concurrent.futures import Future

        task = _Task(future := Future[T](), work, served())
        with self._lock:
            if self._queued + 1 > self._threads - self._busy and self._threads < self._max_workers:
                self._start_thread()
            queue = self._queues.setdefault(account, deque())
            queue.append(task)
            self._queued += 1
            is_ready = len(queue) <= self._room(account)
        if is_ready:
            self._ready.put(None)  # without the lock, which the thread needs next
        return future

    def ahead(self, account: str) -> int:
        """How many of the queued tasks would begin before a new one of that account."""
        with self._lock:
            own = len(self._queues.get(account, ()))
            return sum(min(len(queue), own + (each != account)) for each, queue in self._queues.items())

    def is_free(self) -> bool:
        """Whether a task would begin at once."""
        with self._lock:
            return not self._queued and self._busy < self._max_workers

    def _start_thread(self) -> None:
        try:
            threading.Thread(target=self._serve, name="submit", daemon=True).start()
        except RuntimeError:  # the host gives no more; the threads that there are execute all tasks
            if not self._threads:
                raise
        else:
            self._threads += 1

    def close(self) -> None:
        """Cancels every task that is queued; the threads exit when they have finished theirs."""
        with self._lock:
            self._closed = True
            for queue in self._queues.values():
                for task in queue:
                    task.future.cancel()
            self._queues.clear()
            for _ in range(self._threads):
                self._ready.put(None)

    def _serve(self) -> None:
        while (found := self._next()) is not None:
            account, task = found
            with serving(task.request):
                _execute(task)
            del found, task
            self._give_back(account)

    def _next(self) -> tuple[str, _Task] | None:
        self._ready.get()
        with self._lock:
            if self._closed:
                return None
            account = next(account for account in self._queues if self._room(account))
            self._busy += 1
            self._taken[account] = self._taken.get(account, 0) + 1
            queue = self._queues.pop(account)
            task = queue.popleft()
            self._queued -= 1
            if queue:
                self._queues[account] = queue  # behind the others
            return account, task

    def _give_back(self, account: str) -> None:
        """Notes that a thread has finished a task; another one of the account may have waited for its share."""
        with self._lock:
            self._busy -= 1
            waited = len(self._queues.get(account, ())) > self._room(account)
            self._taken[account] -= 1
            if not self._taken[account]:
                del self._taken[account]
        if waited:
            self._ready.put(None)

    def _room(self, account: str) -> int:
        """How many more threads an account may take."""
        return self._share - self._taken.get(account, 0)


def _execute(task: _Task) -> None:
    if not task.future.set_running_or_notify_cancel():
        return
    try:
        result = task.work()
    except BaseException as error:  # noqa: BLE001  the caller that waits for the result gets it; the thread goes on
        task.future.set_exception(error)
    else:
        task.future.set_result(result)


def round_robin(things: Iterable[T], account: Callable[[T], str]) -> list[T]:
    """The same things, one of each account after the other; those of one account stay in order."""
    of: dict[str, list[T]] = {}
    for thing in things:
        of.setdefault(account(thing), []).append(thing)
    nothing = object()
    return [thing for row in zip_longest(*of.values(), fillvalue=nothing) for thing in row if thing is not nothing]  # type: ignore[misc]
