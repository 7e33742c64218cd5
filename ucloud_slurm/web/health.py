"""For operators: is the process alive, can it work, how is it doing. No secrets, no questions to Slurm."""

from flask import Blueprint, Response, jsonify
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from ucloud_slurm.provider.context import Provider
from ucloud_slurm.store.breaker import CHANNEL, SLURM, UCLOUD
from ucloud_slurm.store.job_state import JobPhase
from ucloud_slurm.system.filelock import LISTENER, is_locked

NO_LISTENER = "the listener does not run; systemctl start ucloud-slurm-listener"


def blueprint(provider: Provider) -> Blueprint:
    """``/healthz``, ``/readyz`` and ``/metrics``."""
    health = Blueprint("health", __name__)
    parts = (SLURM, UCLOUD, CHANNEL) if provider.era.has_channel else (SLURM, UCLOUD)

    @health.get("/healthz")
    def alive() -> dict[str, str]:
        return {"status": "ok"}

    @health.get("/readyz")
    def ready() -> Response:
        reasons = [f"{part}: {reason}" for part in parts if (reason := _failing(provider, part)) is not None]
        response = jsonify({"ready": not reasons, "reasons": reasons})
        # 500 and not 503: whoever stands before us may take 503 for UCloud's "call init".
        response.status_code = 200 if not reasons else 500
        return response

    @health.get("/metrics")
    def metrics() -> Response:
        registry = CollectorRegistry()
        jobs = Gauge("ucloud_slurm_jobs", "Jobs by phase.", ["phase"], registry=registry)
        counts = provider.jobs.count()
        for phase in JobPhase:
            jobs.labels(phase.value).set(counts.get(phase.value, 0))
        waiting = Gauge("ucloud_slurm_outbox_waiting", "Messages that wait for UCloud.", registry=registry)
        waiting.set(provider.outbox.waiting())
        up = Gauge("ucloud_slurm_answers", "Whether a part answers (1) or not (0).", ["part"], registry=registry)
        for part in parts:
            up.labels(part).set(_failing(provider, part) is None)
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)

    return health


def _failing(provider: Provider, part: str) -> str | None:
    """Why a part does not do, None when it does."""
    if part == CHANNEL and not is_locked(provider.store.path, LISTENER):
        return NO_LISTENER
    condition = provider.breaker.of(part)
    return None if condition.failing_since is None else condition.reason
