"""What becomes of jobs whose owners have nothing left in a category, and of those that have something again."""

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from ucloud_slurm.slurm.records import QueueRecord
from ucloud_slurm.slurm.states import Phase, SlurmState
from ucloud_slurm.ucloud.channel import OwnerKind, Payer

Queued = Literal["hold", "cancel"]

_HELD = frozenset({SlurmState.REQUEUE_HOLD, SlurmState.RESV_DEL_HOLD, SlurmState.SPECIAL_EXIT})


class Stage(Enum):
    """How far a job is."""

    UNSUBMITTED = "unsubmitted"
    WAITING = "waiting"
    RUNNING = "running"  # it has nodes


class Todo(Enum):
    """What is to be done with a job."""

    STOP = "stop"
    HOLD = "hold"  # do not submit it, or keep it from beginning
    RELEASE = "release"


@dataclass(frozen=True, slots=True)
class Standing:
    """How a job stands.

    :ivar held: Slurm keeps it from beginning, whoever wanted that
    :ivar ours: we wanted it
    """

    id: str
    payer: Payer
    stage: Stage
    held: bool
    ours: bool


def stage(record: QueueRecord) -> Stage | None:
    """How far a job is that squeue lists; None for one that ends or has ended, or whose state is not known."""
    state = record.state
    if state is None or state.phase is Phase.ENDED or state is SlurmState.COMPLETING:
        return None
    if state.phase is Phase.WAITING and state is not SlurmState.CONFIGURING:
        return Stage.WAITING
    return Stage.RUNNING


def is_held(record: QueueRecord) -> bool:
    """Whether Slurm keeps a waiting job from beginning because somebody said so."""
    return record.reason.startswith("JobHeld") or record.state in _HELD


def decide(jobs: Iterable[Standing], locked: Container[Payer], queued: Queued) -> Iterator[tuple[str, Todo]]:
    """What is to be done with which job. Jobs of which nothing is said stay as they are.

    A job that somebody else holds stays held: it does not begin, and it is not ours to release.

    :param locked: who has nothing left
    :param queued: what becomes of jobs that have not begun
    """
    for job in jobs:
        if job.payer not in locked:
            if job.ours:
                yield job.id, Todo.RELEASE
        elif job.stage is Stage.RUNNING or queued == "cancel":
            yield job.id, Todo.STOP
        elif not job.held and not (job.ours and job.stage is Stage.UNSUBMITTED):
            yield job.id, Todo.HOLD


def nothing_left(payer: Payer) -> str:
    """Why a new job is refused."""
    whose = "This project has" if payer.kind is OwnerKind.PROJECT else "You have"
    return f"{whose} no resources left in {payer.category}. Apply for more, or choose a machine of another category."


def waits(payer: Payer) -> str:
    """What is said of a job that is held."""
    whose = "The project has" if payer.kind is OwnerKind.PROJECT else "You have"
    return f"{whose} no resources left in {payer.category}. The job waits until there are some again."


def goes_on(payer: Payer) -> str:
    """What is said of a job that is released."""
    return f"There are resources in {payer.category} again. The job waits for its turn."
