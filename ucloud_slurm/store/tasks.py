"""Tasks: long changes of files, which threads of the file unit take by lease and UCloud shows to their users.

Attempts repeat a task whose process died; an outcome counts only with the current attempt.
"""

import os
from collections.abc import Sequence
from typing import NamedTuple, Self

from ucloud_slurm.errors import TooMany
from ucloud_slurm.store.sqlite import Row, Store
from ucloud_slurm.ucloud.gate import NamedUser
from ucloud_slurm.ucloud.tasks import TaskState, TaskStatus

MOST_OPEN_PER_USER = 1000  # UCloud sends a copy of so many files at most in one call
KEEP_SECONDS = 90 * 86400.0  # for which a task that has ended stays
_WAITING = "Waiting"
_STARTING = "Starting"
_AGAIN = "Starting again after an interruption"
_RESTORED = "The provider's database was restored from a backup; please look what was done, and start this again."


class NewTask(NamedTuple):
    """A task that is to be written.

    :ivar kind: copy, move or erase
    :ivar username: the user of UCloud who asked for it, by a call of UCloud in their name
    :ivar local_user: the Unix user whose rights count
    :ivar work: JSON of what is done (:mod:`ucloud_slurm.provider.tasks`)
    :ivar title: what the user reads
    """

    kind: str
    username: str
    local_user: str
    work: str
    title: str


class Task(NamedTuple):
    """A task. Times are seconds since the epoch.

    :ivar key: of the work, the same in each attempt
    :ivar progress: what the user reads; of a failed task the reason
    :ivar percentage: None while it is not known
    :ivar cancelled: its user wants no more of it
    :ivar lease_until: until then it is done by a process; None while none does it
    :ivar task_id: UCloud's; None until UCloud shows it
    :ivar changes: the number of the last change of what UCloud shows
    :ivar reported: the number of the change that UCloud has
    :ivar refusal: what UCloud said against it, so that nothing more is reported
    """

    id: int
    key: str
    kind: str
    username: str
    local_user: str
    work: str
    title: str
    state: TaskState
    progress: str
    percentage: int | None
    cancelled: bool
    attempts: int
    claimed_at: float | None
    lease_until: float | None
    created_at: float
    ended_at: float | None
    task_id: int | None
    changes: int
    reported: int
    reported_at: float | None
    refusal: str | None

    @classmethod
    def read(cls, row: Row) -> Self:
        """The row of the table as a fact."""
        return cls(**(dict(row) | {"state": TaskState(row["state"]), "cancelled": bool(row["cancelled"])}))

    @property
    def user(self) -> NamedUser:
        """The user, whom UCloud named when it sent the call."""
        return NamedUser(self.username)

    @property
    def status(self) -> TaskStatus:
        """What UCloud shows."""
        return TaskStatus(self.state, self.title, self.progress, self.percentage)


