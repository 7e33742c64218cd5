"""The circuit breaker: whether Slurm and UCloud answer, shared by all processes. The health page reads it too."""

from collections.abc import Sequence
from typing import NamedTuple

from ucloud_slurm.store.sqlite import Store

SLURM = "slurm"
UCLOUD = "ucloud"
CHANNEL = "channel"
RUNNER = "runner"
OPEN_SECONDS = 15.0  # for which requests do not ask a part that did not answer
LONGEST_SECONDS = 600.0  # for which a user's program that has failed for long is not asked
FORGET_SECONDS = 3600.0  # after which a user's program that nobody asked again is forgotten
FAIR_TRIAL_SECONDS = 0.9  # a command that had less time and was ended says nothing about Slurm's health


class PartHealth(NamedTuple):
    """The health of a part: Slurm, UCloud, UCloud's channel, the runner, a user's program. Times: seconds since the epoch.

    :ivar answering_since: since when it has answered without a failure; None while it fails
    :ivar failing_since: when it failed first; None while it answers
    :ivar ask_again_at: requests do not ask it before
    :ivar reason: of the last failure
    """

    part: str
    answering_since: float | None = None
    failing_since: float | None = None
    ask_again_at: float = 0.0
    reason: str = ""


def person(user: str) -> str:
    """The part that a user's own program is: the user may kill it, stop it, or have it answer anything."""
    return f"user:{user}"


class CircuitBreaker:
    """The health of the parts. It is written only when it changes, or when a failure lasts."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def of(self, part: str) -> PartHealth:
        """The health of a part, also of one that was never asked."""
        row = self._store.row("select * from health where part = ?", [part])
        return PartHealth(**row) if row else PartHealth(part)

    def record_success(self, part: str, now: float) -> None:
        """The part has answered: the breaker closes."""
        health = self.of(part)
        if health.answering_since is None or health.ask_again_at > 0:
            self._write(PartHealth(part, answering_since=health.answering_since or now))

    def record_failure(self, part: str, reason: str, now: float, seconds: float = OPEN_SECONDS) -> None:
        """The part has not answered: the breaker is open for some seconds."""
        health = self.of(part)
        self._write(PartHealth(part, None, health.failing_since or now, now + seconds, reason))

    def open(self, part: str, reason: str, now: float, seconds: float = OPEN_SECONDS) -> None:
        """The breaker is open for some seconds, without a failure on the health page."""
        health = self.of(part)
        self._write(PartHealth(part, health.answering_since, health.failing_since, now + seconds, reason))

    def record_person(self, user: str, reason: str, now: float) -> None:
        """A user's own program has not answered: only that user's breaker opens, for as long as it has been failing."""
        since = self.of(person(user)).failing_since or now
        self.record_failure(person(user), reason, now, min(max(OPEN_SECONDS, now - since), LONGEST_SECONDS))
        self.prune(now)

    def forget_person(self, user: str) -> None:
        """A user's own program has answered."""
        if self.of(person(user)).ask_again_at > 0:
            self._store.change("delete from health where part = ?", [person(user)])

    def prune(self, now: float) -> None:
        """Forgets users' own programs that nobody has asked for long."""
        self._store.change("delete from health where part glob 'user:*' and ask_again_at < ?", [now - FORGET_SECONDS])

    def persons(self, now: float) -> int:
        """How many users' own programs are not asked at the moment."""
        row = self._store.row("select count(*) as n from health where part glob 'user:*' and ask_again_at > ?", [now])
        return int(row["n"]) if row else 0

    def allows(self, part: str, now: float) -> bool:
        """Whether requests may ask the part."""
        return self.allow([part], now)

    def allow(self, parts: Sequence[str], now: float) -> bool:
        """Whether requests may ask all of these parts."""
        marks = ", ".join("?" * len(parts))
        row = self._store.row(f"select max(ask_again_at) as until from health where part in ({marks})", parts)
        return row is None or row["until"] is None or now >= row["until"]

    def _write(self, health: PartHealth) -> None:
        self._store.change(
            "insert into health (part, answering_since, failing_since, ask_again_at, reason) "
            "values (?1, ?2, ?3, ?4, ?5) "
            "on conflict (part) do update set answering_since = ?2, failing_since = ?3, ask_again_at = ?4, reason = ?5",
            [health.part, health.answering_since, health.failing_since, health.ask_again_at, health.reason],
        )
