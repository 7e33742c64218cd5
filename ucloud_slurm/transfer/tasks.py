"""Long changes of files: threads take them from their rows by lease, and see to it that each is done as its user.

Nothing of a task is kept here. When this process ends, so does the work, and the next process begins again with the same
key. While the lease is held the work's own process says how far it is; it ends when the socket to it is closed.
"""

import logging
import socket
import threading
import time
from contextlib import suppress

from ucloud_slurm.errors import NotNow, Problem, StorageError, one_line, place
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.tasks import LongWork, check, work_of
from ucloud_slurm.store.generation import Generation
from ucloud_slurm.store.tasks import Task
from ucloud_slurm.ucloud.tasks import TaskState
from ucloud_slurm.users.file_work import Finished, Progress, read_progress
from ucloud_slurm.users.files import Work

log = logging.getLogger(__name__)

AT_ONCE = 8
AT_ONCE_PER_USER = 2
LOOK_SECONDS = 1.0  # between two looks at the rows, and for a look whether a task is cancelled
LEASE_SECONDS = 60.0  # without being extended; after a failure that may pass the work begins again when it is over
WRITE_SECONDS = 2.0  # between two writes of how far a task is
CHECK_SECONDS = 5.0  # for the mapping of users, and UCloud
STOP_SECONDS = 5.0  # for the threads to end
ATTEMPTS = 10  # of one task
WRITE_ATTEMPTS = 30  # a second apart, of its end
INTERRUPTED = "This was interrupted too often, or the cluster did not answer; please try again later."
CANCELLED = "Cancelled"
_DONE = {Work.COPY: "copied", Work.MOVE: "moved", Work.ERASE: "deleted"}
_SIZES = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB"))


