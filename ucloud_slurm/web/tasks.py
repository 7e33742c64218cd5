"""The call about long changes of files that UCloud shows as tasks: their users cancel them."""

import logging

from flask import request

from ucloud_slurm.errors import NotFound, Refused, one_line
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.ucloud.task_requests import TaskChange
from ucloud_slurm.ucloud.tasks import TaskState
from ucloud_slurm.web.routes import CallRegistry

log = logging.getLogger(__name__)


def declare(provider: Provider, calls: CallRegistry) -> None:
    """Declares it."""

    @calls.call("POST", "tasks/pauseOrCancel", takes=TaskChange)
    def pause_or_cancel(change: TaskChange) -> None:
        """Cancel a long change of files. None can be paused."""
        if change.requested_state != TaskState.CANCELLED:
            raise Refused("Changes of files cannot be paused here; this one can be cancelled.")
        user = provider.era.username(request.headers.get("UCloud-Username"))
        task = None if user is None else provider.tasks.cancel(change.id, user, provider.now())
        if user is None or task is None:
            raise NotFound("You have no such task at this provider.")
        log.info("task %d: %s cancels it (%s)", task.id, one_line(user, 60), task.kind)
