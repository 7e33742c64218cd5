"""Slurm's job states, long and short names (squeue(1), sacct(1): JOB STATE CODES)."""

from enum import Enum
from functools import lru_cache
from typing import Self


class Phase(Enum):
    """What a state means for the allocation of the job."""

    WAITING = "waiting"
    ALLOCATED = "allocated"
    ENDED = "ended"


class SlurmState(Enum):
    """A state of a Slurm job; its value is the short code, ``phase`` whether it waits, has nodes, or has ended."""

    phase: Phase

    def __new__(cls, code: str, phase: Phase) -> Self:
        """A member with a code as its value."""
        state = object.__new__(cls)
        state._value_ = code
        state.phase = phase
        return state

    BOOT_FAIL = "BF", Phase.ENDED
    CANCELLED = "CA", Phase.ENDED
    COMPLETED = "CD", Phase.ENDED
    COMPLETING = "CG", Phase.ALLOCATED
    CONFIGURING = "CF", Phase.WAITING
    DEADLINE = "DL", Phase.ENDED
    FAILED = "F", Phase.ENDED
    NODE_FAIL = "NF", Phase.ENDED
    OUT_OF_MEMORY = "OOM", Phase.ENDED
    PENDING = "PD", Phase.WAITING
    PREEMPTED = "PR", Phase.ENDED
    REQUEUED = "RQ", Phase.WAITING
    REQUEUE_FED = "RF", Phase.WAITING
    REQUEUE_HOLD = "RH", Phase.WAITING
    RESIZING = "RS", Phase.ALLOCATED
    RESV_DEL_HOLD = "RD", Phase.WAITING
    REVOKED = "RV", Phase.ENDED
    RUNNING = "R", Phase.ALLOCATED
    SIGNALING = "SI", Phase.ALLOCATED
    SPECIAL_EXIT = "SE", Phase.WAITING
    STAGE_OUT = "SO", Phase.ALLOCATED
    STOPPED = "ST", Phase.ALLOCATED
    SUSPENDED = "S", Phase.ALLOCATED
    TIMEOUT = "TO", Phase.ENDED


_BY_WORD = {state.name: state for state in SlurmState} | {state.value: state for state in SlurmState}


@lru_cache(maxsize=256)
def read_state(text: str) -> SlurmState | None:
    """The state of that name, or None for an unknown word.

    sacct adds to the word: ``CANCELLED by 1000``, and ``CANCELLED+`` where the column is too narrow.
    """
    words = text.split()
    return _BY_WORD.get(words[0].rstrip("+").upper()) if words else None
