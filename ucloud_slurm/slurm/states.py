"""Slurm's job states, by every name that Slurm's commands use (squeue(1), sacct(1): JOB STATE CODES)."""

from enum import Enum


class SlurmState(Enum):
    """A state of a Slurm job: its long word and its short code."""

    BOOT_FAIL = "BF"
    CANCELLED = "CA"
    COMPLETED = "CD"
    COMPLETING = "CG"
    CONFIGURING = "CF"
    DEADLINE = "DL"
    FAILED = "F"
    NODE_FAIL = "NF"
    OUT_OF_MEMORY = "OOM"
    PENDING = "PD"
    PREEMPTED = "PR"
    REQUEUED = "RQ"
    REQUEUE_FED = "RF"
    REQUEUE_HOLD = "RH"
    RESIZING = "RS"
    RESV_DEL_HOLD = "RD"
    REVOKED = "RV"
    RUNNING = "R"
    SIGNALING = "SI"
    SPECIAL_EXIT = "SE"
    STAGE_OUT = "SO"
    STOPPED = "ST"
    SUSPENDED = "S"
    TIMEOUT = "TO"

    @property
    def phase(self) -> "Phase":
        """Whether a job in this state waits, holds nodes, or has ended."""
        if self in _WAITING:
            return Phase.WAITING
        return Phase.ENDED if self in _ENDED else Phase.HOLDING


class Phase(Enum):
    """What a state means for the nodes of the job."""

    WAITING = "waiting"
    HOLDING = "holding"
    ENDED = "ended"


_WAITING = frozenset(
    {
        SlurmState.PENDING,
        SlurmState.CONFIGURING,
        SlurmState.REQUEUED,
        SlurmState.REQUEUE_FED,
        SlurmState.REQUEUE_HOLD,
        SlurmState.RESV_DEL_HOLD,
        SlurmState.SPECIAL_EXIT,
    }
)
_ENDED = frozenset(
    {
        SlurmState.BOOT_FAIL,
        SlurmState.CANCELLED,
        SlurmState.COMPLETED,
        SlurmState.DEADLINE,
        SlurmState.FAILED,
        SlurmState.NODE_FAIL,
        SlurmState.OUT_OF_MEMORY,
        SlurmState.PREEMPTED,
        SlurmState.REVOKED,
        SlurmState.TIMEOUT,
    }
)
_BY_WORD = {state.name: state for state in SlurmState} | {state.value: state for state in SlurmState}


def read_state(text: str) -> SlurmState | None:
    """The state that a word stands for, or None for a word that this release does not know.

    sacct adds to the word: ``CANCELLED by 1000``, and ``CANCELLED+`` where the column is too narrow.
    """
    words = text.split()
    return _BY_WORD.get(words[0].rstrip("+").upper()) if words else None
