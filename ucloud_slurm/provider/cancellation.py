"""Ending jobs that are to end: asked again at every pass until Slurm confirms."""

import logging
from collections.abc import Iterable

from ucloud_slurm.provider.context import Provider
from ucloud_slurm.slurm.errors import ActionRefusedError, SchedulerUnavailableError
from ucloud_slurm.slurm.records import QueueRecord, SlurmJobId
from ucloud_slurm.slurm.states import Phase as SlurmPhase
from ucloud_slurm.slurm.states import SlurmState
from ucloud_slurm.store.breaker import FAIR_TRIAL_SECONDS, SLURM
from ucloud_slurm.store.job_rows import OpenJob

log = logging.getLogger(__name__)


def cancel(provider: Provider, row: OpenJob, within: float) -> bool:
    """Asks Slurm to end a job. A refusal is for the administrator to see; the job stays marked.

    :returns: False when Slurm could not be asked
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


def stop_marked(provider: Provider, queue: Iterable[QueueRecord], asked: set[str]) -> bool:
    """Cancels every job that is marked to end and that squeue listed as waiting or running.

    One that is being cleaned up (COMPLETING) has been cancelled already.

    :param asked: ids of jobs that Slurm was asked to end in this pass; they are left alone, and others are added

    :returns: False when Slurm could not be asked
    """
    marked = provider.jobs.to_stop()
    if not marked:
        return True
    cancellable = {
        (record.id, record.name)
        for record in queue
        if record.state is not None
        and record.state.phase is not SlurmPhase.ENDED
        and record.state is not SlurmState.COMPLETING
    }
    for row in marked:
        if (row.slurm_id, row.name) in cancellable and row.id not in asked:
            if not cancel(provider, row, provider.config.slurm.timeout):
                return False
            asked.add(row.id)
    return True
