"""Submission of a job in two phases: `start` prepares it, `conclude` sends it to Slurm after the job was claimed.

One job, one Slurm job: an attempt is claimed in the database before anything is sent. If its outcome is unknown the
job is looked up before the next attempt (:mod:`ucloud_slurm.worker.recovery`).
"""

import logging
import secrets
import time
from contextlib import suppress
from enum import Enum, auto
from typing import NamedTuple

from ucloud_slurm.bridge import naming
from ucloud_slurm.bridge.errors import problem
from ucloud_slurm.bridge.naming import SCRIPT_NAME, LocalUser
from ucloud_slurm.bridge.script.build import batch_job
from ucloud_slurm.bridge.script.resources import plan
from ucloud_slurm.errors import CoreRefusedError, NotNow, Refused, StorageError, StorageFullError, one_line
from ucloud_slurm.provider import modules, slurm_accounts
from ucloud_slurm.provider.cancellation import cancel_duplicate
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.drives import roots_of_job
from ucloud_slurm.provider.lookup import Lookup
from ucloud_slurm.provider.rendering import REQUEST_SECONDS, WORKER_SECONDS, render
from ucloud_slurm.slurm.errors import OutcomeUnknownError, SchedulerUnavailableError, SubmissionRefusedError
from ucloud_slurm.slurm.identity import BuiltJob
from ucloud_slurm.slurm.records import SlurmJobId, Submission
from ucloud_slurm.slurm.scheduler import PendingSubmission
from ucloud_slurm.store.breaker import RUNNER, SLURM, person
from ucloud_slurm.store.job_rows import NewJob
from ucloud_slurm.system import request_id
from ucloud_slurm.system.process import Preparation
from ucloud_slurm.ucloud.jobs import Job
from ucloud_slurm.users.impersonation import ImpersonationDeniedError, ImpersonationUnavailableError, RunnerUnavailableError
from ucloud_slurm.users.mapping import Identity

log = logging.getLogger(__name__)

CLAIM_MARGIN_SECONDS = 5.0  # that a claim outlives the time limit of its submission
PING_SECONDS = 2.0


class FolderError(StorageFullError):
    """The job's folder cannot be made or written; nothing was submitted."""


class SubmissionOutcome(Enum):
    """What came of an attempt to submit a job. It is in the database as well."""

    SUBMITTED = auto()
    REFUSED = auto()
    UNKNOWN = auto()
    NOT_SENT = auto()  # Slurm has not heard of it, and the claim is released


def new_job(job: Job, fingerprint: str, user: LocalUser, accepted_at: float, submission: Submission | None = None) -> NewJob:
    """What is written of a job of UCloud's.

    :param fingerprint: of the job (:func:`naming.fingerprint`)
    :param user: the Unix user that it runs as
    :param accepted_at: seconds since the epoch
    :param submission: its batch job, if it is built
    """
    specification = job.specification
    return NewJob(
        id=job.id,
        name=naming.slurm_name(job),
        local_user=user.user,
        owner=job.owner.created_by,
        project=job.owner.project,
        category=specification.product.category,
        product=specification.product.id,
        fingerprint=fingerprint,
        body=job.model_dump_json(by_alias=True, exclude={"status": {"resolved_application", "resolved_product"}}),
        accepted_at=accepted_at,
        uid=user.uid,
        secret=secrets.token_hex(16),
        request_id=request_id.current(),
        built=None if submission is None else BuiltJob.of(submission).text,
    )


