"""The calls of jobs.provider and of the integration module (contract: route table), as a Flask blueprint."""

import logging
import time
from typing import Any

from flask import Blueprint, Response, jsonify, request

from ucloud_slurm.errors import Problem, Refused
from ucloud_slurm.provider import Provider
from ucloud_slurm.store.health import SLURM
from ucloud_slurm.store.jobs import JobRow, Phase, Stop
from ucloud_slurm.ucloud.control import JobState, JobUpdate
from ucloud_slurm.ucloud.jobs import AclUpdate, Bulk, Job, UserName, Welcome
from ucloud_slurm.ucloud.products import ProductReference, support
from ucloud_slurm.ucloud.wire import M, decode
from ucloud_slurm.web.answers import responses
from ucloud_slurm.web.create import Create, row_of
from ucloud_slurm.worker.stop import cancel
from ucloud_slurm.worker.submit import end_unsubmitted

log = logging.getLogger(__name__)

NOT_SUPPORTED = "FEATURE_NOT_SUPPORTED_BY_PROVIDER"
# Routes of the contract that this release does not serve: each is answered with its reason, never with 404.
NOT_YET = {
    ("POST", "jobs/extend"): "Extending a job",
    ("POST", "jobs/suspend"): "Suspending a job",
    ("POST", "jobs/unsuspend"): "Suspending a job",
    ("POST", "jobs/interactiveSession"): "Opening a session in a job",
    ("GET", "jobs/retrieveUtilization"): "Showing the use of the machines",
    ("DELETE", "jobs"): "Deleting a job",
    ("POST", "jobs/init"): "Preparing for a user",
    ("POST", "integration/connect"): "Connecting a user",
    ("POST", "integration/unlinked"): "Connecting a user",
    ("GET", "integration/retrieveStatus"): "Showing the provider's status",
}


def blueprint(provider: Provider) -> Blueprint:
    """The routes under ``/ucloud/<provider id>``."""
    calls = Blueprint("calls", __name__, url_prefix=f"/ucloud/{provider.config.provider.id}")

    @calls.before_request
    def authenticate() -> None:
        # welcome is public by contract: it is what delivers the key.
        if request.endpoint != "calls.welcome":
            provider.tokens.verify(request.headers.get("Authorization"), provider.now())

    @calls.post("/jobs")
    def create() -> Response:
        jobs = body(Bulk[Job]).items
        ids = Create(provider).accept(jobs)
        response = jsonify(responses([{"id": id_} for id_ in ids]))
        response.call_on_close(lambda: _answered(provider, [job.id for job in jobs]))
        return response

    @calls.post("/jobs/terminate")
    def terminate() -> dict[str, Any]:
        jobs = body(Bulk[Job]).items
        _ours(provider, jobs)
        with provider.store.writing():
            for job in jobs:
                _mark(provider, job)
        deadline = time.monotonic() + provider.config.jobs.submit_within
        for job in jobs:
            row = provider.jobs.get(job.id)
            left = deadline - time.monotonic()
            if left <= 0 or not provider.health.may_ask(SLURM, provider.now()):
                break  # the worker does the rest
            if row is not None and row.phase is Phase.LIVE and not cancel(provider, row, left):
                break
        return responses([{} for _ in jobs])

    @calls.post("/jobs/verify")
    def verify() -> dict[str, Any]:
        jobs = body(Bulk[Job]).items
        _ours(provider, jobs)
        with provider.store.writing():
            for job in jobs:
                _correct(provider, job)
        return {}

    @calls.post("/jobs/updateAcl")
    def update_acl() -> dict[str, Any]:
        items = body(Bulk[AclUpdate]).items
        _ours(provider, [item.resource for item in items])
        return responses([{} for _ in items])

    @calls.get("/jobs/retrieveProducts")
    def retrieve_products() -> dict[str, Any]:
        id_ = provider.config.provider.id
        references = (ProductReference(id=p.id, category=p.category, provider=id_) for p in provider.config.products)
        return responses([support(reference) for reference in references])

    @calls.get("/integration/retrieveManifest")
    def manifest() -> dict[str, Any]:
        # Nobody has to connect: all jobs run as one account.
        return {"enabled": False, "expireAfterMs": None}

    @calls.post("/integration/init")
    def init() -> dict[str, Any]:
        body(UserName)
        return {}

    @calls.post("/integration/welcome")
    def welcome() -> dict[str, Any]:
        body(Welcome)
        # Only a provider that asked for approval may be given keys; this release is given them by hand.
        raise Refused("This provider has not asked for approval; its keys are put into its files by hand.")

    for (verb, path), what in NOT_YET.items():
        calls.add_url_rule(f"/{path}", f"not_yet_{verb}_{path}".replace("/", "_"), _not_yet(what), methods=[verb])
    return calls


def body(kind: type[M]) -> M:
    """The request's JSON, whatever content type came with it."""
    return decode(kind, request.get_data(cache=False))


def _not_yet(what: str) -> Any:
    def answer() -> Response:
        raise Refused(f"{what} is not supported by this provider.", error_code=NOT_SUPPORTED)

    return answer


def _answered(provider: Provider, ids: list[str]) -> None:
    try:
        provider.jobs.answered(ids, provider.now())
    except Problem as error:
        log.warning("the updates of %d jobs wait a little: %s", len(ids), error)


def _ours(provider: Provider, jobs: list[Job]) -> None:
    """Refuses jobs of another provider.

    :raises Refused: naming the item; nothing has been done
    """
    for number, job in enumerate(jobs):
        owner = job.specification.product.provider
        if owner != provider.config.provider.id:
            raise Refused(f"items[{number}].specification.product.provider: {owner} is not this provider.")


def _mark(provider: Provider, job: Job) -> None:
    """Writes down that the job is to end. One that has ended is told again."""
    row = provider.jobs.get(job.id)
    if row is None:
        _look_for(provider, job, stop=Stop.TERMINATED)
    elif row.phase in (Phase.ENDED, Phase.REFUSED):
        _tell_again(provider, row)
    else:
        provider.jobs.stop(row.id, Stop.TERMINATED, provider.now())
        if row.phase is Phase.ACCEPTED:
            end_unsubmitted(provider, row)


def _correct(provider: Provider, job: Job) -> None:
    """Tells UCloud what it has wrong about a job."""
    row = provider.jobs.get(job.id)
    if row is None:
        _look_for(provider, job)
    elif row.phase in (Phase.ENDED, Phase.REFUSED) or (row.state and row.state != job.status.state):
        _tell_again(provider, row)


def _tell_again(provider: Provider, row: JobRow) -> None:
    if row.phase is Phase.REFUSED:
        update = JobUpdate(JobState.FAILURE, row.refused_why or "The job was refused.")
    elif row.state is not None:
        update = JobUpdate(row.state, row.reason or "The job is in the queue.")
    else:
        return
    provider.jobs.tell_again(row.id, update, provider.now())


def _look_for(provider: Provider, job: Job, stop: Stop | None = None) -> None:
    """A job that we do not know: Slurm is asked for it by name before UCloud is told that it is gone."""
    now = provider.now()
    row = row_of(
        provider,
        job,
        phase=Phase.SUBMITTING,
        found_only=True,
        accepted_at=min(now, job.created_at / 1000),
        promised_at=now,
        answered_at=now,
        attempted_at=now,
    )
    if stop is not None:
        row |= {"stop": stop, "stop_at": now}
    provider.jobs.accept([row])
