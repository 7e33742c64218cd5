"""Recovery of submissions with an unknown outcome.

The Slurm job is looked up by its name in squeue and in sacct. A name is only a search key: anybody can give it to any
job. What is found is adopted if it is provably ours; the rest stays untouched, and the owner hears of it. The
submission is retried only if neither has ours after a quiet time in which Slurm answered, and sacct has all of it.
"""

import logging
from collections.abc import Sequence

from ucloud_slurm.errors import Problem
from ucloud_slurm.provider.cancellation import cancel_duplicate, end_unsubmitted
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.identity import accounting_is_complete
from ucloud_slurm.slurm.errors import SchedulerUnavailableError
from ucloud_slurm.store.breaker import SLURM
from ucloud_slurm.store.job_rows import JobRow
from ucloud_slurm.ucloud.reports import JobState, JobUpdate
from ucloud_slurm.users.mapping import IdentityUnavailableError
from ucloud_slurm.worker.candidates import LATE_SECONDS, MAX_ATTEMPTS, Found, Proof, Sought, by_attempt, questions

log = logging.getLogger(__name__)

IMITATION = "imitation"  # as the kind of reason for which a job waits
UNKNOWN = "The provider does not know this job."
LOST = (
    "The job has ended on the cluster. The provider has lost its record of it, and you are not connected with an account on "
    "the cluster, so it cannot tell how."
)
IMITATED = (
    "A job with the name of this one ({id}) is on the cluster, but it was not submitted by this provider. It is left as "
    "it is; please cancel it if you do not need it."
)


def recover_unknown(provider: Provider, rows: Sequence[JobRow]) -> None:
    """Finds the Slurm jobs of submissions with an unknown outcome, or makes the jobs ready for another attempt.

    :param rows: all jobs in the state *unknown*
    """
    by_id = {row.id: row for row in rows}
    sought = [Sought.of(provider.config.provider.id, row, row.attempts) for row in rows]
    try:
        # A job of a lost database may have got another name.
        names = None if any(row.lookup_only for row in rows) else {row.name for row in rows}
        candidates = provider.scheduler.queue_named(names)
    except SchedulerUnavailableError as error:
        log.warning("submissions with an unknown outcome cannot be looked up yet: %s", error)
        return
    listed = {each.id: each.among(candidates) for each in sought}
    waiting = [each for each in sought if not adopt(provider, by_id[each.id], listed[each.id])]
    is_complete = bool(waiting) and accounting_is_complete(provider)
    for some, which in questions(waiting):
        try:
            runs = provider.scheduler.runs_since(min(each.since for each in some), which)
        except SchedulerUnavailableError as error:
            log.warning("submissions with an unknown outcome cannot be looked up yet: %s", error)
            continue
        for each in some:
            found = each.among_runs(runs, listed[each.id])
            _look_up(provider, by_id[each.id], found, listed[each.id], is_complete=is_complete)


def _look_up(provider: Provider, row: JobRow, found: Sequence[Found], seen: Sequence[Found], *, is_complete: bool) -> None:
    """Decides about a job that squeue does not list as ours.

    :param found: by sacct
    :param seen: by squeue
    :param is_complete: whether sacct has all
    """
    if adopt(provider, row, found):
        return
    unclaimed = [one for one in (*found, *seen) if one.proof is Proof.UNCLAIMED]
    if unclaimed and _wait_for_owner(provider, row, unclaimed):
        return
    numbers = {one.id for one in found}
    undecided = [one for one in seen if one.proof is Proof.OPEN and one.id not in numbers]
    foreign = [one.id for one in (*found, *seen) if one.proof is Proof.FOREIGN]
    _report_imitations(provider, row, foreign)
    now, answering = provider.now(), provider.breaker.of(SLURM).answering_since
    begun = max(row.attempted_at or 0.0, row.claimed_until or 0.0)
    quiet = answering is not None and now - max(begun, answering) >= provider.config.jobs.quiet
    if quiet and is_complete and not undecided:
        _never_arrived(provider, row, LOST if unclaimed else UNKNOWN)


def _wait_for_owner(provider: Provider, row: JobRow, unclaimed: Sequence[Found]) -> bool:
    """Slurm has a job that looks like this one: it is adopted as soon as the mapping says as which user ours runs.

    :returns: False when it has ended long ago, and its owner has not come back
    """
    try:
        person = provider.mapping.identity(row.owner, row.project).person
    except IdentityUnavailableError:
        return True
    except Problem:
        ended = {one.id: one.ended for one in unclaimed if one.ended is not None}
        if all(one.id in ended for one in unclaimed) and provider.now() - max(ended.values()) >= LATE_SECONDS:
            return False
        numbers = ", ".join(str(number) for number in dict.fromkeys(one.id for one in unclaimed))
        log.warning("job %s: Slurm job %s looks like it; it waits until %s is connected", row.id, numbers, row.owner)
        return True
    if person.uid is not None:
        provider.observations.record_user(row.id, person.user, person.uid)
    return True


def adopt(provider: Provider, row: JobRow, found: Sequence[Found]) -> bool:
    """Adopts the Slurm job that is ours; of those of several attempts the first stays, and the others are cancelled.

    :returns: False when there is none
    """
    in_order = sorted(found, key=lambda each: (each.submitted, each.id))
    ours = by_attempt(in_order)
    if not ours:
        return False
    kept = {each.id for each in ours}
    _report_imitations(provider, row, [each.id for each in in_order if each.id not in kept])
    first, *later = ours
    log.info("job %s: is Slurm job %d, found by its name", row.id, first.id)
    provider.jobs.submitted(row.id, first.id, None, cluster=provider.scheduler.cluster, uid=first.uid)
    for each in later:
        if each.id != first.id and each.nonce is not None:
            cancel_duplicate(provider, row.id, each.id, each.uid)
    return True


def _report_imitations(provider: Provider, row: JobRow, others: Sequence[int]) -> None:
    before = provider.jobs.get(row.id) if others else None
    if before is None or before.waits_for == IMITATION:
        return
    numbers = ", ".join(str(number) for number in dict.fromkeys(others))
    log.warning("job %s: Slurm job %s has its name, but is not ours; it is left as it is", row.id, numbers)
    update = JobUpdate(None, IMITATED.format(id=numbers))
    provider.observations.record_waiting(row.id, IMITATION, row.reasons, update, provider.now())


def _never_arrived(provider: Provider, row: JobRow, why: str) -> None:
    now = provider.now()
    if row.stop is not None:
        end_unsubmitted(provider, row)
    elif row.lookup_only:
        log.warning("job %s: UCloud has it; neither this provider nor Slurm knows it", row.id)
        update = JobUpdate(JobState.FAILURE, why)
        provider.jobs.end_unsubmitted(row.id, update, now, used=None)
    elif row.attempts >= MAX_ATTEMPTS:
        provider.jobs.refused(row.id, 500, "The cluster took the job in no attempt; please tell the provider's support.", now)
    else:
        log.info("job %s: its submission never reached Slurm; it is retried", row.id)
        provider.jobs.release_claim([row.id], row.attempts)
        # Its create ended long ago, and may have been answered: a refusal from now on is a FAILURE of the job.
        provider.jobs.acknowledge([row.id], now)
