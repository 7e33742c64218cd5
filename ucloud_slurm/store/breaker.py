"""The circuit breaker: whether Slurm and UCloud answer, shared by all processes. The health page reads it too."""

from dataclasses import dataclass

from ucloud_slurm.store.sqlite import Store

SLURM = "slurm"
UCLOUD = "ucloud"
CHANNEL = "channel"
OPEN_SECONDS = 15.0  # for which requests do not ask a part that did not answer
FAIR_TRIAL_SECONDS = 0.9  # a command that had less time and was ended says nothing about Slurm's health


@dataclass(frozen=True, slots=True)
class PartHealth:
    """The health of a part: Slurm, UCloud, or UCloud's channel. Times are seconds since the epoch.

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

    def allows(self, part: str, now: float) -> bool:
        """Whether requests may ask the part."""
        return now >= self.of(part).ask_again_at

    def _write(self, health: PartHealth) -> None:
        self._store.change(
            "insert into health (part, answering_since, failing_since, ask_again_at, reason) "
            "values (?1, ?2, ?3, ?4, ?5) "
            "on conflict (part) do update set answering_since = ?2, failing_since = ?3, ask_again_at = ?4, reason = ?5",
            [health.part, health.answering_since, health.failing_since, health.ask_again_at, health.reason],
        )
