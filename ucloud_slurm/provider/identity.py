"""The identity of the Slurm job of a job: what squeue and sacct say is about it only where that agrees.

What sacct does not say may still come (:func:`accounting_is_complete`).
"""

import logging
from collections.abc import Iterable, Mapping

from ucloud_slurm.provider.context import Provider
from ucloud_slurm.slurm.errors import SchedulerUnavailableError
from ucloud_slurm.slurm.identity import JobIdentity
from ucloud_slurm.slurm.records import QueueRecord, SlurmJobId
from ucloud_slurm.store.job_rows import OpenJob

log = logging.getLogger(__name__)

CLOCK_SKEW_SECONDS = 6 * 3600  # a number that sbatch gave is not that of an older job, whatever the clocks say


def identity_of(row: OpenJob) -> JobIdentity | None:
    """The identity of a job's Slurm job; None while it has none."""
    if row.slurm_id is None:
        return None
    # A job from outside UCloud was submitted before it was accepted here.
    earliest = row.submitted_at if row.submitted_at is not None else int(row.accepted_at - CLOCK_SKEW_SECONDS)
    return JobIdentity(SlurmJobId(row.slurm_id), row.uid, earliest, row.run_submitted or row.submitted_at)


def by_number(queue: Iterable[QueueRecord]) -> Mapping[SlurmJobId, QueueRecord]:
    """Squeue's records by number. Of the tasks of an array that share one, any."""
    return {record.id: record for record in queue}


def record_of(row: OpenJob, listed: Mapping[SlurmJobId, QueueRecord]) -> QueueRecord | None:
    """Squeue's record of a job; None where it lists none."""
    record = listed.get(SlurmJobId(row.slurm_id or 0))
    if record is None or (record.submitted == row.run_submitted and record.uid == row.uid):
        return record  # as it is for most jobs in most passes
    identity = identity_of(row)
    return record if identity is not None and identity.is_of(record) else None


def find(provider: Provider, rows: Iterable[OpenJob], within: float) -> Mapping[str, QueueRecord]:
    """Squeue's present records of jobs, by job; it lists none of the others.

    What follows acts by number, milliseconds later: by then no number is that of another job. Slurm counts up to MaxJobId
    (slurm.conf(5)) before it uses one again.

    :param within: seconds
    :raises SchedulerUnavailableError: Slurm does not answer
    """
    identities = {row.id: identity for row in rows if (identity := identity_of(row)) is not None}
    listed = provider.scheduler.some({identity.id for identity in identities.values()}, within) if identities else {}
    found = {job_id: (identity, listed.get(identity.id)) for job_id, identity in identities.items()}
    return {job_id: record for job_id, (identity, record) in found.items() if record is not None and identity.is_of(record)}


def accounting_is_complete(provider: Provider) -> bool:
    """Whether the accounting database has all that slurmctld has recorded; asked before sacct whose silence is to count."""
    try:
        backlog = provider.scheduler.accounting_backlog(provider.config.slurm.timeout)
    except SchedulerUnavailableError as error:
        log.warning("it is unknown whether sacct has everything: %s", error)
        return False
    if backlog:
        log.info("slurmctld has %d records that slurmdbd does not have yet (sdiag); what sacct lacks is waited for", backlog)
    return backlog == 0
