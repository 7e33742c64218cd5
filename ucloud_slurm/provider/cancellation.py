"""Cancellation of jobs that are marked to end: retried in every pass until Slurm confirms it."""

import logging
import time
from collections.abc import Iterable, Mapping, Sequence

from ucloud_slurm.errors import one_line
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.identity import by_number, find, record_of
from ucloud_slurm.slurm.errors import SchedulerUnavailableError
from ucloud_slurm.slurm.records import QueueRecord, SlurmJobId
from ucloud_slurm.slurm.states import Phase as SlurmPhase
from ucloud_slurm.slurm.states import SlurmState
from ucloud_slurm.store.breaker import FAIR_TRIAL_SECONDS, SLURM
from ucloud_slurm.store.job_rows import JobRow, OpenJob
from ucloud_slurm.store.job_state import JobPhase, Stop
from ucloud_slurm.ucloud.reports import JobState, JobUpdate

log = logging.getLogger(__name__)

AT_ONCE = 100  # jobs of one scancel


def cancel(provider: Provider, rows: Sequence[OpenJob], within: float) -> bool:
    """Asks Slurm to cancel jobs, by their numbers, those that are still these jobs'. A refusal is logged; the job stays marked.

    :param within: seconds
    :returns: False if Slurm could not be asked
    """
    until = time.monotonic() + within
    numbers = ", ".join(str(row.slurm_id) for row in rows)
    try:
        found = find(provider, rows, within)
        ending = [record.id for record in found.values() if is_cancellable(record)]
        refused = provider.scheduler.cancel(ending, until - time.monotonic()) if ending else {}
    except SchedulerUnavailableError as error:
        log.warning("Slurm jobs %s could not be cancelled yet: %s", one_line(numbers, 200), error)
        if within >= FAIR_TRIAL_SECONDS:
            provider.breaker.record_failure(SLURM, str(error), provider.now())
        return False
    for job_id, record in found.items():
        if record.id in refused:
            log.error("job %s: Slurm does not cancel Slurm job %d: %s", job_id, record.id, refused[record.id])
    return True


def is_cancellable(record: QueueRecord) -> bool:
    """Whether a job can be cancelled. A COMPLETING job has been cancelled already; of an unreadable one nobody knows."""
    ended = record.state is not None and record.state.phase is SlurmPhase.ENDED
    return not ended and record.state is not SlurmState.COMPLETING


def cancel_duplicate(provider: Provider, job_id: str, slurm_id: SlurmJobId, uid: int | None) -> None:
    """Cancels a second Slurm job of a job, if it is its user's: the number may come from a program of that user's.

    :param uid: of the user; None: the account does not exist
    """
    within = provider.config.slurm.timeout
    error: Exception | None
    try:
        found = provider.scheduler.job(slurm_id, within)
        if found is None or not is_cancellable(found):
            return
        if found.uid != uid:
            log.error("job %s: Slurm job %d is not ours, although it came as the answer to a submission", job_id, slurm_id)
            return
        log.warning("job %s: Slurm job %d is a second one of it and is cancelled", job_id, slurm_id)
        error = provider.scheduler.cancel([slurm_id], within).get(slurm_id)
    except SchedulerUnavailableError as unavailable:
        error = unavailable
    if error is not None:
        log.error("job %s: Slurm job %d could not be cancelled; do it by hand: %s", job_id, slurm_id, error)


def stop_marked(provider: Provider, queue: Iterable[QueueRecord], asked: set[str]) -> bool:
    """Cancels every job that is marked to end and that squeue listed in a state that can be cancelled.

    :param asked: ids of jobs that Slurm was asked to cancel in this pass: they are skipped, and the others added
    :returns: False if Slurm could not be asked
    """
    marked = provider.jobs.to_stop()
    if not marked:
        return True
    listed = by_number(queue)
    ending = [row for row in marked if row.id not in asked and _is_listed(row, listed)]
    for first in range(0, len(ending), AT_ONCE):
        some = ending[first : first + AT_ONCE]
        if not cancel(provider, some, provider.config.slurm.timeout):
            return False
        asked.update(row.id for row in some)
    return True


def _is_listed(row: OpenJob, listed: Mapping[SlurmJobId, QueueRecord]) -> bool:
    record = record_of(row, listed)
    return record is not None and is_cancellable(record)


def stop_requeued(provider: Provider, rows: Iterable[OpenJob], queue: Iterable[QueueRecord]) -> None:
    """Cancels jobs that were requeued after their end was reported: UCloud has no job any more that pays for them.

    :param rows: all jobs that have not ended, read before squeue was asked
    """
    open_ = {row.slurm_id for row in rows}
    again = {each.id: each for each in queue if each.restarts and each.id not in open_ and is_cancellable(each)}
    if not again:
        return
    for number, known in provider.observations.by_slurm_id(list(again)).items():
        for row in known:
            over = row.phase in (JobPhase.ENDED, JobPhase.REFUSED) and not row.external
            if over and record_of(row, again) is not None:
                log.warning("job %s: Slurm job %d was requeued after its end; it is cancelled", row.id, number)
                cancel(provider, [row], provider.config.slurm.timeout)


def must_end(provider: Provider, row: JobRow, stop: Stop, said: JobUpdate | None = None) -> bool:
    """Marks a job that must end, and ends it where no submission of it has begun.

    :param said: what UCloud hears where the job was not marked before
    :returns: whether it was not
    """
    now = provider.now()
    with provider.store.writing():
        new = provider.jobs.stop(row.id, stop, now)
        if new and said is not None:
            provider.outbox.enqueue_update(row.id, said, now)
        if row.phase is JobPhase.ACCEPTED:
            end_unsubmitted(provider, row)
    return new


def cancel_marked(provider: Provider, ids: Iterable[str], deadline: float) -> bool:
    """Asks Slurm to cancel those of these jobs that it has, as long as there is time; the worker cancels the rest.

    :param deadline: in monotonic seconds
    :returns: whether it was asked for all of these jobs
    """
    rows = [row for job_id in ids if (row := provider.jobs.get(job_id)) is not None]
    live = [row for row in rows if row.phase is JobPhase.LIVE]
    for first in range(0, len(live), AT_ONCE):
        left = deadline - time.monotonic()
        if left <= 0 or not provider.breaker.allows(SLURM, provider.now()):
            return False
        if not cancel(provider, live[first : first + AT_ONCE], left):
            return False
    return all(row.phase is not JobPhase.SUBMITTING for row in rows)


def end_unsubmitted(provider: Provider, row: JobRow) -> None:
    """Ends a job that is to stop and that Slurm never had."""
    why = "Insufficient funds" if row.stop is Stop.NO_FUNDS else "The job was cancelled before it began."
    provider.jobs.end_unsubmitted(row.id, JobUpdate(JobState.SUCCESS, why), provider.now())
