"""Our side of the small process in which pyslurm lives: started in the background, watched, ended when it hangs."""

import logging
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from ucloud_slurm.errors import one_line
from ucloud_slurm.system import ipc
from ucloud_slurm.system.ipc import ConnectionLostError, Message

log = logging.getLogger(__name__)

START = 30.0  # seconds that it may take to say that it is there
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds between an end and the next start
LOOK_AGAIN = 600.0  # seconds after which a module that could not be used is tried again
LAST_WORDS = 1.0  # seconds for a killed process to be gone
ANSWER = 1024 * 1024  # bytes

# Isolated: no user's packages, no current folder; modules come from where ours came from.
_BEGIN = (
    "import sys; commands, oldest, *sys.path[:] = sys.argv[1:]; "
    "from ucloud_slurm.slurm.pyslurm.child import main; main(commands, oldest)"
)
_PACKAGES = str(Path(__file__).parents[3])


class NotSentError(Exception):
    """The process has not been asked; somebody else may be."""


class AnswerLostError(Exception):
    """The process was asked, and nobody knows what it did."""


class Process:
    """At most one process, of this process of ours alone. Safe for several threads, one call at a time.

    :ivar reason: why there is none that answers, in a few words; None while there is
    """

    def __init__(
        self,
        commands: Path,
        oldest: str,
        env: Mapping[str, str],
        *,
        now: Callable[[], float] = time.monotonic,
        level: int = logging.INFO,
    ) -> None:
        """Describes a process; nothing is started.

        :param commands: folder of Slurm's commands
        :param oldest: the oldest release of pyslurm that will do
        :param env: the whole environment of the process
        :param now: seconds that only grow
        :param level: how loudly it is said, once, that the module cannot be used
        """
        self._argv = [str(commands), oldest]
        self._env = dict(env)
        self._now = now
        self._level = level
        self._lock = threading.Lock()
        self._child: _Child | None = None
        self._failures = 0
        self._not_before = 0.0
        self._closed = False
        self._said: str | None = None
        self.reason: str | None = "it has not been started"

    def begin(self) -> None:
        """Starts it, unless it is there or has to wait. Does not wait for it."""
        with self._lock:
            self._look()

    def ready(self, within: float) -> bool:
        """Waits until it answers.

        :param within: seconds
        :returns: whether it does
        """
        until = time.monotonic() + within
        while True:
            with self._lock:
                if self._look():
                    return True
                child = self._child
            left = until - time.monotonic()
            if child is None or left <= 0 or not child.speaks(left):
                return False

    def ask(self, message: Message, *, waits: float, within: float) -> Message:
        """Has it do something.

        :param waits: seconds for others' calls to be done
        :param within: seconds for all of it
        :raises NotSentError: it was not asked
        :raises AnswerLostError: it was asked, and gave no answer
        """
        until = time.monotonic() + within
        if not self._lock.acquire(timeout=max(min(waits, within), 0.0)):
            raise NotSentError("others are being served")
        try:
            if not self._look() or self._child is None:
                raise NotSentError(self.reason or "it does not answer")
            left = until - time.monotonic()
            if left <= 0:
                raise NotSentError("there is no time left")
            return self._asked(self._child, message | {"within": left}, until)
        finally:
            self._lock.release()

    def _asked(self, child: "_Child", message: Message, until: float) -> Message:
        try:
            try:
                # What is not sent whole is not acted on.
                ipc.send(child.channel, message, within=until - time.monotonic())
            except ConnectionLostError as error:
                raise NotSentError(self._failed(child, str(error))) from None
            try:
                answer, given = ipc.receive(child.channel, ANSWER, within=until - time.monotonic())
            except ConnectionLostError as error:
                raise AnswerLostError(self._failed(child, str(error))) from None
        except (NotSentError, AnswerLostError):
            raise
        except BaseException:
            # Such as the end of a request's time: its answer must not be taken for that of another.
            self._failed(child, "a call was given up")
            raise
        ipc.close(given)
        if "unfit" in answer and message["call"] == "submit":
            text = one_line(str(answer["unfit"]), 200)
            self._failed(child, text)
            raise AnswerLostError(text)
        self._failures = 0
        return answer

    def close(self) -> None:
        """Ends it. It is not started again."""
        with self._lock:
            self._closed = True
            self.reason = "it is closed"
            if self._child is not None and self._child.is_ours():
                self._child.end()
                self._child.forget()
            self._child = None

    def _look(self) -> bool:
        """Whether it answers; sees to it that it soon does. Never waits."""
        child = self._child
        if child is not None and not child.is_ours():
            # That of the process that we were forked from; nothing here is to be said to it.
            child.forget()
            child = self._child = None
            self._failures, self._not_before = 0, 0.0
        if child is None:
            self._start()
            return False
        speaks = child.speaks(0.0)
        if child.there:
            if not speaks:
                return True
            self._failed(child, "it has ended")
            return False
        if speaks:
            return self._hear(child)
        if self._now() - child.begun > START:
            self._failed(child, f"it took more than {START:.0f} s to start")
        return False

    def _start(self) -> None:
        if self._closed or self._now() < self._not_before:
            return
        try:
            self._child = _Child(self._argv, self._env, self._now())
            self.reason = "it is being started"
        except OSError as error:
            self._pause(f"it cannot be started ({error.strerror})")

    def _hear(self, child: "_Child") -> bool:
        try:
            hello, given = ipc.receive(child.channel, ANSWER, within=1.0)
            ipc.close(given)
        except ConnectionLostError as error:
            self._failed(child, f"it ended while it loaded the module ({error})")
            return False
        if hello.get("soon"):
            self._failed(child, str(hello.get("reason")))
            return False
        if "pyslurm" not in hello:
            child.end()
            child.forget()
            self._child = None
            self._pause(str(hello.get("reason", "it said nothing useful")), LOOK_AGAIN)
            return False
        child.there = True
        self.reason = self._said = None
        log.info("pyslurm %s is used, with the library of Slurm %s", hello["pyslurm"], hello.get("slurm"))
        return True

    def _failed(self, child: "_Child", reason: str) -> str:
        child.end()
        words = child.last_words()
        reason = f"{reason}; it said: {words}" if words else reason
        child.forget()
        self._child = None
        self._failures += 1
        self._pause(reason, min(FIRST_PAUSE * 2 ** (self._failures - 1), LONGEST_PAUSE))
        return reason

    def _pause(self, reason: str, seconds: float = LONGEST_PAUSE) -> None:
        self._not_before = self._now() + seconds
        self.reason = one_line(reason, 300)
        if self.reason != self._said:
            self._said = self.reason
            log.log(self._level, "pyslurm is not used at the moment, Slurm's commands are: %s", self.reason)


