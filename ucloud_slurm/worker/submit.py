"""Submitting what is owed, and finding out what became of submissions without an answer.

One job, one Slurm job: a submission is claimed in the database before it begins. If its outcome is not known it
is looked up by the job's name and owner in squeue and in sacct, after a quiet time in which Slurm answered, before
it is tried again.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ucloud_slurm.bridge.batch import batch_job
from ucloud_slurm.bridge.plan import plan
from ucloud_slurm.bridge.refusals import problem
from ucloud_slurm.errors import Forbidden, Problem, Refused, StorageFull, StorageTrouble, one_line
from ucloud_slurm.provider import Provider
from ucloud_slurm.rendering import LIMIT, PATIENCE, NotRendered, render
from ucloud_slurm.slurm.records import QueueRecord, RunRecord, SlurmJobId, Submission
from ucloud_slurm.slurm.scheduler import ActionRefused, OutcomeUnknown, SchedulerAway, SubmissionRefused
from ucloud_slurm.store.health import SLURM
from ucloud_slurm.store.jobs import JobRow, Phase, Stop
from ucloud_slurm.ucloud.control import JobState, JobUpdate
from ucloud_slurm.ucloud.jobs import Job
from ucloud_slurm.ucloud.trouble import CoreAway, CoreRefused
from ucloud_slurm.users.acting import ActingAway, MayNotAct
from ucloud_slurm.users.mapping import Identity, NoAnswer
from ucloud_slurm.worker import choices
from ucloud_slurm.worker.catalogue import FAIR, PAUSE, Catalogue
from ucloud_slurm.worker.guard import alone

log = logging.getLogger(__name__)

CLAIM_MARGIN = 5.0  # seconds that a claim outlives the time limit of its submission
CLOCKS_APART = 120  # seconds that the clocks of this host and of slurmctld may differ
MOST_ATTEMPTS = 20
SCRIPT = "job.sh"


class FolderTrouble(StorageFull):
    """The job's folder cannot be made or written; nothing was submitted."""


def build(provider: Provider, catalogue: Catalogue, job: Job, identity: Identity) -> Submission:
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
    application = catalogue.application(job)
    known_here = product.cpus is not None and product.memory_gb is not None and product.gpus is not None
    try:
        dimensions = None if known_here else catalogue.product(reference, job)
    except CoreRefused:
        dimensions = None
    partitions = catalogue.partitions()
    if partitions is not None and product.partition not in partitions:
        raise Refused(f"{product.id} is not in service: the cluster has no partition {product.partition}.")
    left = catalogue.left()
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
        account=identity.account or choices.chosen(provider, job, product, identity),
        own_words=provider.era.has_own_words,
    )


def submit(provider: Provider, job_id: str, submission: Submission, within: float) -> None:
    """Submits an accepted job, unless somebody else is at it. What came of it stands in the database.

    :param within: seconds
    :raises FolderTrouble: nothing was submitted, and it is owed again
    :raises StorageTrouble: the database could not be written; the job is looked up later
    """
    now = provider.now()
    if not provider.jobs.claim(job_id, now, now + within + CLAIM_MARGIN):
        return
    acting = provider.acting(submission.user)
    try:
        acting.prepare(submission.folder, {SCRIPT: submission.script})
    except StorageFull as error:
        provider.jobs.owed(job_id)
        raise FolderTrouble(error.why) from None
    except ActingAway as error:
        log.warning("job %s: not submitted yet: %s", job_id, error)
        provider.jobs.owed(job_id)
        return
    except MayNotAct as error:
        provider.jobs.refused(job_id, error.status, error.why, provider.now())
        return
    try:
        slurm_id = provider.scheduler.submit(submission, within, acting.run)
    except ActingAway as error:
        log.warning("job %s: not submitted yet: %s", job_id, error)
        provider.jobs.owed(job_id)
    except SubmissionRefused as refusal:
        answer = problem(refusal.reason)
        log.info("job %s: Slurm refused it: %s", job_id, refusal.reason)
        provider.jobs.refused(job_id, answer.status, answer.why, provider.now())
    except OutcomeUnknown as error:
        log.warning("job %s: the outcome of its submission is unknown: %s", job_id, error)
        provider.jobs.unsettled(job_id, provider.now())
        if within >= FAIR:
            provider.health.paused(SLURM, str(error), provider.now(), PAUSE)
    except SchedulerAway as error:
        log.warning("job %s: not submitted yet: %s", job_id, error)
        provider.jobs.owed(job_id)
        provider.health.failed(SLURM, str(error), provider.now(), PAUSE)
    else:
        log.info("job %s: is Slurm job %d", job_id, slurm_id)
        provider.jobs.submitted(job_id, slurm_id, None)


def submit_owed(provider: Provider, catalogue: Catalogue, rows: Iterable[JobRow]) -> None:
    """Submits accepted jobs, oldest first, and ends those that were stopped before. Stops when Slurm is away.

    Jobs that are held wait.
    """
    for row in rows:
        if row.stop is not None:
            end_unsubmitted(provider, row)
        elif row.held_at is None and provider.health.may_ask(SLURM, provider.now()):
            with alone(row.id, "submitting it"):
                _submit_owed(provider, catalogue, row)


