"""Slurm's states as UCloud's, with the sentence that the owner reads; and how full a queue is.

An unknown state gives None: it changes nothing.
"""

from typing import TYPE_CHECKING

from ucloud_slurm.bridge.waiting import waiting_reason
from ucloud_slurm.slurm.records import Load, QueueRecord, RunRecord
from ucloud_slurm.slurm.states import Phase, SlurmState
from ucloud_slurm.ucloud.eras import Era
from ucloud_slurm.ucloud.reports import JobState, JobUpdate

if TYPE_CHECKING:
    from ucloud_slurm.ucloud.responses import QueueLevel

# Exit code and signal by which Slurm says that it could not open the job's output. No program can end like this.
NO_OUTPUT = (0, 53)


def queued_state(state: SlurmState | None, era: Era) -> JobState | None:
    """The state of a job that squeue lists, or None where squeue does not suffice: how a job ended, sacct knows."""
    if state is None or state.phase is Phase.ENDED:
        return None
    if state is SlurmState.SUSPENDED:
        return JobState.SUSPENDED if era.has_suspended else JobState.IN_QUEUE
    return JobState.IN_QUEUE if state.phase is Phase.WAITING else JobState.RUNNING


def queued_update(record: QueueRecord, era: Era) -> JobUpdate | None:
    """The update for a job that squeue lists, or None where squeue does not suffice."""
    state = queued_state(record.state, era)
    if state is None:
        return None
    if record.state is SlurmState.SUSPENDED:
        return JobUpdate(state, "The job is suspended on the cluster.")
    if state is JobState.IN_QUEUE:
        return JobUpdate(state, waiting_reason(record.reason).sentence)
    return JobUpdate(state, f"The job is now running on {record.node_list or 'the cluster'}.")


# Which final states of Slurm mean success, failure and expiry. None: the era decides (`Era.exit_code_is_failure`).
_FINAL_STATES: dict[SlurmState, tuple[JobState | None, str]] = {
    SlurmState.COMPLETED: (JobState.SUCCESS, "The job has ended."),
    SlurmState.CANCELLED: (JobState.SUCCESS, "The job was cancelled on the cluster."),
    SlurmState.FAILED: (None, "The program ended with exit code {code}."),
    SlurmState.OUT_OF_MEMORY: (None, "The program needed more memory than the job has; choose a larger machine."),
    SlurmState.TIMEOUT: (JobState.EXPIRED, "The job has used up its time."),
    SlurmState.DEADLINE: (JobState.EXPIRED, "The job could not be done before its deadline."),
    SlurmState.NODE_FAIL: (JobState.FAILURE, "A machine of the job failed ({nodes})."),
    SlurmState.BOOT_FAIL: (JobState.FAILURE, "A machine of the job did not start ({nodes})."),
    SlurmState.PREEMPTED: (JobState.FAILURE, "The job had to give way to a job of higher priority."),
    SlurmState.REVOKED: (JobState.FAILURE, "The job was withdrawn by the cluster."),
}
_KILLED_BY_SIGNAL = (None, "The program was ended by signal {signal}{hint}.")
_FAILED_WITHOUT_OUTPUT = (JobState.FAILURE, "The job could not start: its output could not be written.")


def final_update(run: RunRecord, era: Era, stopped_for: str | None) -> JobUpdate | None:
    """How a job ended, or None while the run has not ended for good.

    :param run: the latest run of the job
    :param stopped_for: the sentence for a job that this provider cancelled
    """
    if run.state is None or run.ended is None or run.state not in _FINAL_STATES:
        return None
    if run.state is SlurmState.CANCELLED and stopped_for is not None:
        return JobUpdate(JobState.SUCCESS, stopped_for)
    state, sentence = _FINAL_STATES[run.state]
    if run.state is SlurmState.FAILED and (run.exit_code, run.signal) == NO_OUTPUT:
        state, sentence = _FAILED_WITHOUT_OUTPUT
    elif run.state is SlurmState.FAILED and run.signal:
        state, sentence = _KILLED_BY_SIGNAL
    by_era = JobState.FAILURE if era.exit_code_is_failure else JobState.SUCCESS
    hint = " (often: out of memory)" if run.signal == 9 else ""
    facts = {"code": run.exit_code, "signal": run.signal, "nodes": run.node_list or "unknown", "hint": hint}
    return JobUpdate(state or by_era, sentence.format(**facts))


def queue_level(load: Load) -> "QueueLevel":
    """How full the queue of a partition is.

    Available: a CPU is free and no job waits. Full: no CPU is free and jobs wait, or no CPU is in service. Else busy.
    """
    from ucloud_slurm.ucloud.responses import QueueLevel

    if load.cpus == 0:
        return QueueLevel.FULL
    free, waits = load.cpus > load.cpus_used, load.pending > 0
    if free and not waits:
        return QueueLevel.AVAILABLE
    return QueueLevel.BUSY if free or not waits else QueueLevel.FULL
