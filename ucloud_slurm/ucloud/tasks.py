"""Tasks: what a provider does for a user for longer than a call lasts, as UCloud shows it.

Contract: ``tasks.create``, ``tasks.postStatus``. UCloud lists a task while it was changed in the last five minutes.
"""

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from ucloud_slurm.errors import CoreUnavailableError
from ucloud_slurm.ucloud import gate
from ucloud_slurm.ucloud.gate import Call, NamedUser, admit

if TYPE_CHECKING:
    from ucloud_slurm.ucloud.client import Client

UNKNOWN_PERCENTAGE = -1


class TaskState(StrEnum):
    """The states of a task (contract: TaskState)."""

    IN_QUEUE = "IN_QUEUE"
    RUNNING = "RUNNING"
    SUSPENDED = "SUSPENDED"
    CANCELLED = "CANCELLED"
    FAILURE = "FAILURE"
    SUCCESS = "SUCCESS"


class TaskStatus(NamedTuple):
    """The whole status of a task.

    :ivar progress: a sentence; of a failed task it is shown as the reason
    :ivar percentage: 0 to 100; None while it is not known
    """

    state: TaskState
    title: str
    progress: str
    percentage: int | None


def create_task(core: "Client", user: NamedUser, title: str, progress: str, *, icon: str, timeout: float) -> int:
    """``tasks.create``: makes a task that its user can cancel, in the state ``IN_QUEUE``. Attempted once: not idempotent.

    :returns: UCloud's id of it
    :raises CoreRefusedError: UCloud does not know the user (404)
    """
    data = core.call(gate.task_creation(user, title, progress, icon=icon), timeout=timeout)
    task_id = data.get("taskId") if isinstance(data, dict) else None
    if not isinstance(task_id, int) or isinstance(task_id, bool):
        raise CoreUnavailableError("UCloud's answer to the creation of a task cannot be understood")
    return task_id


def post_status(core: "Client", task_id: int, status: TaskStatus, *, timeout: float) -> None:
    """``tasks.postStatus``: replaces the status of a task. Idempotent.

    :raises CoreRefusedError: UCloud has no such task of this provider (404)
    """
    body = {
        "taskId": task_id,
        "newStatus": {
            "state": str(status.state),
            "title": status.title,
            "body": "",
            "progress": status.progress,
            "progressPercentage": UNKNOWN_PERCENTAGE if status.percentage is None else status.percentage,
        },
    }
    core.call(admit(Call.POST_TASK_STATUS, body={"update": body}), timeout=timeout)
