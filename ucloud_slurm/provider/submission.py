"""Submitting: now, or what is owed.

One job, one Slurm job: a submission is claimed in the database before it begins. If its outcome is not known it is
looked up before it is tried again (:mod:`ucloud_slurm.worker.recovery`).
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial

from ucloud_slurm.bridge import naming
from ucloud_slurm.bridge.errors import problem
from ucloud_slurm.bridge.script.build import batch_job
from ucloud_slurm.bridge.script.resources import plan
from ucloud_slurm.errors import Forbidden, Problem, Refused, StorageFull, StorageTrouble, one_line
from ucloud_slurm.provider import slurm_accounts
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.isolation import isolate_errors
from ucloud_slurm.provider.lookup import Lookup
from ucloud_slurm.provider.rendering import LIMIT, PATIENCE, NotRendered, render
from ucloud_slurm.slurm.errors import ActionRefused, OutcomeUnknown, SchedulerAway, SubmissionRefused
from ucloud_slurm.slurm.records import SlurmJobId, Submission
from ucloud_slurm.store.breaker import OPEN_SECONDS, SLURM
from ucloud_slurm.store.job_rows import JobRow, NewJob
from ucloud_slurm.store.job_state import Stop
from ucloud_slurm.system.executor import round_robin
from ucloud_slurm.ucloud.errors import CoreAway, CoreRefused
from ucloud_slurm.ucloud.jobs import Job
from ucloud_slurm.ucloud.reports import JobState, JobUpdate
from ucloud_slurm.users.impersonation import Impersonation, ImpersonationDenied, ImpersonationUnavailable
from ucloud_slurm.users.mapping import Identity, NoAnswer

log = logging.getLogger(__name__)

FIRST = 1  # attempt
CLAIM_MARGIN = 5.0  # seconds that a claim outlives the time limit of its submission
MOST_BUILT = 100  # batch jobs that wait for their turn in memory
SCRIPT = "job.sh"


class FolderTrouble(StorageFull):
    """The job's folder cannot be made or written; nothing was submitted."""


class _NotOurs(Exception):
    """Somebody else submits the job, or nobody does."""


def new_job(job: Job, fingerprint: str, local_user: str, accepted_at: float) -> NewJob:
    """What is written of a job of UCloud's.

    :param fingerprint: of the job (:func:`naming.fingerprint`)
    :param local_user: the Unix user that it runs as
    :param accepted_at: seconds since the epoch
    """
    specification = job.specification
    return NewJob(
        id=job.id,
        name=naming.slurm_name(job),
        local_user=local_user,
        owner=job.owner.created_by,
        project=job.owner.project,
        category=specification.product.category,
        product=specification.product.id,
        fingerprint=fingerprint,
        body=job.model_dump_json(by_alias=True, exclude={"status": {"resolved_application", "resolved_product"}}),
        accepted_at=accepted_at,
    )


