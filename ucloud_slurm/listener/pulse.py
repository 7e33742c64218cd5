"""Keepalive of a connection, and the backoff before the next one. Times are monotonic seconds."""

PING_SECONDS = 30.0  # from ping to ping
PONG_SECONDS = 20.0  # that UCloud has for its pong
QUIET_SECONDS = 10.0  # without a message, after which the replay counts as complete
LIFE_SECONDS = 86400.0  # of a connection
LONGEST_BACKOFF_SECONDS = 60.0


class Pulse:
    """Whether a connection is alive, and whether its replay is complete.

    UCloud replays old records in any order and does not mark the end of it. The replay counts as complete when a pong
    arrives after a silence: what UCloud sent before the pong has arrived before it.

    :ivar caught_up: the replay is complete
    """

    def __init__(
        self,
        now: float,
        *,
        every: float = PING_SECONDS,
        patience: float = PONG_SECONDS,
        quiet: float = QUIET_SECONDS,
        life: float = LIFE_SECONDS,
    ) -> None:
        self._every, self._patience, self._quiet = every, patience, quiet
        self._next = now
        self._until = now + life
        self._asked_at: float | None = None
        self._message_at = now
        self.caught_up = False

    def due(self, now: float) -> bool:
        """Whether it is time for a ping, which the caller then sends."""
        if now < self._next:
            return False
        self._next = now + self._every
        if self._asked_at is None:
            self._asked_at = now
        return True

    def message(self, now: float) -> None:
        """Takes note of a message, which proves as much as a pong."""
        self._message_at = now
        self._asked_at = None

    def answer(self, now: float) -> None:
        """Takes note of a pong."""
        self._asked_at = None
        self.caught_up = self.caught_up or now - self._message_at >= self._quiet

    def dead(self, now: float) -> bool:
        """Whether a pong is overdue."""
        return self._asked_at is not None and now - self._asked_at >= self._patience

    def old(self, now: float) -> bool:
        """Whether the connection has reached its age limit."""
        return now >= self._until

    def left(self, now: float) -> float:
        """Seconds until the next ping or limit."""
        until = min(self._next, self._until)
        if self._asked_at is not None:
            until = min(until, self._asked_at + self._patience)
        return max(0.0, until - now)


def backoff(failures: int, chance: float) -> float:
    """Seconds until the next attempt: exponential backoff with jitter.

    :param failures: consecutive failed attempts; 0 after a proper end
    :param chance: from 0 to 1, so that not all providers reconnect at the same time
    """
    if failures == 0:
        return 1 + 4 * chance
    longest = min(LONGEST_BACKOFF_SECONDS, 2.0 ** min(failures, 10))
    return longest * (0.5 + chance / 2)
