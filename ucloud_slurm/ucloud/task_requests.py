"""The request about a task that UCloud sends (contract: tasks.pauseOrCancel)."""

from ucloud_slurm.ucloud.wire import Int, Message


class TaskChange(Message):
    """A user wants a task to be in another state.

    :ivar id: UCloud's id of the task
    """

    id: Int
    requested_state: str
