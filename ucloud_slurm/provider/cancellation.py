"""Cancellation of jobs that are marked to end: retried in every pass until Slurm confirms it."""

import logging
from collections.abc import Iterable

from ucloud_slurm.provider.context import Provider
from ucloud_slurm.slurm.errors import ActionRefusedError, SchedulerUnavailableError
from ucloud_slurm.slurm.records import QueueRecord, SlurmJobId
from ucloud_slurm.slurm.states import Phase as SlurmPhase
from ucloud_slurm.slurm.states import SlurmState
from ucloud_slurm.store.breaker import FAIR_TRIAL_SECONDS, SLURM
from ucloud_slurm.store.job_rows import JobRow, OpenJob
from ucloud_slurm.store.job_state import Stop
from ucloud_slurm.ucloud.reports import JobState, JobUpdate

log = logging.getLogger(__name__)


def cancel(provider: Provider, row: OpenJob, within: float) -> bool:
    """Asks Slurm to cancel a job. A refusal is logged, and the job stays marked.

    :param within: seconds
    :returns: False if Slurm could not be asked
    """
    if row.slurm_id is None:
        return True
    try:
        provider.scheduler.cancel(SlurmJobId(row.slurm_id), row.name, row.local_user, within)
    except ActionRefusedError as error:
        log.error("job %s: Slurm does not cancel Slurm job %d: %s", row.id, row.slurm_id, error)
    except SchedulerUnavailableError as error:
        log.warning("job %s: Slurm job %d could not be cancelled yet: %s", row.id, row.slurm_id, error)
        if within >= FAIR_TRIAL_SECONDS:
            provider.breaker.record_failure(SLURM, str(error), provider.now())
        return False
    return True


def cancel_duplicate(provider: Provider, job_id: str, slurm_id: SlurmJobId, name: str, user: str) -> None:
    """Cancels a second Slurm job of a job.

    :param name: of the Slurm job
    :param user: Unix user that it runs as
    """
    log.warning("job %s: Slurm job %d is a second one of it and is cancelled", job_id, slurm_id)
    try:
        provider.scheduler.cancel(slurm_id, name, user, provider.config.slurm.timeout)
    except (SchedulerUnavailableError, ActionRefusedError) as error:
        log.error("job %s: Slurm job %d could not be cancelled; do it by hand: %s", job_id, slurm_id, error)


def stop_marked(provider: Provider, queue: Iterable[QueueRecord], asked: set[str]) -> bool:
    """Cancels every job that is marked to end and that squeue listed in a state that can be cancelled.

    A COMPLETING job has been cancelled already.

    :param asked: ids of jobs that Slurm was asked to cancel in this pass: they are skipped, and the others added
    :returns: False if Slurm could not be asked
    """
    marked = provider.jobs.to_stop()
    if not marked:
        return True
    cancellable = {
        (record.id, record.name)
        for record in queue
        if record.state is not None and record.state.phase is not SlurmPhase.ENDED and record.state is not SlurmState.COMPLETING
    }
    for row in marked:
        if (row.slurm_id, row.name) in cancellable and row.id not in asked:
            if not cancel(provider, row, provider.config.slurm.timeout):
                return False
            asked.add(row.id)
    return True


def end_unsubmitted(provider: Provider, row: JobRow) -> None:
    """Ends a job that is to stop and that Slurm never had."""
    why = "Insufficient funds" if row.stop is Stop.NO_FUNDS else "The job was cancelled before it began."
    provider.jobs.end_unsubmitted(row.id, JobUpdate(JobState.SUCCESS, why), provider.now())
