"""For operators: whether the process is alive, whether it can work, and its metrics. Nothing here asks Slurm."""

from collections.abc import Iterator, Mapping

from flask import Blueprint, Response, jsonify
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Metric, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from ucloud_slurm.provider.audit import NO_ACCOUNT, AuditKind
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.health import Health
from ucloud_slurm.store.caches import MemoryInStore
from ucloud_slurm.store.fence import Holder
from ucloud_slurm.store.generation import Generation
from ucloud_slurm.ucloud.pauses import Pauses
from ucloud_slurm.web.metrics import Durations


def blueprint(provider: Provider, durations: Durations) -> Blueprint:
    """``/healthz``, ``/readyz`` and ``/metrics``."""
    place, health, gauges = (
        Blueprint("health", __name__),
        Health(provider.config, provider.era, provider.store, provider.now),
        CollectorRegistry(),
    )
    gauges.register(Gauges(provider, health))

    @place.get("/healthz")
    def alive() -> dict[str, str]:
        return {"status": "ok"}

    @place.get("/readyz")
    def ready() -> Response:
        reasons = [f"{part}: {reason}" for part in health.parts if (reason := health.why_failing(part)) is not None]
        if (elsewhere := provider.store.why_elsewhere()) is not None:
            reasons.append(f"standby: {elsewhere}")
        if (behind := health.why_behind()) is not None:
            reasons.append(f"database: {behind}")
        response = jsonify({"ready": not reasons, "reasons": reasons})
        # 500 and not 503: a proxy may pass it on, and UCloud takes 503 for "call init".
        response.status_code = 200 if not reasons else 500
        return response

    @place.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(gauges) + durations.exposition(), content_type=CONTENT_TYPE_LATEST)

    return place


class Gauges(Collector):
    """The state of the whole provider, read from the database: every process of the service shows the same."""

    def __init__(self, provider: Provider, health: Health) -> None:
        self._provider = provider
        self._health = health

    def collect(self) -> Iterator[Metric]:
        """See :class:`Collector`. An age that does not exist has no sample."""
        provider, health, found = self._provider, self._health, self._health.figures()
        if found.lease is not None:
            meaning = "Which of two hosts works as far as this one knows (1); missing without database.standby."
            yield _family("lease", meaning, "holder", {each: each is found.lease for each in Holder})
            if found.lease is Holder.ELSEWHERE:  # the rest is as the administrator left it
                return
            meaning = "Time since the standby folder last had the database of now; missing before the first copy."
            yield _gauge("standby_copy_age_seconds", meaning, found.copy_age)
        yield _family("jobs", "Jobs by phase.", "phase", found.jobs)
        yield _gauge("outbox_waiting", "Messages that wait for UCloud.", found.waiting)
        yield _gauge(
            "outbox_oldest_age_seconds",
            "Age of the oldest message that waits for UCloud; 0 while none waits.",
            found.oldest_age or 0.0,
        )
        yield _gauge("outbox_parked", "Messages that UCloud has refused for good.", provider.outbox.parked())
        yield _gauge(
            "last_pass_age_seconds",
            "Time since the last pass of the worker ended; missing before the first one.",
            found.pass_age,
        )
        yield _gauge(
            "backup_age_seconds",
            "Time since the last verified backup of the database was made; missing before the first one.",
            found.backup_age,
        )
        bytes_ = {
            "database": found.database_bytes,
            "log": found.log_bytes,
            "free": found.free_bytes,
            "minimum_free": provider.config.database.minimum_free,
        }
        meaning = "Of the database, of its write-ahead log, free on its disk, and with less of which no job is accepted."
        yield _family("database_bytes", meaning, "what", bytes_)
        behind = "Whether UCloud knows more than the database, so that nothing is reported (1), or not (0)."
        yield _gauge("database_behind", behind, Generation(provider.store).is_behind())
        yield _gauge("users_waiting", "Users whose own program does not answer, so that their jobs wait.", found.silent_users)
        audit = dict.fromkeys((*AuditKind, NO_ACCOUNT), 0) | dict(found.audit)
        yield _family("audit_findings", "What the last audit found that is not explained.", "kind", audit)
        refused = Pauses(MemoryInStore(provider.store), provider.now).refuses_token()
        yield _gauge("refresh_token_refused", "Whether UCloud has refused the refresh token (1) or not (0).", refused)
        if found.events is not None:
            meaning = "Events for programs of the site that wait, or have failed; missing without [[hooks]]."
            yield _family("hook_events", meaning, "state", found.events)
            meaning = "Age of the oldest event that waits for a program of the site; 0 while none waits."
            yield _gauge("hook_events_oldest_age_seconds", meaning, found.oldest_event_age or 0.0)
        answers = {part: health.why_failing(part) is None for part in health.parts}
        yield _family("answers", "Whether a part answers (1) or not (0).", "part", answers)


def _family(name: str, meaning: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"ucloud_slurm_{name}", meaning, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family


def _gauge(name: str, meaning: str, value: float | None) -> Metric:
    return GaugeMetricFamily(f"ucloud_slurm_{name}", meaning, value=value)
