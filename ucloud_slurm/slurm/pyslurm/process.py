"""The child processes in which pyslurm runs: started in the background, watched, killed when they hang."""

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ucloud_slurm.errors import one_line
from ucloud_slurm.slurm.pyslurm.child import START_SECONDS
from ucloud_slurm.system import ipc
from ucloud_slurm.system.child import Child, isolated
from ucloud_slurm.system.ipc import ConnectionLostError, Message
from ucloud_slurm.system.lean import boot_clock

log = logging.getLogger(__name__)

HELLO_SECONDS = 1.0  # to receive what it says then
FIRST_BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS = 1.0, 60.0  # between a failure and the next start
RETRY_SECONDS = 600.0  # until a module that cannot be used is tried again
IDLE_POLL_SECONDS = 0.05  # a process that is being started notifies nobody when it is ready
ANSWER_BYTES = 1024 * 1024
ERRORS_BYTES = 20_000


class NotSentError(Exception):
    """The process did not get the request; another may serve it."""


class AnswerLostError(Exception):
    """The process got the request, and it is unknown what it did."""


class PySlurmProcess:
    """At most one running process, which no fork of this one shares. One call at a time, safe for several threads.

    :ivar reason: why no process answers, in a few words; None while one does
    """

    def __init__(
        self, commands: Path, env: Mapping[str, str], *, now: Callable[[], float] = time.monotonic, level: int = logging.INFO
    ) -> None:
        """Describes the process; nothing is started.

        :param commands: folder of Slurm's commands
        :param env: the whole environment of the process
        :param now: monotonic seconds
        :param level: of the log line that says, once, that the module cannot be used
        """
        self._argv = isolated("ucloud_slurm.slurm.pyslurm.child", str(commands))
        self._env = dict(env)
        self._now = now
        self._level = level
        self._lock = threading.Lock()
        self._child: _PySlurmChild | None = None
        self._failures = 0
        self._not_before = 0.0
        self._closed = False
        self._logged: str | None = None
        self.reason: str | None = "it has not been started"

    def begin(self) -> None:
        """Starts the process if there is none and no backoff lasts. Does not wait for it."""
        with self._lock:
            self._check()

    def ready(self, within: float) -> bool:
        """Waits until the process answers.

        :param within: seconds
        :returns: whether it does
        """
        until = time.monotonic() + within
        while True:
            with self._lock:
                if self._check():
                    return True
                child = self._child
            left = until - time.monotonic()
            if child is None or left <= 0 or not child.is_readable(left):
                return False

    def ask(self, message: Message, *, waits: float, within: float) -> Message:
        """Sends a request and returns its answer.

        :param waits: seconds until other threads' calls must be done
        :param within: seconds for all of it
        :raises NotSentError: the process did not get the request
        :raises AnswerLostError: it got the request and gave no answer
        """
        until = time.monotonic() + within
        if not self._lock.acquire(timeout=max(min(waits, within), 0.0)):
            raise NotSentError("other calls are being made")
        try:
            if not self._check() or self._child is None:
                raise NotSentError(self.reason or "it does not answer")
            left = until - time.monotonic()
            if left <= 0:
                raise NotSentError("there is no time left")
            return self._exchange(self._child, message | {"deadline": boot_clock() + left}, until)
        finally:
            self._lock.release()

    def _exchange(self, child: "_PySlurmChild", message: Message, until: float) -> Message:
        child.errors(0)  # what it prints in this call is asked for if it fails
        try:
            try:
                # The child does not act on a message that is not whole.
                ipc.send(child.channel, message, within=until - time.monotonic())
            except ConnectionLostError as error:
                raise NotSentError(self._fail(child, str(error))) from None
            try:
                answer, _ = ipc.receive(child.channel, ANSWER_BYTES, within=until - time.monotonic())
            except ConnectionLostError as error:
                raise AnswerLostError(self._fail(child, str(error))) from None
        except (NotSentError, AnswerLostError):
            raise
        except BaseException:
            # Such as the end of a request's time: its answer must not be taken for that of another.
            self._fail(child, "a call was given up")
            raise
        if "unfit" in answer and message["call"] == "submit":
            text = one_line(str(answer["unfit"]), 200)
            self._fail(child, text)
            raise AnswerLostError(text)
        self._failures = 0
        return answer

    def close(self) -> None:
        """Kills the process. It is not started again."""
        with self._lock:
            self._closed = True
            self.reason = "it is closed"
            if self._child is not None and self._child.is_ours():
                self._child.kill()
                self._child.close()
            self._child = None

    def _check(self) -> bool:
        """Whether the process answers; if not, starts it or takes note of its end. Never waits."""
        child = self._child
        if child is not None and not child.is_ours():
            # This process is a fork: the child answers the one that started it.
            child.close()
            child = self._child = None
            self._failures, self._not_before = 0, 0.0
        if child is None:
            self._start()
            return False
        readable = child.is_readable()
        if child.ready:
            if not readable:
                return True
            self._fail(child, "it has ended")
            return False
        if readable:
            return self._read_hello(child)
        if self._now() - child.started_at > START_SECONDS:
            self._fail(child, f"it took more than {START_SECONDS:.0f} s to start")
        return False

    def _start(self) -> None:
        if self._closed or self._now() < self._not_before:
            return
        try:
            self._child = _PySlurmChild(self._argv, self._env, self._now())
            self.reason = "it is being started"
        except OSError as error:
            self._back_off(f"it cannot be started ({error.strerror})")

    def _read_hello(self, child: "_PySlurmChild") -> bool:
        try:
            hello, _ = ipc.receive(child.channel, ANSWER_BYTES, within=HELLO_SECONDS)
        except ConnectionLostError as error:
            self._fail(child, f"it ended while it loaded the module ({error})")
            return False
        if hello.get("soon"):
            self._fail(child, str(hello.get("reason")))
            return False
        if "pyslurm" not in hello:
            child.kill()
            child.close()
            self._child = None
            self._back_off(str(hello.get("reason", "it gave no reason")), RETRY_SECONDS)
            return False
        child.ready = True
        self.reason = self._logged = None
        log.info("pyslurm %s is used, with the library of Slurm %s", hello["pyslurm"], hello.get("slurm"))
        return True

    def _fail(self, child: "_PySlurmChild", reason: str) -> str:
        child.kill()
        printed = child.last_line()
        reason = f"{reason}; it printed: {printed}" if printed else reason
        child.close()
        self._child = None
        self._failures += 1
        self._back_off(reason, min(FIRST_BACKOFF_SECONDS * 2 ** (self._failures - 1), LONGEST_BACKOFF_SECONDS))
        return reason

    def _back_off(self, reason: str, seconds: float = LONGEST_BACKOFF_SECONDS) -> None:
        self._not_before = self._now() + seconds
        self.reason = one_line(reason, 300)
        if self.reason != self._logged:
            self._logged = self.reason
            log.log(self._level, "Slurm's commands are used, not pyslurm: %s", self.reason)


