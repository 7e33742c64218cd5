"""Runs one command with a hard time limit and a fixed environment."""

import errno
import os
import select
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

from ucloud_slurm.system import deadline, limits

PIPE_SECONDS = 1.0  # for a killed command to end
KILL_SECONDS = 0.05  # of these, also for a caller who has no time left
WITHOUT_PIDFD_SECONDS = 0.002
PIECE_BYTES = 65536
IGNORED = (signal.SIGPIPE, signal.SIGXFSZ)  # by Python

_closed: list[bool] = []  # not empty: it has been done
_left: list[int] = []  # commands that could not be killed at once


class Started(Protocol):
    """A command that has been started, or is started with its input, and waits for that input."""

    def finish(self, stdin: str, timeout: float) -> "Finished":
        """Gives the command its input and waits for its end.

        :param timeout: seconds
        :raises CommandMissingError: it could not be started
        :raises CommandTimeoutError: it was killed at the limit; what it had done by then is unknown
        """

    def kill(self) -> None:
        """Kills a command that has not been given its input."""


class Start(Protocol):
    """Starts a command as the account of this process, or as another user."""

    def __call__(self, argv: Sequence[str], env: Mapping[str, str], by_library: Mapping[str, Any] | None = None, /) -> Started:
        """Starts it.

        :param by_library: the same work for a process of that user that has Slurm's library, which then does it instead
        :raises CommandMissingError: it could not be started
        """


class Preparation(Protocol):
    """A job's folder, and the command that submits the job, as its user."""

    def start(self, argv: Sequence[str], env: Mapping[str, str], by_library: Mapping[str, Any] | None = None) -> Started:
        """Starts the command, which waits for its input; the folder may be made meanwhile. See :class:`Start`.

        :raises CommandMissingError: it could not be started
        """

    def ready(self) -> None:
        """Returns when the folder is there, or will be before the command has its input.

        :raises StorageFullError: it cannot be made or written
        """


class CommandMissingError(Exception):
    """The command is not there or may not be run; nothing happened."""


class CommandTimeoutError(Exception):
    """The command was ended at its limit; what it had done by then is unknown."""


class Finished(NamedTuple):
    """A command that came to its end by itself.

    :ivar answer: of the library that did its work instead (:class:`Start`); None: the command was run
    """

    status: int
    output: str
    errors: str
    answer: Mapping[str, Any] | None = None