def build(provider: Provider, lookup: Lookup, job: Job, identity: Identity) -> Submission:
    """Builds the batch job of a UCloud job.

    :param identity: whom it runs as
    :raises Problem: the job cannot be run here, in words for the researcher
    :raises CoreUnavailableError: UCloud had to be asked for the application and did not answer
    :raises SchedulerUnavailableError: Slurm had to be asked for the accounts of a person and did not answer
    :raises RenderingUnavailableError: the application's template could not be rendered yet
    """
    reference = job.specification.product
    product = provider.config.product(reference.category, reference.id)
    if reference.provider != provider.config.provider.id or product is None:
        named = one_line(f"{reference.id} in {reference.category} of {reference.provider}", 100)
        raise Refused(f"specification.product: {named} is not a machine of this provider.")
    application = lookup.application(job)
    known_here = product.cpus is not None and product.memory_gb is not None and product.gpus is not None
    try:
        dimensions = None if known_here else lookup.product(reference, job)
    except CoreRefusedError:
        dimensions = None
    partitions = lookup.partitions()
    if partitions is not None and product.partition not in partitions:
        raise Refused(f"{product.id} is not in service: the cluster has no partition {product.partition}.")
    within = WORKER_SECONDS if (left := lookup.left()) is None else min(REQUEST_SECONDS, left)
    return batch_job(
        job,
        application,
        product,
        plan(job, application, product, dimensions, partitions[product.partition] if partitions else None),
        identity.person,
        provider=provider.config.provider.id,
        folder=provider.config.jobs.folder,
        sessions_url=provider.config.sessions.url,
        roots=[*roots_of_job(provider, job, lookup, identity), *provider.config.files],
        containers=provider.config.containers,
        applications=provider.config.applications,
        render=lambda request: render(request, within),
        modules_init=provider.config.jobs.modules_init,
        account=identity.account or slurm_accounts.chosen(provider, job, product, identity),
        own_words=provider.era.has_own_words,
        listed_modules=modules.known_modules(provider),
    )


def with_nonce(submission: Submission, secret: str | None, attempt: int) -> Submission:
    """The batch job of one attempt: by the nonce in its comment it is known as ours, should its answer be lost.

    :param secret: the job's own; None for a job of an earlier release
    """
    return submission._replace(comment=f"{submission.comment}:{naming.nonce(secret, attempt)}") if secret else submission


def lease(provider: Provider, waits: float = 0.0) -> tuple[float, float]:
    """How long a claim lasts that is made now.

    :param waits: seconds after which the submission begins at the latest
    :returns: when it expires, in seconds since the epoch, and by when the job must be sent, in monotonic seconds
    """
    lasts = waits + CLAIM_MARGIN_SECONDS
    return provider.now() + provider.config.slurm.timeout + lasts, time.monotonic() + lasts


def parts_of(provider: Provider, user: str) -> list[str]:
    """The parts that must answer for a submission as that user."""
    return [SLURM] if user == provider.account else [SLURM, RUNNER, person(user)]


def may_submit(provider: Provider, user: str) -> bool:
    """Whether a submission as that user may begin now: all parts that it needs answered a moment ago, as far as is known."""
    return provider.breaker.allow(parts_of(provider, user), provider.now())


def submit_accepted(provider: Provider, job_id: str, secret: str | None, submission: Submission) -> SubmissionOutcome | None:
    """Claims an accepted job, and submits it.

    :param secret: the job's own (:func:`with_nonce`)
    :param submission: its batch job, without a nonce
    :returns: None where it is not submitted now: another process has claimed it, it must end or wait, or a part is away
    :raises FolderError: nothing was submitted
    :raises StorageError: the claim or the outcome could not be written
    """
    if not may_submit(provider, submission.user):
        return None
    claimed_until, send_by = lease(provider)
    built, pace = BuiltJob.of(submission).text, provider.config.slurm.submit_per_second
    attempt = provider.jobs.claim([job_id], provider.now(), claimed_until, pace, built=built).get(job_id)
    return None if attempt is None else conclude(provider, job_id, with_nonce(submission, secret, attempt), attempt, send_by)


class StartedSubmission(NamedTuple):
    """A submission that is not sent yet: Slurm's command loads meanwhile."""

    pending: PendingSubmission
    preparation: Preparation


def start(provider: Provider, submission: Submission) -> StartedSubmission | None:
    """Starts a submission; None where it cannot be started: :func:`conclude` tries again, and records why."""
    with suppress(SchedulerUnavailableError, ImpersonationUnavailableError, ImpersonationDeniedError):
        return _start(provider, submission)
    return None


def _start(provider: Provider, submission: Submission) -> StartedSubmission:
    impersonation, within = provider.impersonation(submission.user), provider.config.slurm.timeout
    preparation = impersonation.preparation(submission.folder, {SCRIPT_NAME: submission.script}, within)
    return StartedSubmission(provider.scheduler.start(submission, preparation.start), preparation)


def abandon(started: StartedSubmission | None) -> None:
    """Releases a submission that has been started and is not to be sent."""
    if started is not None:
        started.pending.abandon()


