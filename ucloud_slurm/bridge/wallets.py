"""Which jobs are stopped, held or released when the wallet that pays for them is locked or unlocked."""

from collections.abc import Container, Iterable, Iterator
from enum import Enum
from typing import Literal, NamedTuple

from ucloud_slurm.slurm.records import QueueRecord
from ucloud_slurm.slurm.states import Phase, SlurmState
from ucloud_slurm.ucloud.channel import OwnerKind, Payer

Queued = Literal["hold", "cancel"]

_HELD = frozenset({SlurmState.REQUEUE_HOLD, SlurmState.RESV_DEL_HOLD, SlurmState.SPECIAL_EXIT})


class Stage(Enum):
    """How far a job is."""

    UNSUBMITTED = "unsubmitted"
    WAITING = "waiting"
    RUNNING = "running"  # has nodes


class WalletAction(Enum):
    """What is done to a job."""

    STOP = "stop"
    HOLD = "hold"  # an unsubmitted job is not submitted; a waiting one gets scontrol hold
    RELEASE = "release"


class BilledJob(NamedTuple):
    """A job that has not ended, and the wallet that pays for it.

    :ivar held: it is held in Slurm, by this provider or somebody else
    :ivar ours: this provider holds it
    """

    id: str
    payer: Payer
    stage: Stage
    held: bool
    ours: bool


def stage(record: QueueRecord) -> Stage | None:
    """How far a job is that squeue lists; None for one that ends or has ended, or whose state is unknown."""
    state = record.state
    if state is None or state.phase is Phase.ENDED or state is SlurmState.COMPLETING:
        return None
    if state.phase is Phase.WAITING and state is not SlurmState.CONFIGURING:
        return Stage.WAITING
    return Stage.RUNNING


def is_held(record: QueueRecord) -> bool:
    """Whether a waiting job is held (scontrol(1): hold, requeuehold)."""
    return record.reason.startswith("JobHeld") or record.state in _HELD


def decide(jobs: Iterable[BilledJob], locked: Container[Payer], queued: Queued) -> Iterator[tuple[str, WalletAction]]:
    """What is done to which job. Jobs that are not named stay as they are.

    A job that somebody else holds stays as it is: it cannot begin, and this provider may not release it.

    :param locked: owners that have nothing left in a category
    :param queued: what is done to jobs that have not begun (``accounting.locked_queued``)
    """
    for job in jobs:
        if job.payer not in locked:
            if job.ours:
                yield job.id, WalletAction.RELEASE
        elif job.stage is Stage.RUNNING or queued == "cancel":
            yield job.id, WalletAction.STOP
        elif not job.held and not (job.ours and job.stage is Stage.UNSUBMITTED):
            yield job.id, WalletAction.HOLD


def nothing_left(payer: Payer) -> str:
    """The sentence with which a new job is refused."""
    whose = "This project has" if payer.kind is OwnerKind.PROJECT else "You have"
    return f"{whose} no resources left in {payer.category}. Apply for more, or choose a machine of another category."


def held_sentence(payer: Payer) -> str:
    """The status of a job that is held."""
    whose = "The project has" if payer.kind is OwnerKind.PROJECT else "You have"
    return f"{whose} no resources left in {payer.category}. The job waits until there are some again."


def released_sentence(payer: Payer) -> str:
    """The status of a job that is released."""
    return f"There are resources in {payer.category} again. The job is released."
