"""From Slurm's states to UCloud's, and the sentence that goes with them.

A state that is not known changes nothing (None).
"""

from ucloud_slurm.slurm.records import QueueRecord, RunRecord
from ucloud_slurm.slurm.states import Phase, SlurmState
from ucloud_slurm.ucloud.control import JobState, JobUpdate
from ucloud_slurm.ucloud.eras import Era

# Slurm's way of saying that it could not open the job's output: no program of the user's can end like this.
NO_OUTPUT = (0, 53)

_REASONS = {
    "Resources": "The job waits for free machines.",
    "Priority": "The job waits for its turn.",
    "None": "The job is in the queue.",
    "BeginTime": "The job waits for the time at which it may begin.",
    "Dependency": "The job waits for another job.",
    "JobHeldUser": "The job is held in the queue.",
    "JobHeldAdmin": "The job is held in the queue by the cluster's administrators.",
    "ReqNodeNotAvail": "The job waits for machines that are not available at the moment.",
    "Reservation": "The job waits for its reservation.",
    "ReservationDeleted": "The job's reservation is gone; please ask the provider's support.",
    "Licenses": "The job waits for a licence.",
    "PartitionDown": "The machines are not in service at the moment.",
    "PartitionInactive": "The machines are not in service at the moment.",
}


def queued_update(record: QueueRecord, era: Era) -> JobUpdate | None:
    """What UCloud should know of a job that squeue lists, or None where squeue alone cannot tell."""
    state = record.state
    if state is None or state.phase is Phase.ENDED:
        return None
    if state is SlurmState.SUSPENDED:
        shown = JobState.SUSPENDED if era.has_suspended else JobState.IN_QUEUE
        return JobUpdate(shown, "The job is suspended on the cluster.")
    if state.phase is Phase.WAITING:
        return JobUpdate(JobState.IN_QUEUE, waiting(record.reason))
    return JobUpdate(JobState.RUNNING, f"The job is now running on {record.node_list or 'the cluster'}.")


def waiting(reason: str) -> str:
    """Why a job waits. Slurm's word stands behind it: for limits of accounts and QOS there are many."""
    sentence = _REASONS.get(reason.partition(",")[0])
    if sentence is not None:
        return sentence
    return f"The job waits in the queue ({reason})."


def final_update(run: RunRecord, era: Era, stopped_for: str | None) -> JobUpdate | None:
    """How a job ended, or None when the run has not ended for good.

    :param run: the latest run of the job
    :param stopped_for: the sentence to use if it was us who cancelled it
    """
    if run.state is None or run.ended is None:
        return None
    code = run.exit_code
    ended = JobState.FAILURE if era.exit_code_is_failure else JobState.SUCCESS
    match run.state:
        case SlurmState.COMPLETED:
            return JobUpdate(JobState.SUCCESS, "The job has ended.")
        case SlurmState.CANCELLED:
            return JobUpdate(JobState.SUCCESS, stopped_for or "The job was cancelled on the cluster.")
        case SlurmState.FAILED if (code, run.signal) == NO_OUTPUT:
            return JobUpdate(JobState.FAILURE, "The job could not start: its output could not be written.")
        case SlurmState.FAILED if run.signal:
            return JobUpdate(ended, f"The program was ended by signal {run.signal}{_signal_hint(run.signal)}.")
        case SlurmState.FAILED:
            return JobUpdate(ended, f"The program ended with exit code {code}.")
        case SlurmState.OUT_OF_MEMORY:
            return JobUpdate(ended, "The program needed more memory than the job has; choose a larger machine.")
        case SlurmState.TIMEOUT:
            return JobUpdate(JobState.EXPIRED, "The job has used up its time.")
        case SlurmState.DEADLINE:
            return JobUpdate(JobState.EXPIRED, "The job could not be done before its deadline.")
        case SlurmState.NODE_FAIL:
            return JobUpdate(JobState.FAILURE, f"A machine of the job failed ({run.node_list or 'unknown'}).")
        case SlurmState.BOOT_FAIL:
            return JobUpdate(JobState.FAILURE, f"A machine of the job did not start ({run.node_list or 'unknown'}).")
        case SlurmState.PREEMPTED:
            return JobUpdate(JobState.FAILURE, "The job had to give way to a job of higher priority.")
        case SlurmState.REVOKED:
            return JobUpdate(JobState.FAILURE, "The job was withdrawn by the cluster.")
        case _:
            return None


def _signal_hint(signal: int) -> str:
    return " (often: out of memory)" if signal == 9 else ""
