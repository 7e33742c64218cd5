"""When to ping, when a connection is dead, and how long to wait before the next one. Times are monotonic seconds."""

PING_SECONDS = 30.0  # seconds from ping to ping
PONG_SECONDS = 20.0  # seconds that UCloud has for its answer
QUIET_SECONDS = 10.0  # seconds without a message after which everything old has been said
LIFE_SECONDS = 86400.0  # seconds that a connection lasts
LONGEST_BACKOFF_SECONDS = 60.0  # seconds between two attempts


class Pulse:
    """Whether a connection lives.

    UCloud does not say when it has said everything old, nor keeps to an order while it does. So that is taken for
    done when an answer to a ping comes after a silence: what was sent before the answer has arrived before it.

    :ivar caught_up: everything old has been said
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
        """Whether it is time for a ping; if so, one is taken to be sent."""
        if now < self._next:
            return False
        self._next = now + self._every
        if self._asked_at is None:
            self._asked_at = now
        return True

    def message(self, now: float) -> None:
        """A message came. That is as good as an answer."""
        self._message_at = now
        self._asked_at = None

    def answer(self, now: float) -> None:
        """An answer to a ping came."""
        self._asked_at = None
        self.caught_up = self.caught_up or now - self._message_at >= self._quiet

    def dead(self, now: float) -> bool:
        """Whether an answer is overdue."""
        return self._asked_at is not None and now - self._asked_at >= self._patience

    def old(self, now: float) -> bool:
        """Whether the connection has lasted long enough."""
        return now >= self._until

    def left(self, now: float) -> float:
        """Seconds until there is something to do."""
        until = min(self._next, self._until)
        if self._asked_at is not None:
            until = min(until, self._asked_at + self._patience)
        return max(0.0, until - now)


def backoff(failures: int, chance: float) -> float:
    """Seconds until the next attempt.

    :param failures: how many attempts have failed one after the other; 0 after a proper end
    :param chance: from 0 to 1, so that not all providers come back at the same time
    """
    if failures == 0:
        return 1 + 4 * chance
    longest = min(LONGEST_BACKOFF_SECONDS, 2.0 ** min(failures, 10))
    return longest * (0.5 + chance / 2)