class Command:
    """A command in a session of its own, so that all of it can be killed at a time limit. See :class:`Started`.

    It is started with posix_spawn(3): a submission is short, and what subprocess does around it took a third of a bulk.
    It begins in the folder of this process, which is the root of all where jobs are submitted (SLURM_SUBMIT_DIR).

    :raises CommandMissingError: it could not be started
    """

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], _by_library: Mapping[str, Any] | None = None) -> None:
        self._name = os.path.basename(argv[0])
        _close_in_commands()
        _reap()
        theirs: list[int] = []
        self._ours: list[int] = []  # the other ends of its standard streams that are open
        try:
            for number in range(3):
                ends = os.pipe()
                theirs.append(ends[number != 0])
                self._ours.append(ends[number == 0])
            streams = [(os.POSIX_SPAWN_DUP2, theirs[number], number) for number in range(3)]
            self._pid = os.posix_spawn(_found(argv[0], env), [*argv], env, file_actions=streams, setsid=True, setsigdef=IGNORED)
        except OSError as error:
            self._close(*self._ours)
            raise CommandMissingError(f"{argv[0]} cannot be run ({error.strerror})") from None
        finally:
            for each in theirs:
                os.close(each)
        limits.restore(self._pid)  # in time: sbatch reads its limits after its script has come

    def finish(self, stdin: str, timeout: float) -> Finished:
        try:
            timeout = deadline.left(timeout)
            until = time.monotonic() + max(timeout, 0.001)
            output, errors = self._exchange(stdin.encode("utf-8", "replace"), until)
            status = self._wait(until)
        except BaseException:
            self.kill()
            raise
        if status is None:
            self.kill()
            raise CommandTimeoutError(f"{self._name} gave no answer in {timeout:.1f} s")
        return Finished(os.waitstatus_to_exitcode(status), output.decode("utf-8", "replace"), errors.decode("utf-8", "replace"))

    def _exchange(self, data: bytes, until: float) -> tuple[bytes, bytes]:
        """Writes its input and reads what it prints, until it has closed both outputs or the time is over."""
        stdin, *outputs = self._ours
        printed: dict[int, list[bytes]] = {each: [] for each in outputs}
        os.set_blocking(stdin, False)
        data = self._write(stdin, data)
        poll = select.poll()
        for each in outputs:
            poll.register(each, select.POLLIN)
        if data:
            poll.register(stdin, select.POLLOUT)
        while self._ours and (ready := poll.poll(max(until - time.monotonic(), 0.0) * 1000)):
            for each, _ in ready:
                if each == stdin:
                    data = self._write(stdin, data)
                elif piece := os.read(each, PIECE_BYTES):
                    printed[each].append(piece)
                else:
                    self._close(each)
                if each not in self._ours:
                    poll.unregister(each)
        output, errors = (b"".join(pieces) for pieces in printed.values())
        return output, errors

    def _write(self, stdin: int, data: bytes) -> bytes:
        """Writes what the pipe takes; gives the rest. The pipe is closed when there is none."""
        try:
            data = data[os.write(stdin, data) :] if data else data
        except BlockingIOError:
            return data
        except BrokenPipeError:  # it does not read its input
            data = b""
        if not data:
            self._close(stdin)
        return data

    def _wait(self, until: float) -> int | None:
        """Its status as waitpid(2) has it, once it has ended; None if it has not until then."""
        if self._ours:  # it has not come to its end
            return None
        with suppress(OSError, AttributeError):  # a kernel without pidfd_open(2)
            descriptor = os.pidfd_open(self._pid)
            try:
                ended = select.poll()
                ended.register(descriptor, select.POLLIN)
                ended.poll(max(until - time.monotonic(), 0.0) * 1000)
            finally:
                os.close(descriptor)
        while not (found := self._status()) and time.monotonic() < until:
            time.sleep(WITHOUT_PIDFD_SECONDS)
        return found and found[1]

    def _status(self) -> tuple[int, int] | None:
        pid, status = os.waitpid(self._pid, os.WNOHANG)
        if not pid:
            return None
        self._pid = 0
        return pid, status

    def kill(self) -> None:
        """Kills the command and all of its session, unless it has ended."""
        if not self._pid:
            return
        until = time.monotonic() + max(deadline.left(PIPE_SECONDS), KILL_SECONDS)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._pid, signal.SIGKILL)
        self._close(*self._ours)
        if self._wait(until) is None:  # the kernel holds it
            _left.append(self._pid)
            self._pid = 0

    def _close(self, *descriptors: int) -> None:
        for each in descriptors:
            os.close(each)
        self._ours = [each for each in self._ours if each not in descriptors]


def run(argv: Sequence[str], env: Mapping[str, str], timeout: float, stdin: str = "") -> Finished:
    """Runs a command from its start to its end.

    :param timeout: seconds
    :raises CommandMissingError: it could not be started
    :raises CommandTimeoutError: it was killed at the limit
    """
    return Command(argv, env).finish(stdin, timeout)


def _found(name: str, env: Mapping[str, str]) -> str:
    """The path of a program, which is looked for where the environment of the command says.

    :raises FileNotFoundError: it is nowhere
    """
    if "/" in name:
        return name
    for folder in os.get_exec_path(env):
        if os.access(path := os.path.join(folder, name), os.X_OK):
            return path
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def _close_in_commands() -> None:
    """Has the descriptors that this process was started with closed in each command, as Python's own are (PEP 446)."""
    if _closed:
        return
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # that of the list itself
            if int(name) > 2:
                os.set_inheritable(int(name), False)
    _closed.append(True)


def _reap() -> None:
    """Takes the status of those commands that could not be killed at once and have ended since."""
    for pid in _left[:]:
        try:
            ended = os.waitpid(pid, os.WNOHANG)[0]
        except ChildProcessError:  # another thread has taken it
            ended = pid
        if ended:
            with suppress(ValueError):
                _left.remove(pid)