def conclude(
    provider: Provider,
    job_id: str,
    submission: Submission,
    attempt: int,
    send_by: float,
    started: StartedSubmission | None = None,
    *,
    acknowledge: bool = False,
) -> SubmissionOutcome:
    """Submits a job that has been claimed, and records what came of it.

    :param attempt: number of the claimed attempt; the outcome is recorded only while no later one has begun
    :param send_by: when the claim would not last for Slurm's answer any more (:func:`lease`)
    :param started: the submission, where it has been
    :param acknowledge: its create is answered with success once Slurm has the job
    :raises FolderError: nothing was submitted, and the claim is released
    :raises StorageError: the outcome could not be recorded; the job is looked up by its name later
    """
    jobs, user = provider.jobs, submission.user
    cluster, shape = provider.scheduler.cluster, BuiltJob.of(submission).shape(submission.name)  # while sbatch loads
    try:
        slurm_id = _send(provider, submission, send_by, started)
    except StorageFullError as error:
        jobs.release_claim([job_id], attempt)
        raise FolderError(error.why) from None
    except ImpersonationDeniedError as error:
        jobs.refused(job_id, error.status, error.why, provider.now(), attempt=attempt)
        return SubmissionOutcome.REFUSED
    except SubmissionRefusedError as refusal:
        answer = problem(refusal.reason)
        log.info("job %s: Slurm refused it: %s", job_id, refusal.reason)
        jobs.refused(job_id, answer.status, answer.why, provider.now(), attempt=attempt)
        _record_answer(provider, user)
        return SubmissionOutcome.REFUSED
    except (ImpersonationUnavailableError, SchedulerUnavailableError) as error:
        log.warning("job %s: not submitted yet: %s", job_id, error)
        jobs.release_claim([job_id], attempt)
        _record_failure(provider, user, error)
        return SubmissionOutcome.NOT_SENT
    except OutcomeUnknownError as error:
        log.warning("job %s: the outcome of its submission is unknown: %s", job_id, error)
        jobs.mark_outcome_unknown(job_id, attempt, provider.now())
        _record_failure(provider, user, error)
        return SubmissionOutcome.UNKNOWN
    if slurm_id is None:
        # The claim could expire before Slurm has answered, and another process look for the job in vain.
        log.warning("job %s: its folder took too long; it is looked up before the next attempt", job_id)
        return SubmissionOutcome.UNKNOWN
    log.info("job %s: is Slurm job %d", job_id, slurm_id)
    acknowledged_at = provider.now() if acknowledge else None
    if not jobs.submitted(
        job_id, slurm_id, None, cluster=cluster, shape=shape, attempt=attempt, acknowledged_at=acknowledged_at
    ):
        # It arrived when a later attempt had begun, or the job had ended, unless it was found by its name meanwhile.
        row = jobs.get(job_id)
        if row is None or row.slurm_id != slurm_id:
            cancel_duplicate(provider, job_id, slurm_id, row.uid if row is not None else None)
    _record_answer(provider, user)
    return SubmissionOutcome.SUBMITTED


def _record_answer(provider: Provider, user: str) -> None:
    if user != provider.account:
        with suppress(StorageError):
            provider.breaker.forget_person(user)


def _record_failure(provider: Provider, user: str, error: NotNow) -> None:
    """Opens the breaker of the part that failed.

    What another user's program answers, or does not, says nothing about Slurm: Slurm is asked by this account.
    """
    breaker, now = provider.breaker, provider.now()
    if isinstance(error, RunnerUnavailableError):
        breaker.open(RUNNER, str(error), now)
    elif user != provider.account:
        if isinstance(error, OutcomeUnknownError) and breaker.allows(SLURM, now):
            try:
                provider.scheduler.ping(PING_SECONDS)
            except SchedulerUnavailableError as own:
                breaker.record_failure(SLURM, str(own), now)
                return
        breaker.record_person(user, one_line(str(error)), now)
    elif isinstance(error, OutcomeUnknownError):
        breaker.open(SLURM, str(error), now)
    else:
        breaker.record_failure(SLURM, str(error), now)


def _send(provider: Provider, submission: Submission, send_by: float, started: StartedSubmission | None) -> SlurmJobId | None:
    """Has the job's folder made and sends the job; None when the claim does not last for it."""
    started = started or _start(provider, submission)
    in_time = False
    try:
        started.preparation.ready()
        in_time = time.monotonic() <= send_by
    finally:
        if not in_time:
            started.pending.abandon()
    return started.pending.send(provider.config.slurm.timeout) if in_time else None
