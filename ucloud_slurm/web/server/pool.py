"""The threads that answer requests: some for each class of callers, so that none of them waits for another.

A disk or a name service that hangs keeps a thread for as long as it likes, and nothing ends a thread. So the event loop
answers a call of UCloud that is overdue, and drops what its thread has to say when it comes back.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future

from ucloud_slurm.system.executor import FairExecutor
from ucloud_slurm.web.server.budgets import Share
from ucloud_slurm.web.server.connection import Connection
from ucloud_slurm.web.server.requests import Caller, RequestClass

LEAST_SECONDS = 1.0
OVERDUE = "The provider waits for something that does not answer, such as its disk; please try again in a minute."


class Pool:
    """A :class:`FairExecutor` for each class. It takes the place of gunicorn's pool of threads."""

    def __init__(self, shares: Mapping[RequestClass, Share]) -> None:
        self._executors = {kind: FairExecutor(share.threads, share.each) for kind, share in shares.items()}

    def submit(self, caller: Caller, work: Callable[[], bool]) -> Future[bool]:
        """Queues a request behind the others of its caller.

        :raises RuntimeError: no thread can be started, and there is none
        """
        return self._executors[caller.kind].submit(caller.key, work)

    def shutdown(self, *, wait: bool = False) -> None:
        """Cancels what has not begun."""
        for executor in self._executors.values():
            executor.close()


class Overdue:
    """The calls of UCloud in one process. Only the event loop uses it.

    :param seconds: from the arrival of a call to its answer
    :param threads: that answer calls
    """

    def __init__(self, seconds: float, threads: int) -> None:
        self._seconds = seconds
        self._threads = threads
        self._waiting: dict[Connection, tuple[float, Future[bool]]] = {}
        self._answered: dict[Connection, Future[bool]] = {}  # without their threads, which have not come back

    def add(self, conn: Connection, answering: Future[bool], now: float) -> None:
        """A request is answered from now on; one that is no call of UCloud has all the time that it takes.

        A call that has waited for a restart may be late already, and UCloud waits for longer: it has a second all the same.

        :param answering: what a thread does for it, or will do
        :param now: monotonic seconds
        """
        if conn.caller.kind is RequestClass.UCLOUD:
            self._waiting[conn] = max(conn.arrived + self._seconds, now + LEAST_SECONDS), answering

    def remove(self, conn: Connection) -> bool:
        """The thread of a call has come back, or has nothing to do for it any more; whether it was answered meanwhile."""
        self._waiting.pop(conn, None)
        return self._answered.pop(conn, None) is not None

    def refuses(self, caller: Caller) -> bool:
        """Whether no thread would take a call of UCloud: all have calls that were overdue, and have not come back."""
        stuck = sum(not answering.cancelled() for answering in self._answered.values())
        return caller.kind is RequestClass.UCLOUD and stuck >= self._threads

    def left(self, now: float) -> float:
        """Seconds until the next call is overdue."""
        return max(min((until for until, _ in self._waiting.values()), default=float("inf")) - now, 0.0)

    def take(self, now: float) -> Iterator[Connection]:
        """The calls that are overdue and that nobody answers but the one who takes them from here."""
        for conn, (until, answering) in list(self._waiting.items()):
            if until <= now:
                del self._waiting[conn]
                if conn.claim.acquire(blocking=False):
                    self._answered[conn] = answering
                    answering.cancel()
                    yield conn