class _Child:
    """One process.

    :ivar channel: what is said to it and what it says
    :ivar begun: when it was started
    :ivar there: whether it has said that it can be used
    """

    def __init__(self, argv: list[str], env: Mapping[str, str], begun: float) -> None:
        self.begun = begun
        self.there = False
        self._pid = os.getpid()
        places = [_PACKAGES, *(place for place in sys.path if place.startswith("/"))]
        self.channel, theirs = socket.socketpair()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  it lives as long as the process
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", _BEGIN, *argv, *places],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=self._errors,
                    env=dict(env),
                    cwd="/",
                    start_new_session=True,
                )
        except BaseException:
            self.forget()
            raise

    def is_ours(self) -> bool:
        """Whether it was this very process that started it."""
        return self._pid == os.getpid()

    def speaks(self, within: float) -> bool:
        """Whether something comes from it, which may be its end."""
        poll = select.poll()
        poll.register(self.channel, select.POLLIN)
        return bool(poll.poll(within * 1000))

    def last_words(self) -> str:
        """The last line that it has printed, before it was there or in its last call."""
        self._errors.seek(0)
        lines = self._errors.read(20_000).decode(errors="replace").split("\n")
        return next((one_line(line, 300) for line in reversed(lines) if line.strip()), "")

    def forget(self) -> None:
        """Lets go of it without a word."""
        self.channel.close()
        self._errors.close()

    def end(self) -> None:
        """Ends it with all that it has started."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(LAST_WORDS)