def build(provider: Provider, lookup: Lookup, job: Job, identity: Identity) -> Submission:
    """Builds the batch job of a UCloud job.

    :param identity: whom it runs as
    :raises Problem: the job cannot be run here, in words for the researcher
    :raises CoreAway: UCloud had to be asked for the application and did not answer
    :raises SchedulerAway: Slurm had to be asked for the accounts of a person and did not answer
    :raises NotRendered: the application's template could not be rendered yet
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
    except CoreRefused:
        dimensions = None
    partitions = lookup.partitions()
    if partitions is not None and product.partition not in partitions:
        raise Refused(f"{product.id} is not in service: the cluster has no partition {product.partition}.")
    left = lookup.left()
    within = PATIENCE if left is None else min(LIMIT, left)
    return batch_job(
        job,
        application,
        product,
        plan(job, application, product, dimensions, partitions[product.partition] if partitions else None),
        identity.person,
        provider=provider.config.provider.id,
        folder=provider.config.jobs.folder,
        sessions_url=provider.config.sessions.url,
        roots=provider.config.files,
        containers=provider.config.containers,
        applications=provider.config.applications,
        render=lambda request: render(request, within),
        modules_init=provider.config.jobs.modules_init,
        account=identity.account or slurm_accounts.chosen(provider, job, product, identity),
        own_words=provider.era.has_own_words,
    )


def claimed_until(provider: Provider, waits: float = 0.0) -> float:
    """Until when a claim holds that is made now.

    :param waits: seconds after which the submission begins at the latest
    """
    return provider.now() + waits + provider.config.slurm.timeout + CLAIM_MARGIN


def submit(
    provider: Provider,
    job_id: str,
    submission: Submission,
    *,
    claimed: Callable[[], bool] | None = None,
    promises: bool = False,
) -> None:
    """Submits an accepted job, unless somebody else is at it. What came of it stands in the database.

    :param claimed: claims it as its first attempt and says whether it could; called while the command of Slurm's
        starts. Left out: it is claimed here, before that
    :param promises: create is answered with success when Slurm has the job
    :raises FolderTrouble: nothing was submitted, and it is owed again
    :raises StorageTrouble: the database could not be written; the job is looked up later
    """
    begun = time.monotonic()
    attempt: int | None = FIRST
    if claimed is None:
        pace = provider.config.slurm.submit_per_second
        attempt = provider.jobs.claim(job_id, provider.now(), claimed_until(provider), pace)
    if attempt is None:
        return
    jobs, impersonation = provider.jobs, provider.impersonation(submission.user)

    def before() -> None:
        if claimed is not None and not claimed():
            raise _NotOurs
        impersonation.prepare(submission.folder, {SCRIPT: submission.script})
        if time.monotonic() - begun > CLAIM_MARGIN:
            # The claim could run out before Slurm has answered, and somebody else look for the job in vain.
            log.warning("job %s: its folder took too long; it is looked up before it is tried again", job_id)
            raise _NotOurs

    try:
        slurm_id = _send(provider, submission, impersonation, before, claimed)
    except _NotOurs:
        return
    except StorageFull as error:
        jobs.release_claim([job_id], attempt)
        raise FolderTrouble(error.why) from None
    except ImpersonationDenied as error:
        jobs.refused(job_id, error.status, error.why, provider.now(), attempt=attempt)
    except ImpersonationUnavailable as error:
        log.warning("job %s: not submitted yet: %s", job_id, error)
        jobs.release_claim([job_id], attempt)
    except SubmissionRefused as refusal:
        answer = problem(refusal.reason)
        log.info("job %s: Slurm refused it: %s", job_id, refusal.reason)
        jobs.refused(job_id, answer.status, answer.why, provider.now(), attempt=attempt)
    except OutcomeUnknown as error:
        log.warning("job %s: the outcome of its submission is unknown: %s", job_id, error)
        jobs.mark_outcome_unknown(job_id, attempt, provider.now())
        provider.breaker.open(SLURM, str(error), provider.now(), OPEN_SECONDS)
    except SchedulerAway as error:
        log.warning("job %s: not submitted yet: %s", job_id, error)
        jobs.release_claim([job_id], attempt)
        provider.breaker.record_failure(SLURM, str(error), provider.now(), OPEN_SECONDS)
    else:
        log.info("job %s: is Slurm job %d", job_id, slurm_id)
        acknowledged_at = provider.now() if promises else None
        if not jobs.submitted(job_id, slurm_id, None, attempt=attempt, acknowledged_at=acknowledged_at):
            _one_too_many(provider, job_id, slurm_id, submission)


def _send(
    provider: Provider,
    submission: Submission,
    impersonation: Impersonation,
    before: Callable[[], None],
    claimed: Callable[[], bool] | None,
) -> SlurmJobId:
    try:
        return provider.scheduler.submit(submission, provider.config.slurm.timeout, impersonation.run, before)
    except Exception:
        # What became of it is written into its row, which must be there.
        if claimed is not None and not claimed():
            raise _NotOurs from None
        raise


def _one_too_many(provider: Provider, job_id: str, slurm_id: SlurmJobId, submission: Submission) -> None:
    """Cancels a Slurm job that came when another attempt had been begun, or the job had been given up."""
    row = provider.jobs.get(job_id)
    if row is not None and row.slurm_id == slurm_id:
        return  # it was found by its name meanwhile
    log.warning("job %s: Slurm job %d is a second one of it and is cancelled", job_id, slurm_id)
    try:
        provider.scheduler.cancel(slurm_id, submission.name, submission.user, provider.config.slurm.timeout)
    except (SchedulerAway, ActionRefused) as error:
        log.error("job %s: Slurm job %d could not be cancelled; do it by hand: %s", job_id, slurm_id, error)


def submit_pending(provider: Provider, lookup: Lookup, rows: Iterable[JobRow]) -> None:
    """Submits accepted jobs, the oldest of each owner first, and ends those that were stopped before.

    Stops when Slurm is away. Jobs that are held wait.
    """
    owed = []
    for row in rows:
        if row.stop is not None:
            end_unsubmitted(provider, row)
        elif row.held_at is None:
            owed.append(row)
    under_way: deque[Future[None]] = deque()
    pace, room = provider.config.slurm.submit_per_second, dict[str, int]()
    for row in round_robin(owed, lambda row: row.owner):
        if not provider.breaker.allows(SLURM, provider.now()):
            break
        if pace is not None:
            left = room.setdefault(
                row.local_user, provider.jobs.rate_limit_remaining(row.local_user, provider.now(), pace)
            )
            if left < 1:
                continue  # nothing is built that has to wait
            room[row.local_user] -= 1
        with isolate_errors(row.id, "submitting it"):
            submission = _build_pending(provider, lookup, row)
            if submission is not None:
                under_way.append(
                    provider.executor.submit(row.owner, partial(_submit_pending, provider, row.id, submission))
                )
        if len(under_way) > MOST_BUILT:
            under_way.popleft().result()
    for each in under_way:
        each.result()


def _submit_pending(provider: Provider, job_id: str, submission: Submission) -> None:
    if not provider.breaker.allows(SLURM, provider.now()):
        return
    with isolate_errors(job_id, "submitting it"):
        try:
            submit(provider, job_id, submission)
        except FolderTrouble as error:
            log.error("job %s: not submitted yet: %s", job_id, error)


def _build_pending(provider: Provider, lookup: Lookup, row: JobRow) -> Submission | None:
    """Builds the batch job; None when it cannot be built yet or will never be."""
    try:
        identity = provider.mapping.identity(row.owner, row.project)
        if identity.person.user != row.local_user:
            raise Forbidden(
                f"You were connected with the account {row.local_user} when you started this job, and are not any more."
            )
        return build(provider, lookup, row.job, identity)
    except StorageTrouble:
        raise
    except (NoAnswer, CoreAway, CoreRefused, NotRendered, SchedulerAway) as error:
        log.warning("job %s: not submitted yet: %s", row.id, error)
    except Problem as error:
        provider.jobs.refused(row.id, error.status, error.why, provider.now())
    return None


def end_unsubmitted(provider: Provider, row: JobRow) -> None:
    """Ends a job that is to stop and that Slurm never had."""
    why = "Insufficient funds" if row.stop is Stop.NO_FUNDS else "The job was cancelled before it began."
    provider.jobs.end_unsubmitted(row.id, JobUpdate(JobState.SUCCESS, why), provider.now())
