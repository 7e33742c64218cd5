"""Tasks at today's Core: what providers do for users for longer than a call lasts (contract: tasks)."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tests.sandbox.core.call import Call
from tests.sandbox.core.directory import Directory
from tests.sandbox.core.errors import CoreEndsError, CoreError
from tests.sandbox.core.provider import ProviderCalls
from tests.sandbox.core.today.bodies import Stamp, received

Json = dict[str, Any]
FIRST_TASK = 815
LONGEST_ICON = 64
LISTED_MS = 5 * 60 * 1000
"""A task is listed for so long after its last change."""
STATES = frozenset({"IN_QUEUE", "RUNNING", "SUSPENDED", "CANCELLED", "FAILURE", "SUCCESS"})
FINAL = frozenset({"CANCELLED", "FAILURE", "SUCCESS"})


@dataclass(frozen=True, slots=True)
class CoreTask:
    """A task at one moment. Times are milliseconds since the epoch.

    :ivar history: every status that it has had, in order, with the first one
    """

    id: int
    user: str
    state: str
    title: str | None
    body: str
    progress: str
    percentage: int | None
    can_pause: bool
    can_cancel: bool
    icon: str | None
    created_at: int
    modified_at: int
    history: tuple[str, ...] = ()

    def json(self, provider: str) -> Json:
        """The task as it is sent."""
        return {
            "taskId": self.id,
            "createdAt": self.created_at,
            "modifiedAt": self.modified_at,
            "createdBy": self.user,
            "provider": provider,
            "status": {
                "state": self.state,
                "title": self.title,
                "body": self.body,
                "progress": self.progress,
                "progressPercentage": self.percentage,
            },
            "specification": {"canPause": self.can_pause, "canCancel": self.can_cancel},
            "icon": self.icon,
        }


@dataclass(frozen=True, slots=True)
class NewTask:
    """The request of tasks.create."""

    user: str = ""
    title: str | None = None
    body: str = ""
    progress: str = ""
    can_pause: bool = False
    can_cancel: bool = False
    icon: str | None = None


@dataclass(frozen=True, slots=True)
class NewStatus:
    """A status, whole."""

    state: str = ""
    title: str | None = None
    body: str = ""
    progress: str = ""
    progress_percentage: int | None = None
    modified_at: Stamp = Stamp(0)  # noqa: RUF009


@dataclass(frozen=True, slots=True)
class StatusUpdate:
    """A status and the task that it is of."""

    task_id: int = 0
    new_status: NewStatus = field(default_factory=NewStatus)


@dataclass(frozen=True, slots=True)
class PostedStatus:
    """The request of tasks.postStatus."""

    update: StatusUpdate = field(default_factory=StatusUpdate)


@dataclass(frozen=True, slots=True)
class TaskId:
    """The request of tasks.markAsComplete."""

    id: int = 0


class CoreTasks:
    """All tasks. Safe for several threads: what it gives out does not change."""

    def __init__(self, provider: str, changed: threading.Condition, directory: Directory, now_ms: Callable[[], int]) -> None:
        self._provider = provider
        self._changed = changed
        self._directory = directory
        self._now_ms = now_ms
        self._tasks: dict[int, CoreTask] = {}
        self._calls: ProviderCalls | None = None

    def work(self) -> Mapping[str, Callable[[Call], Json]]:
        """What does each call."""
        return {
            "tasks.create": self.create,
            "tasks.postStatus": self.post_status,
            "tasks.markAsComplete": self.mark_as_complete,
        }

    # -- what the provider asks -----------------------------------------------------------------------------

    def create(self, call: Call) -> Json:
        """``tasks.create``."""
        new = received(call, NewTask)
        with self._changed:
            if not self._directory.knows(new.user):
                raise CoreError(404, "Not found")
            if len(new.icon or "") > LONGEST_ICON:
                raise CoreEndsError(f"an icon of a task that has more than {LONGEST_ICON} characters")
            now = self._now_ms()
            task = CoreTask(
                FIRST_TASK + len(self._tasks), new.user, "IN_QUEUE", new.title, new.body, new.progress, None,
                new.can_pause, new.can_cancel, new.icon, now, now, ("IN_QUEUE",),
            )  # fmt: skip
            self._tasks[task.id] = task
            self._changed.notify_all()
            return task.json(self._provider)

    def post_status(self, call: Call) -> Json:
        """``tasks.postStatus``: the new status is the whole one."""
        update = received(call, PostedStatus).update
        new, percentage = update.new_status, update.new_status.progress_percentage
        if new.state not in STATES:
            call.complain(f"{new.state!r} is no state of a task")
        if not new.title:
            call.complain("a status without a title: the whole status is replaced, and the user reads none")
        if percentage is not None and percentage > 100:
            call.complain(f"a task is done by {percentage} percent")
        if self.get(update.task_id).state in FINAL - {new.state}:
            call.complain(f"the task {update.task_id} has ended, and is {new.state} now")
        if new.state == "FAILURE" and not new.progress:
            call.complain("a task fails, and its user does not read why")
        self._change(
            update.task_id,
            state=new.state,
            title=new.title,
            body=new.body,
            progress=new.progress,
            percentage=None if percentage is None or percentage < 0 else percentage,
        )
        return {}

    def mark_as_complete(self, call: Call) -> Json:
        """``tasks.markAsComplete``: the texts stay."""
        self._change(received(call, TaskId).id, state="SUCCESS")
        return {}

    def _change(self, task_id: int, **parts: Any) -> None:
        with self._changed:
            before = self.get(task_id)
            history = (*before.history, parts["state"])
            self._tasks[task_id] = replace(before, modified_at=self._now_ms(), history=history, **parts)
            self._changed.notify_all()

    # -- what users see and ask -----------------------------------------------------------------------------

    def serve(self, calls: ProviderCalls) -> None:
        """Let users ask the provider."""
        self._calls = calls

    def all(self) -> list[CoreTask]:
        """Every task, by id."""
        with self._changed:
            return list(self._tasks.values())

    def get(self, task_id: int) -> CoreTask:
        """One task.

        :raises CoreError: 404
        """
        with self._changed:
            if task_id not in self._tasks:
                raise CoreError(404, "Not found")
            return self._tasks[task_id]

    def listed(self, user: str) -> list[CoreTask]:
        """The tasks that a user sees: those that changed a short while ago."""
        since = self._now_ms() - LISTED_MS
        return [task for task in self.all() if task.user == user and task.modified_at >= since]

    def forget(self, task_id: int) -> None:
        """Lose a task."""
        with self._changed:
            del self._tasks[task_id]

    def request(self, user: str, task_id: int, state: str = "CANCELLED") -> None:
        """A user wants a task to be cancelled, or in another state; Core itself changes nothing.

        :raises CoreError: 404 when it is another user's, and what the provider answered
        """
        task = self.get(task_id)
        if task.user != user or self._calls is None:
            raise CoreError(404, "Not found")
        call = f"tasks.provider.{self._provider}.pauseOrCancel"
        self._calls.for_user(call, {"id": task_id, "requestedState": state}, user, unit=True)