class _PySlurmChild(Child):
    """One process.

    :ivar started_at: monotonic seconds
    :ivar ready: whether it has said that pyslurm can be used
    """

    def __init__(self, argv: list[str], env: Mapping[str, str], started_at: float) -> None:
        self.started_at = started_at
        self.ready = False
        self._parent = os.getpid()
        super().__init__(argv, env)

    def is_ours(self) -> bool:
        """Whether this process started it, not one that this process was forked from."""
        return self._parent == os.getpid()

    def last_line(self) -> str:
        """The last line of its error output, from its start or its last call."""
        lines = self.errors(ERRORS_BYTES).split("\n")
        return next((one_line(line, 300) for line in reversed(lines) if line.strip()), "")


class PySlurmPool:
    """A fixed number of processes. All but the first are started when a call would have to wait, and then stay.

    Safe for several threads.

    :ivar first: the process that says whether pyslurm can be used
    """

    def __init__(self, make: Callable[[], PySlurmProcess], most: int) -> None:
        """Describes the processes; nothing is started.

        :param make: describes one
        """
        self.first, *others = (make() for _ in range(most))
        self._all = [self.first, *others]
        self._idle = [*self._all]
        self._changed = threading.Condition()

    def ask(self, message: Message, *, waits: float, within: float) -> Message:
        """Sends a request to one of them. See :meth:`PySlurmProcess.ask`."""
        until = time.monotonic() + within
        process = self._acquire(min(waits, within))
        try:
            return process.ask(message, waits=waits, within=until - time.monotonic())
        finally:
            with self._changed:
                self._idle.append(process)
                self._changed.notify()

    def usable(self) -> bool:
        """Whether pyslurm can be used here, as far as is known without waiting."""
        with self._changed:
            return self.first.ready(0.0) if self.first in self._idle else self.first.reason is None

    def _acquire(self, within: float) -> PySlurmProcess:
        until = time.monotonic() + within
        with self._changed:
            while True:
                process = self._find_idle()
                if process is not None:
                    self._idle.remove(process)
                    return process
                left = until - time.monotonic()
                if left <= 0:
                    raise NotSentError("other calls are being made")
                self._changed.wait(min(left, IDLE_POLL_SECONDS))

    def _find_idle(self) -> PySlurmProcess | None:
        """An idle process that answers. If the first is idle and none answers: the first, which knows the reason."""
        busy = self.first not in self._idle
        for process in self._all:
            wanted = busy or process is self.first or process.reason is None
            if process in self._idle and wanted and process.ready(0.0):
                return process
        return None if busy else self.first

    def close(self) -> None:
        """Kills all of them. They are not started again."""
        for process in self._all:
            process.close()
