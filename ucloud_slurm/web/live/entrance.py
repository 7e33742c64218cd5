"""The entrance of a process: admits WebSockets and their streams, and counts what each has until it has gone."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ucloud_slurm.errors import TooMany
from ucloud_slurm.system.journal import Rarely
from ucloud_slurm.web.live.admission import Budget, Limits, Pace, Stranger, Strangers

KNOWN_INCOMPLETE_BYTES = 64 * 1024 * 1024  # of the incomplete frames of all who are known
STRANGERS_INCOMPLETE_BYTES = 16 * 1024 * 1024
MOST_LINGERING = 512  # so that the proxy's limit for the address of UCloud leaves room for new logs
PARTS = 4  # one user, or one address, may have a quarter of something
PACE_BYTES = 4 * 1024 * 1024  # of the frames of one user in a second; a terminal shows less

log = logging.getLogger(__name__)

FULL = "The provider has as many connections as it can hold; please try again later."


class Entrance:
    """What the WebSockets of a process have. Safe for several threads.

    :param logs: streams of logs in all
    :param logs_per_job: of them
    :param changed: is called with the number of strangers and of those who are known
    """

    def __init__(self, limits: Limits, logs: int, logs_per_job: int, changed: Callable[[int, int], object]) -> None:
        self._lock = threading.Lock()
        self._changed = changed
        self._log_rarely = Rarely(log.error)
        self._strangers = Strangers(limits.strangers)
        self._visits: dict[Stranger, Visit] = {}
        self._lingering: dict[Visit, None] = {}  # the one that has done so longest first
        self._known = Budget(limits.connections, limits.connections // PARTS)
        self._descriptors = Budget(limits.stream_descriptors, limits.stream_descriptors // PARTS)
        self._logs = Budget(logs, max(logs // PARTS, logs_per_job))
        self._logs_of_job = Budget(logs, logs_per_job)
        self.strangers_memory = Budget(STRANGERS_INCOMPLETE_BYTES, STRANGERS_INCOMPLETE_BYTES // PARTS)
        self.known_memory = Budget(KNOWN_INCOMPLETE_BYTES, KNOWN_INCOMPLETE_BYTES // PARTS)
        self.pace = Pace(PACE_BYTES, PACE_BYTES)

    def admit(self, address: str | None) -> "Visit":
        """Admits a stranger. Another one may have to go for it.

        :param address: see :func:`.admission.common_address`
        :raises TooMany: there is no room
        """
        with self._lock:
            admitted = self._strangers.admit(address, time.monotonic())
            if admitted is None:
                raise TooMany(FULL)
            stranger, leaves = admitted
            visit = self._visits[stranger] = Visit(self, stranger, self.strangers_memory, address)
            gone = self._visits.pop(leaves) if leaves is not None else None
            self._report()
        if gone is not None:
            gone.dismiss()
        return visit

    def admit_known(self, user: str | None) -> "Visit":
        """Admits somebody whose token is known from the handshake.

        :param user: of UCloud
        :raises TooMany: there is no room
        """
        with self._lock:
            gone = self._take_known(user)
            self._report()
        if gone is not None:
            gone.dismiss()
        return Visit(self, None, self.known_memory, user)

    def identify(self, visit: "Visit", user: str | None) -> None:
        """A stranger is known now.

        :raises TooMany: there is no room; it stays a stranger
        """
        with self._lock:
            if visit.stranger is None or visit.dismissed:
                return
            gone = self._take_known(user)
            self._forget(visit.stranger)
            visit.stranger, visit.memory, visit.account = None, self.known_memory, user
            self._report()
        if gone is not None:
            gone.dismiss()

    def linger(self, visit: "Visit", lingers: bool) -> None:
        """Whether a connection of somebody known has no stream any more: it goes first when there is no room, or when too
        many do the same."""
        gone = None
        with self._lock:
            visit.lingers = lingers and not visit.released
            if visit.lingers:
                self._lingering.setdefault(visit)
            else:
                self._lingering.pop(visit, None)
            if len(self._lingering) > MOST_LINGERING:
                self._release(gone := next(iter(self._lingering)))
                self._report()
        if gone is not None:
            gone.dismiss()

    def leave(self, visit: "Visit") -> None:
        """A connection is closed."""
        with self._lock:
            if visit.stranger is None:
                self._release(visit)
            else:
                self._forget(visit.stranger)
            self.pace.forget(time.monotonic())
            self._report()

    def complain(self, why: str) -> None:
        """Logs why somebody was not admitted, once a minute at most."""
        self._log_rarely("", why)

    @contextmanager
    def descriptors(self, user: str | None, number: int) -> Iterator[None]:
        """Counts the descriptors of a stream of a user of UCloud.

        :raises TooMany: the user, or the process, has too many
        """
        with self._taken(self._descriptors, user, number, "The provider has as many files open as it can; try again later."):
            yield

    @contextmanager
    def log(self, job_id: str, user: str | None, number: int) -> Iterator[None]:
        """Counts a stream of a log, and its descriptors.

        :raises TooMany: the job, the user or the process has too many
        """
        with (
            self._taken(self._logs_of_job, job_id, 1, "Too many people follow the log of this job at the moment."),
            self._taken(self._logs, user, 1, "The provider shows as many logs as it can at the moment."),
            self.descriptors(user, number),
        ):
            yield

    @contextmanager
    def _taken(self, budget: Budget, account: str | None, amount: int, why: str) -> Iterator[None]:
        with self._lock:
            if not budget.take(account, amount):
                raise TooMany(why)
        try:
            yield
        finally:
            with self._lock:
                budget.release(account, amount)

    def _take_known(self, user: str | None) -> "Visit | None":
        """Takes the room of one connection.

        :raises TooMany: there is none
        :returns: the connection that has to go for it: the one that has lingered longest, where it is the user who has
            too many the user's
        """
        if self._known.take(user):
            return None
        is_users = self._known.is_used_up_by(user)
        gone = next((visit for visit in self._lingering if not is_users or visit.account == user), None)
        if gone is not None:
            self._release(gone)
        if gone is None or not self._known.take(user):
            raise TooMany(FULL)
        return gone

    def _release(self, visit: "Visit") -> None:
        if not visit.released:
            visit.released = True
            self._lingering.pop(visit, None)
            self._known.release(visit.account)

    def _forget(self, stranger: Stranger) -> None:
        self._strangers.remove(stranger)
        self._visits.pop(stranger, None)

    def _report(self) -> None:
        self._changed(len(self._strangers), self._known.used)


class Visit:
    """One WebSocket from its handshake to its end.

    :ivar stranger: None once it is known who it is
    :ivar account: the address of a stranger; the user of UCloud who is known, None for UCloud itself
    :ivar memory: what its incomplete frames may take
    :ivar dismissed: whether it has to go for another one
    :ivar lingers: whether it goes first when there is no room
    :ivar released: whether the room of one who is known has been given back
    """

    def __init__(self, entrance: Entrance, stranger: Stranger | None, memory: Budget, account: str | None) -> None:
        self.stranger = stranger
        self.memory = memory
        self.account = account
        self.dismissed = self.released = self.lingers = False
        self._entrance = entrance
        self._abort: Callable[[], object] = lambda: None

    def identify(self, user: str | None) -> None:
        """See :meth:`Entrance.identify`."""
        self._entrance.identify(self, user)

    def on_dismissal(self, abort: Callable[[], object]) -> None:
        """Sets what closes the connection if it has to go; it is called from any thread."""
        self._abort = abort
        if self.dismissed:
            abort()

    def dismiss(self) -> None:
        """The connection has to go."""
        self.dismissed = True
        self._abort()

    @contextmanager
    def examined(self) -> Iterator[None]:
        """While a call of it is examined, a stranger does not have to go."""
        if (stranger := self.stranger) is None:
            yield
            return
        stranger.silent = False
        try:
            yield
        finally:
            stranger.silent = True

    def linger(self, lingers: bool) -> None:
        """See :meth:`Entrance.linger`."""
        self._entrance.linger(self, lingers)

    def pause(self, work: float) -> float:
        """Seconds that it pauses after so many bytes of work."""
        return self._entrance.pace.pause(self.account or f"#{id(self)}", work, time.monotonic())

    def leave(self) -> None:
        """The connection is closed."""
        self._entrance.leave(self)
