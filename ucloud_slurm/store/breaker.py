"""Whether Slurm and UCloud answer, shared by all processes: the breaker of requests, the light on the console."""

from dataclasses import dataclass

from ucloud_slurm.store.sqlite import Store

SLURM = "slurm"
UCLOUD = "ucloud"
CHANNEL = "channel"


@dataclass(frozen=True, slots=True)
class Condition:
    """How a part does. Times are seconds since the epoch.

    :ivar answering_since: since when it has answered without a failure, None while it fails
    :ivar ask_again_at: requests do not ask before
    :ivar reason: of the last failure
    """

    part: str
    answering_since: float | None = None
    failing_since: float | None = None
    ask_again_at: float = 0.0
    reason: str = ""


class CircuitBreaker:
    """The conditions of the parts. Written only when something changes, or a failure goes on."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def of(self, part: str) -> Condition:
        """The condition of a part; one that was never asked counts as well."""
        row = self._store.row("select * from health where part = ?", [part])
        return Condition(**row) if row else Condition(part)

    def record_success(self, part: str, now: float) -> None:
        """The part has answered."""
        condition = self.of(part)
        if condition.answering_since is None or condition.ask_again_at > 0:
            self._keep(Condition(part, answering_since=condition.answering_since or now))

    def record_failure(self, part: str, reason: str, now: float, pause: float) -> None:
        """The part has not answered; requests leave it alone for ``pause`` seconds."""
        condition = self.of(part)
        self._keep(Condition(part, None, condition.failing_since or now, now + pause, reason))

    def open(self, part: str, reason: str, now: float, pause: float) -> None:
        """Something about the part was odd: requests leave it alone, but it is not said to fail."""
        condition = self.of(part)
        self._keep(Condition(part, condition.answering_since, condition.failing_since, now + pause, reason))

    def allows(self, part: str, now: float) -> bool:
        """Whether a request should try at all."""
        return now >= self.of(part).ask_again_at

    def _keep(self, condition: Condition) -> None:
        self._store.change(
            "insert into health (part, answering_since, failing_since, ask_again_at, reason) "
            "values (?1, ?2, ?3, ?4, ?5) "
            "on conflict (part) do update set answering_since = ?2, failing_since = ?3, ask_again_at = ?4, reason = ?5",
            [
                condition.part,
                condition.answering_since,
                condition.failing_since,
                condition.ask_again_at,
                condition.reason,
            ],
        )
