"""For operators: whether the process is alive, whether it can work, and its metrics. Nothing here asks Slurm."""

import json
from collections.abc import Iterator, Mapping, Sequence

from flask import Blueprint, Response, jsonify
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Metric, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from ucloud_slurm.provider.audit import NO_ACCOUNT, AuditKind
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.store.backup import last_made
from ucloud_slurm.store.breaker import CHANNEL, RUNNER, SLURM, UCLOUD
from ucloud_slurm.store.caches import AUDIT, Cache
from ucloud_slurm.store.database_file import free_bytes, size
from ucloud_slurm.store.generation import Generation
from ucloud_slurm.store.job_state import JobPhase
from ucloud_slurm.system.filelock import LISTENER, WORKER, is_locked, last_released
from ucloud_slurm.users.impersonation import RunnerUnavailableError, connect
from ucloud_slurm.web.metrics import Durations

LATE_SECONDS = 600.0  # after the end of the last pass: 40 times the 15 s of the timer, twice what systemd gives a pass
NEVER_ENDED = "no pass has ended yet; systemctl enable --now ucloud-slurm-worker.timer"
LATE = "no pass has ended for {:.0f} min; systemctl list-timers ucloud-slurm-worker.timer; journalctl -u ucloud-slurm-worker"
NO_LISTENER = "the listener does not run; systemctl start ucloud-slurm-listener"


def blueprint(provider: Provider, durations: Durations) -> Blueprint:
    """``/healthz``, ``/readyz`` and ``/metrics``."""
    health = Blueprint("health", __name__)
    others = provider.config.users.mapping != "service"  # whose jobs the runner submits
    parts = (WORKER, SLURM, UCLOUD, *([CHANNEL] if provider.era.has_channel else []), *([RUNNER] if others else []))
    gauges = CollectorRegistry()
    gauges.register(Gauges(provider, parts))

    @health.get("/healthz")
    def alive() -> dict[str, str]:
        return {"status": "ok"}

    @health.get("/readyz")
    def ready() -> Response:
        reasons = [f"{part}: {reason}" for part in parts if (reason := _failing(provider, part)) is not None]
        if (behind := Generation(provider.store).why_behind()) is not None:
            reasons.append(f"database: {behind}, and nothing is reported to UCloud; run ucloud-slurm reconcile")
        response = jsonify({"ready": not reasons, "reasons": reasons})
        # 500 and not 503: a proxy may pass it on, and UCloud takes 503 for "call init".
        response.status_code = 200 if not reasons else 500
        return response

    @health.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(gauges) + durations.exposition(), content_type=CONTENT_TYPE_LATEST)

    return health


class Gauges(Collector):
    """The state of the whole provider, read from the database: every process of the service shows the same.

    :param parts: whose circuit breakers are shown
    """

    def __init__(self, provider: Provider, parts: Sequence[str]) -> None:
        self._provider = provider
        self._parts = parts

    def collect(self) -> Iterator[Metric]:
        """See :class:`Collector`. An age that does not exist has no sample."""
        provider = self._provider
        now, counts = provider.now(), provider.jobs.count()
        yield _family("jobs", "Jobs by phase.", "phase", {phase: counts.get(phase, 0) for phase in JobPhase})
        yield _gauge("outbox_waiting", "Messages that wait for UCloud.", provider.outbox.waiting())
        oldest, passed = provider.outbox.oldest_waiting(), last_released(provider.store.path, WORKER)
        yield _gauge(
            "outbox_oldest_age_seconds",
            "Age of the oldest message that waits for UCloud; 0 while none waits.",
            0.0 if oldest is None else now - oldest,
        )
        yield _gauge(
            "last_pass_age_seconds",
            "Time since the last pass of the worker ended; missing before the first one.",
            None if passed is None else now - passed,
        )
        yield from _database(provider, now)
        waiting = provider.breaker.persons(now)
        yield _gauge("users_waiting", "Users whose own program does not answer, so that their jobs wait.", waiting)
        yield _family("audit_findings", "What the last audit found that is not explained.", "kind", _audited(provider))
        answers = {part: _failing(provider, part) is None for part in self._parts}
        yield _family("answers", "Whether a part answers (1) or not (0).", "part", answers)


def late(ended: float | None, now: float) -> str | None:
    """Why the passes of the worker have stopped; None while they have not. Its jobs are not followed then.

    :param ended: when the last pass ended, in seconds since the epoch; None: there was none yet
    """
    if ended is None:
        return NEVER_ENDED
    return LATE.format((now - ended) / 60) if now - ended > LATE_SECONDS else None


def _database(provider: Provider, now: float) -> Iterator[Metric]:
    path = provider.store.path
    made = last_made(path, provider.config.database.backup_folder)
    yield _gauge(
        "backup_age_seconds",
        "Time since the last verified backup of the database was made; missing before the first one.",
        None if made is None else now - made,
    )
    bytes_ = {"database": size(path), "log": size(f"{path}-wal"), "free": free_bytes(path.parent)}
    yield _family("database_bytes", "Of the database, of its write-ahead log, and free on its disk.", "what", bytes_)


def _audited(provider: Provider) -> Mapping[str, float]:
    """The counts of the last audit, 0 where it has found none."""
    kept = Cache(provider.store, AUDIT).get("", provider.now(), stale=True)
    counts = {} if kept is None else {kind: count for kind, count in json.loads(kept).items() if kind != "until"}
    return dict.fromkeys((*AuditKind, NO_ACCOUNT), 0) | counts


def _family(name: str, meaning: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"ucloud_slurm_{name}", meaning, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family


def _gauge(name: str, meaning: str, value: float | None) -> Metric:
    return GaugeMetricFamily(f"ucloud_slurm_{name}", meaning, value=value)


def _failing(provider: Provider, part: str) -> str | None:
    """Why a part fails; None while it does not."""
    if part == WORKER:
        return late(last_released(provider.store.path, WORKER), provider.now())
    if part == CHANNEL and not is_locked(provider.store.path, LISTENER):
        return NO_LISTENER
    if part == RUNNER:
        try:
            connect(provider.config.users.runner).close()
        except RunnerUnavailableError as error:
            return str(error)
        return None
    condition = provider.breaker.of(part)
    return None if condition.failing_since is None else condition.reason