class TaskRunner:
    """Does the tasks of all users: some at a time, of each user fewer."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Starts a thread that looks for tasks, and one for each that it takes."""
        self._stopping.clear()
        looking = threading.Thread(target=self._look, name="tasks", daemon=True)
        self._threads = [looking]
        looking.start()

    def begin_stop(self) -> None:
        """Lets the threads end, without waiting for them. What they did is begun again by the next process, at once."""
        self._stopping.set()

    def stop(self) -> None:
        """Ends the threads, and waits for them."""
        self.begin_stop()
        until = time.monotonic() + STOP_SECONDS
        for thread in [*self._threads]:
            thread.join(max(until - time.monotonic(), 0.0))

    def run_once(self) -> int:
        """Does in this thread what waits, one task after the other; returns how many they were."""
        number = 0
        while not self._stopping.is_set() and (task := self._claim()) is not None:
            self._do(task)
            number += 1
        return number

    def _look(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            try:
                while (task := self._claim()) is not None:
                    self._begin(task)
            except StorageError as error:
                log.warning("tasks wait: %s", error)
            except Exception as error:  # the next look may succeed
                log.error("tasks wait: unexpected error at %s; please report it", place(error), exc_info=True)

    def _claim(self) -> Task | None:
        if Generation(self._provider.store).is_behind():  # what is in the rows may have been done long ago
            return None
        now = self._provider.now()
        return self._provider.tasks.claim(now, until=now + LEASE_SECONDS, per_user=AT_ONCE_PER_USER, in_all=AT_ONCE)

    def _begin(self, task: Task) -> None:
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        thread = threading.Thread(target=self._careful, args=(task,), name=f"task-{task.id}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _careful(self, task: Task) -> None:
        try:
            self._do(task)
        except Exception as error:  # its lease runs out
            log.error("task %d failed at %s; please report it", task.id, place(error), exc_info=True)

    def _do(self, task: Task) -> None:
        if task.attempts > ATTEMPTS:
            self._finish(task, TaskState.FAILURE, INTERRUPTED)
            return
        work = work_of(task)
        try:
            check(self._provider, task, work, CHECK_SECONDS)
        except Problem as problem:
            if problem.status >= 500:  # who they are cannot be found out now
                self._interrupted(task, problem)
            else:
                self._finish(task, TaskState.FAILURE, problem.why)
            return
        try:
            files = self._provider.files(task.local_user)
            channel = files.work(work.verb, work.source, work.target, work.policy, key=task.key)
        except NotNow as error:
            self._interrupted(task, error)
            return
        except Problem as problem:
            self._finish(task, TaskState.FAILURE, problem.why)
            return
        with channel:
            outcome = self._watch(task, work, channel)
        if outcome is not None:
            self._finish(task, *outcome)

    def _watch(self, task: Task, work: LongWork, channel: socket.socket) -> tuple[TaskState, str] | None:
        """Follows a work to its end, while its user wants it.

        :returns: how it ended; None where it is begun again
        """
        keeper = _Keeper(self._provider, task)
        target = None if work.target is None else work.target.parts
        while not self._stopping.is_set():
            try:
                packet = read_progress(channel, work.source.parts, target, LOOK_SECONDS)
            except NotNow as error:
                self._interrupted(task, error)
                return None
            if isinstance(packet, Finished):
                return _outcome(work, packet)
            if not keeper.keep(packet):
                return TaskState.CANCELLED, CANCELLED  # of an attempt that was replaced it does not count
        with suppress(StorageError):
            self._provider.tasks.release(task)
        return None

    def _interrupted(self, task: Task, error: Exception) -> None:
        """Its lease runs out, and it is begun again."""
        log.warning("task %d: %s; it is begun again in a minute", task.id, one_line(str(error), 200))

    def _finish(self, task: Task, state: TaskState, progress: str) -> None:
        """Writes how a task ended. A copy whose end is not written would be made once more."""
        for _ in range(WRITE_ATTEMPTS):
            try:
                counts = self._provider.tasks.finish(task, state, one_line(progress), self._provider.now())
            except StorageError as error:
                log.warning("task %d: its end cannot be written: %s", task.id, error)
                self._stopping.wait(LOOK_SECONDS)
                continue
            if counts:
                what = f"{one_line(task.username, 60)} as {task.local_user}: {task.kind}"
                log.info("task %d: %s: %s (%s)", task.id, what, state, one_line(progress, 200))
            return


class _Keeper:
    """Extends the lease of an attempt, and writes how far it is."""

    def __init__(self, provider: Provider, task: Task) -> None:
        self._provider = provider
        self._task = task
        self._renewed_at = time.monotonic()
        self._written_at = 0.0

    def keep(self, packet: Progress | None) -> bool:
        """Called every second or so.

        :param packet: how far it is; None: that is not known
        :returns: False when it is cancelled, or another attempt does it
        """
        tasks, at = self._provider.tasks, time.monotonic()
        with suppress(StorageError):  # the next look comes soon, and a lease is long
            if not tasks.goes_on(self._task):
                return False
            if at - self._renewed_at > LEASE_SECONDS / 4:
                tasks.renew(self._task, self._provider.now() + LEASE_SECONDS)
                self._renewed_at = at
            if packet is not None and at - self._written_at > WRITE_SECONDS:
                tasks.progress(self._task, _amount(packet.entries, packet.size), None)
                self._written_at = at
        return True


def _outcome(work: LongWork, packet: Finished) -> tuple[TaskState, str]:
    """The state of a work that has ended, and what its user reads. What was left out is a failure: else nobody reads of it."""
    if packet.problem is not None:
        return TaskState.FAILURE, packet.problem.why
    done = f"{_amount(packet.entries, packet.size)} {_DONE[work.verb]}"
    if packet.skipped:
        return TaskState.FAILURE, f"{done}; {packet.skipped} left out, which you cannot read or which are no files"
    return TaskState.SUCCESS, done


def _amount(entries: int, size: int) -> str:
    return f"{entries} {'entry' if entries == 1 else 'entries'}" + (f" ({_size(size)})" if size else "")


def _size(size: int) -> str:
    for unit, name in _SIZES:
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} bytes"