class Tasks:
    """The tasks of all users."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, tasks: Sequence[NewTask], now: float) -> list[int]:
        """Writes tasks, all or none; returns their ids.

        :raises TooMany: one of their users has too many that have not ended
        """
        with self._store.writing() as db:
            for username in {task.username for task in tasks}:
                found = self._store.row(
                    "select count(*) as number from tasks where username = ? and ended_at is null", [username]
                )
                number = int(found["number"]) if found else 0
                if number + sum(task.username == username for task in tasks) > MOST_OPEN_PER_USER:
                    raise TooMany(f"You have {number} changes of files under way; please wait until some of them have ended.")
            return [
                int(
                    db.conn.execute(
                        "insert into tasks (key, kind, username, local_user, work, title, state, progress, created_at) "
                        "values (?, ?, ?, ?, ?, ?, 'IN_QUEUE', ?, ?)",
                        [os.urandom(8).hex(), task.kind, task.username, task.local_user, task.work, task.title, _WAITING, now],
                    ).lastrowid
                    or 0
                )
                for task in tasks
            ]

    def add_failed(self, task: NewTask, why: str, now: float) -> None:
        """Writes something that has failed already, so that UCloud shows its user why."""
        self._store.change(
            "insert into tasks (key, kind, username, local_user, work, title, state, progress, created_at, ended_at) "
            "values (?1, ?2, ?3, ?4, ?5, ?6, 'FAILURE', ?7, ?8, ?8)",
            [os.urandom(8).hex(), task.kind, task.username, task.local_user, task.work, task.title, why, now],
        )

    def of(self, id_: int) -> Task | None:
        """A task by our id."""
        row = self._store.row("select * from tasks where id = ?", [id_])
        return Task.read(row) if row else None

    def of_ucloud(self, task_id: int) -> Task | None:
        """A task by UCloud's id."""
        row = self._store.row("select * from tasks where task_id = ?", [task_id])
        return Task.read(row) if row else None

    # -- doing them -----------------------------------------------------------------------------------------

    def claim(self, now: float, *, until: float, per_user: int, in_all: int) -> Task | None:
        """Takes a task that nobody does: of a user who has the fewest under way, of these who waited longest for one.

        :param until: the end of the lease
        :param per_user: how many of one user are done at a time
        :param in_all: how many are done at a time
        """
        if self._next(now, per_user, in_all) is None:  # no write lock while there is nothing to do
            return None
        with self._store.writing():
            self._end_cancelled(now)
            id_ = self._next(now, per_user, in_all)
            if id_ is None:
                return None
            self._store.change(
                "update tasks set state = 'RUNNING', progress = case attempts when 0 then ? else ? end, percentage = null, "
                "attempts = attempts + 1, claimed_at = ?, lease_until = ?, changes = changes + 1 where id = ?",
                [_STARTING, _AGAIN, now, until, id_],
            )
            return self.of(id_)

    def _next(self, now: float, per_user: int, in_all: int) -> int | None:
        open_ = self._store.rows(
            "select id, username, coalesce(lease_until, 0) > ? as held from tasks where ended_at is null order by id", [now]
        )
        held: dict[str, int] = {}
        for row in open_:
            held[row["username"]] = held.get(row["username"], 0) + row["held"]
        first = {row["username"]: row["id"] for row in reversed(open_) if not row["held"]}
        may = [username for username in first if held[username] < per_user]
        if sum(held.values()) >= in_all or not may:
            return None
        return int(first[min(may, key=lambda name: (held[name], self._last_claim(name), first[name]))])

    def _last_claim(self, username: str) -> float:
        row = self._store.row("select max(claimed_at) as at from tasks where username = ?", [username])
        return -1.0 if row is None or row["at"] is None else float(row["at"])

    def renew(self, task: Task, until: float) -> bool:
        """Extends the lease of an attempt.

        :returns: False when the task is cancelled, or another attempt does it
        """
        sql = "update tasks set lease_until = ? where id = ? and attempts = ? and ended_at is null and not cancelled"
        return self._store.change(sql, [until, task.id, task.attempts], durable=False) > 0

    def goes_on(self, task: Task) -> bool:
        """Whether an attempt still counts, and its user wants it. Reads only."""
        row = self._store.row("select cancelled, attempts, ended_at from tasks where id = ?", [task.id])
        return row is not None and not row["cancelled"] and row["attempts"] == task.attempts and row["ended_at"] is None

    def progress(self, task: Task, progress: str, percentage: int | None) -> None:
        """How far an attempt is."""
        self._store.change(
            "update tasks set progress = ?1, percentage = ?2, changes = changes + 1 "
            "where id = ?3 and attempts = ?4 and ended_at is null and (progress <> ?1 or percentage is not ?2)",
            [progress, percentage, task.id, task.attempts],
            durable=False,
        )

    def finish(self, task: Task, state: TaskState, progress: str, now: float) -> bool:
        """An attempt has ended the task.

        :param state: a final one
        :param progress: of a failure the reason
        :returns: False when it was not its attempt any more
        """
        percentage = 100 if state is TaskState.SUCCESS else None
        with self._store.writing():
            ended = self._store.change(
                "update tasks set state = ?, progress = ?, percentage = coalesce(?, percentage), ended_at = ?, "
                "lease_until = null, changes = changes + 1 where id = ? and attempts = ? and ended_at is null",
                [state, progress, percentage, now, task.id, task.attempts],
            )
            if ended and state is not TaskState.FAILURE:  # UCloud shows a failure in any case; all else only if it began to
                self._store.change("update tasks set reported = changes where id = ? and task_id is null", [task.id])
        return ended > 0

    def release(self, task: Task) -> None:
        """The process of an attempt stops: another one may begin again at once."""
        sql = "update tasks set lease_until = null where id = ? and attempts = ? and ended_at is null"
        self._store.change(sql, [task.id, task.attempts])

    def cancel(self, task_id: int, username: str, now: float) -> Task | None:
        """A user wants no more of a task. Idempotent; what has ended stays as it is.

        :param task_id: UCloud's
        :returns: the task as it is now; None where this user has no such task
        """
        with self._store.writing():
            self._store.change(
                "update tasks set cancelled = 1 where task_id = ? and username = ? and ended_at is null", [task_id, username]
            )
            self._end_cancelled(now)
            found = self.of_ucloud(task_id)
            return found if found is not None and found.username == username else None

    def _end_cancelled(self, now: float) -> None:
        """Ends what is cancelled and done by no process."""
        self._store.change(
            "update tasks set state = 'CANCELLED', progress = 'Cancelled', ended_at = ?1, changes = changes + 1 "
            "where ended_at is null and cancelled and coalesce(lease_until, 0) <= ?1",
            [now],
        )

    def give_up(self, now: float) -> None:
        """Ends all that have not ended: what was done of them since the database was copied is not known.

        Called after an older database was restored. To begin again could copy, or delete, what was not meant.
        """
        self._store.change(
            "update tasks set state = 'FAILURE', progress = ?, ended_at = ?, lease_until = null, changes = changes + 1 "
            "where ended_at is null",
            [_RESTORED, now],
        )

    # -- reporting them -------------------------------------------------------------------------------------

    def to_create(self, before: float, most: int) -> list[Task]:
        """Tasks that UCloud must show and does not yet: that have not ended since then, or have failed. Oldest first.

        :param before: seconds since the epoch; a task that was written later may end soon, without being shown
        """
        return self._tasks(
            "select * from tasks where refusal is null and reported < changes and task_id is null "
            "and ((ended_at is null and created_at <= ?) or state = 'FAILURE') order by id limit ?",
            [before, most],
        )

    def to_post(self, silent_since: float, most: int) -> list[Task]:
        """Tasks that UCloud shows, and that have changed, or of which nothing was posted since then. Oldest first."""
        return self._tasks(
            "select * from tasks where task_id is not null and refusal is null and reported < changes union "
            "select * from tasks where ended_at is null and task_id is not null and refusal is null and reported_at <= ? "
            "order by id limit ?",
            [silent_since, most],
        )

    def _tasks(self, sql: str, parameters: Sequence[float]) -> list[Task]:
        return [Task.read(row) for row in self._store.rows(sql, parameters)]

    def created(self, task: Task, task_id: int, now: float) -> None:
        """UCloud has made the task, in the state ``IN_QUEUE``."""
        self._store.change("update tasks set task_id = ?, reported = 0, reported_at = ? where id = ?", [task_id, now, task.id])

    def posted(self, task: Task, now: float) -> None:
        """UCloud has the status that was read in this task; it may have changed since."""
        sql = "update tasks set reported = ?, reported_at = ? where id = ?"
        self._store.change(sql, [task.changes, now, task.id], durable=False)

    def refused(self, task: Task, why: str) -> None:
        """UCloud will not show this task: nothing more is reported."""
        self._store.change("update tasks set refusal = ? where id = ?", [why, task.id])
