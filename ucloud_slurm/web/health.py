"""For operators: is the process alive, can it work, how is it doing. No secrets, no questions to Slurm."""

from flask import Blueprint, Response, jsonify
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from ucloud_slurm.provider import Provider
from ucloud_slurm.store.health import CHANNEL, SLURM, UCLOUD
from ucloud_slurm.store.jobs import Phase


def blueprint(provider: Provider) -> Blueprint:
    """``/healthz``, ``/readyz`` and ``/metrics``."""
    health = Blueprint("health", __name__)
    parts = (SLURM, UCLOUD, CHANNEL) if provider.era.has_channel else (SLURM, UCLOUD)

    @health.get("/healthz")
    def alive() -> dict[str, str]:
        return {"status": "ok"}

    @health.get("/readyz")
    def ready() -> Response:
        conditions = [provider.health.of(part) for part in parts]
        reasons = [f"{c.part}: {c.reason}" for c in conditions if c.failing_since is not None]
        response = jsonify({"ready": not reasons, "reasons": reasons})
        # 500 and not 503: whoever stands before us may take 503 for UCloud's "call init".
        response.status_code = 200 if not reasons else 500
        return response

    @health.get("/metrics")
    def metrics() -> Response:
        registry = CollectorRegistry()
        jobs = Gauge("ucloud_slurm_jobs", "Jobs by phase.", ["phase"], registry=registry)
        counts = provider.jobs.count()
        for phase in Phase:
            jobs.labels(phase.value).set(counts.get(phase.value, 0))
        waiting = Gauge("ucloud_slurm_outbox_waiting", "Messages that wait for UCloud.", registry=registry)
        waiting.set(provider.outbox.waiting())
        up = Gauge("ucloud_slurm_answers", "Whether a part answers (1) or not (0).", ["part"], registry=registry)
        for part in parts:
            up.labels(part).set(provider.health.of(part).failing_since is None)
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)

    return health