def _submit_owed(provider: Provider, catalogue: Catalogue, row: JobRow) -> None:
    try:
        identity = provider.mapping.identity(row.owner, row.project)
        if identity.person.user != row.local_user:
            raise Forbidden(f"You were connected with the account {row.local_user} when you started this job, and are "
                            "not any more.")  # fmt: skip
        submission = build(provider, catalogue, row.job, identity)
    except StorageTrouble:
        raise
    except NoAnswer as error:
        log.warning("job %s: not submitted yet: %s", row.id, error)
        return
    except Problem as error:
        provider.jobs.refused(row.id, error.status, error.why, provider.now())
        return
    except (CoreAway, CoreRefused, NotRendered, SchedulerAway) as error:
        log.warning("job %s: not submitted yet: %s", row.id, error)
        return
    try:
        submit(provider, row.id, submission, provider.config.slurm.timeout)
    except FolderTrouble as error:
        log.error("job %s: not submitted yet: %s", row.id, error)  # noqa: TRY400  a trace says no more


def end_unsubmitted(provider: Provider, row: JobRow) -> None:
    """Ends a job that is to stop and that Slurm never had."""
    now = provider.now()
    with provider.store.writing():
        current = provider.jobs.get(row.id)
        if current is None or current.phase not in (Phase.ACCEPTED, Phase.SUBMITTING):
            return
        if current.told:
            unpaid = current.stop is Stop.NO_FUNDS
            why = "Insufficient funds" if unpaid else "The job was cancelled before it began."
            provider.jobs.tell(row.id, JobUpdate(JobState.SUCCESS, why), now)
            provider.jobs.ended(row.id, 0, now)
        else:
            provider.jobs.seen(row.id, phase=Phase.REFUSED, ended_at=now, claimed_until=None)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A Slurm job that bears the name of one of ours."""

    submitted: int
    id: SlurmJobId
    user: str
    name: str


def settle(provider: Provider, rows: Sequence[JobRow], queue: Sequence[QueueRecord]) -> None:
    """Finds out what became of submissions whose outcome is not known.

    :param rows: all jobs in the phase ``submitting``
    :param queue: what squeue answered after the rows were read
    """
    now = provider.now()
    waiting = {row.name: row for row in rows if row.claimed_until is None or row.claimed_until < now}
    if not waiting:
        return
    _adopt(provider, waiting, queue)
    if not waiting:
        return
    since = max(0.0, min(row.accepted_at for row in waiting.values()) - CLOCKS_APART)
    try:
        runs = provider.scheduler.runs_named(waiting, {row.local_user for row in waiting.values()}, since)
    except SchedulerAway as error:
        log.warning("submissions with an unknown outcome cannot be looked up yet: %s", error)
        return
    _adopt(provider, waiting, runs)
    answering = provider.health.of(SLURM).answering_since
    for row in waiting.values():
        begun = max(row.attempted_at or 0.0, row.claimed_until or 0.0)
        if answering is None or now - max(begun, answering) < provider.config.jobs.quiet:
            continue
        _never_arrived(provider, row)


def _adopt(provider: Provider, waiting: dict[str, JobRow], records: Iterable[QueueRecord | RunRecord]) -> None:
    """Takes over the jobs that are found and removes them from ``waiting``; of several the oldest stays."""
    found: dict[str, set[_Candidate]] = {}
    for record in records:
        row = waiting.get(record.name)
        if row and record.user == row.local_user and record.submitted >= row.accepted_at - CLOCKS_APART:
            found.setdefault(record.name, set()).add(_Candidate(record.submitted, record.id, record.user, record.name))
    for name, candidates in found.items():
        row = waiting.pop(name)
        first, *others = sorted(candidates, key=lambda candidate: (candidate.submitted, candidate.id))
        log.info("job %s: is Slurm job %d, found by its name", row.id, first.id)
        provider.jobs.submitted(row.id, first.id, first.submitted)
        for other in others:
            if other.id == first.id:
                continue
            log.warning("job %s: Slurm job %d is a second one of it and is cancelled", row.id, other.id)
            try:
                provider.scheduler.cancel(other.id, other.name, other.user, provider.config.slurm.timeout)
            except (SchedulerAway, ActionRefused) as error:
                log.warning("Slurm job %d could not be cancelled: %s", other.id, error)


def _never_arrived(provider: Provider, row: JobRow) -> None:
    now = provider.now()
    if row.stop is not None:
        end_unsubmitted(provider, row)
    elif row.found_only:
        log.warning("job %s: UCloud asked about it; neither we nor Slurm know it", row.id)
        with provider.store.writing():
            provider.jobs.tell(row.id, JobUpdate(JobState.FAILURE, "The provider does not know this job."), now)
            provider.jobs.ended(row.id, None, now)
    elif row.attempts >= MOST_ATTEMPTS:
        provider.jobs.refused(row.id, 500, "The cluster did not take the job in many attempts; please tell the "
                              "provider's support.", now)  # fmt: skip
    else:
        log.info("job %s: its submission never arrived; it is owed again", row.id)
        provider.jobs.owed(row.id)
