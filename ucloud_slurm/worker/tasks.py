"""Long changes of files at UCloud: tasks are made there for those that last or fail, and follow what their rows say."""

import logging
import time

from ucloud_slurm.errors import CoreRefusedError, CoreUnavailableError, one_line
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.store.tasks import Task
from ucloud_slurm.ucloud import tasks as ucloud

log = logging.getLogger(__name__)

SHOW_SECONDS = 5.0  # a change that ends sooner, and well, is not shown
POST_SECONDS = 100.0  # UCloud lists a task for five minutes after its last change
CALL_SECONDS = 5.0  # for one call
BUDGET_SECONDS = 10.0  # of a pass; later passes report the rest
MOST = 200  # of a pass
ICONS = {"copy": "copy", "move": "move", "erase": "trash"}


def report_tasks(provider: Provider) -> bool:
    """Makes the tasks that UCloud must show, and posts what has changed.

    :returns: False if UCloud could not be reached; the rest waits for the next pass
    """
    tasks, now, until = provider.tasks, provider.now(), time.monotonic() + BUDGET_SECONDS
    try:
        for task in tasks.to_create(now - SHOW_SECONDS, MOST):
            if time.monotonic() < until:
                _create(provider, task)
        for task in tasks.to_post(now - POST_SECONDS, MOST):
            if time.monotonic() < until:
                _post(provider, task)
    except CoreUnavailableError as error:
        log.log(error.severity, "tasks wait to be reported: %s", error)
        return False
    return True


def _create(provider: Provider, task: Task) -> None:
    icon = ICONS.get(task.kind, "tasks")
    try:
        id_ = ucloud.create_task(provider.core, task.user, task.title, task.progress, icon=icon, timeout=CALL_SECONDS)
    except CoreRefusedError as error:
        _refused(provider, task, error)
        return
    provider.tasks.created(task, id_, provider.now())


def _post(provider: Provider, task: Task) -> None:
    if task.task_id is None:
        return
    try:
        ucloud.post_status(provider.core, task.task_id, task.status, timeout=CALL_SECONDS)
    except CoreRefusedError as error:
        _refused(provider, task, error)
        return
    provider.tasks.posted(task, provider.now())


def _refused(provider: Provider, task: Task, error: CoreRefusedError) -> None:
    """UCloud refuses this task, and it is not shown any more; what is done goes on.

    :raises CoreUnavailableError: the answer is not about the task: it comes from a proxy, or concerns the access token
    """
    about_us = not error.explained or error.status not in (400, 403, 404)
    if about_us or (error.status == 403 and not provider.core.admits_us()):
        raise CoreUnavailableError(str(error))
    log.warning("task %d: UCloud does not show it: %s", task.id, one_line(str(error), 200))
    provider.tasks.refused(task, one_line(error.why, 200))
