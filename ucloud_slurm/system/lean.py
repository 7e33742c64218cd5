"""What the program that acts as a user needs and the standard library has, without what that loads: it starts often.

enum and re, which json, socket, signal, typing and contextlib import, take longer to load than Python itself. The C modules
below them, which these import too (such as _json), do not need them. Here are JSON, deadlines that all processes of a host
share and the kernel enforces, and, in place of subprocess, a command that waits for its input and has such a deadline. It is
for a process without threads: it forks.
"""

from __future__ import annotations

import _json
import _signal  # type: ignore[import-not-found]
import fcntl
import os
import select
import time

TYPE_CHECKING = False  # typing has it, and loads slowly; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import Any

TIMER_SECONDS = 0.2  # by which a process may end later than at its deadline
OUTPUT_BYTES = 65536  # that are kept of what it prints on either output
_MFD_NOEXEC_SEAL = 0x8
_EINVAL = 22
_CONSTANTS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


class _Reader:
    """What the scanner asks of json.JSONDecoder."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = _CONSTANTS.__getitem__


_scan = _json.make_scanner(_Reader)  # type: ignore[arg-type]  # it takes whatever has these attributes


def to_json(data: object) -> str:
    """As json.dumps writes it.

    :raises ValueError: it contains itself
    :raises TypeError: it contains something that JSON has not
    :raises RecursionError: it is too deep
    """
    encoder = _json.make_encoder({}, _unknown, _json.encode_basestring_ascii, None, ": ", ", ", False, False, True)
    return "".join(encoder(data, 0))


def from_json(text: str) -> Any:
    """As json.loads reads it, but without blanks around it.

    :raises ValueError: it is no JSON
    :raises RecursionError: it is too deep
    """
    try:
        found, end = _scan(text, 0)
    except StopIteration:
        found, end = None, -1
    if end != len(text):
        raise ValueError("no JSON value, or more than one")
    return found


def _unknown(value: object) -> object:
    raise TypeError(f"JSON has no {type(value).__name__}")


class Suppress:
    """As contextlib.suppress."""

    def __init__(self, *errors: type[BaseException]) -> None:
        self._errors = errors

    def __enter__(self) -> None:
        """Begins."""

    def __exit__(self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> bool:
        return kind is not None and issubclass(kind, self._errors)


def boot_clock() -> float:
    """Seconds by the clock that all processes of this host share (clock_gettime(2))."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def end_at(deadline: float) -> None:
    """Has the kernel end this process at a deadline, and what it becomes by execve(2).

    One that is stopped then ends before it does anything else once it is continued (setitimer(2): SIGALRM waits).

    :param deadline: by :func:`boot_clock`
    :raises TimeoutError: it has passed
    """
    while True:
        left = deadline - boot_clock()
        if left <= 0:
            raise TimeoutError("the deadline has passed")
        _signal.setitimer(_signal.ITIMER_REAL, left)
        # A stop before the timer was set would have moved its end.
        if deadline - boot_clock() > left - TIMER_SECONDS:
            return


def end_no_more() -> None:
    """Takes back :func:`end_at`."""
    _signal.setitimer(_signal.ITIMER_REAL, 0)


class NotStartedError(Exception):
    """The command is not there, may not be run, or its deadline has passed; nothing happened."""


class EndedError(Exception):
    """The command was ended at its deadline; what it had done by then is unknown."""


class WaitingCommand:
    """A command in a session of its own, with the signals of a new process, in the folder of this one.

    Neither the end of this process gives it a part of its input, nor a stop of it more time (:func:`.end_at`).
    """

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], deadline: float) -> None:
        """Starts it.

        :param env: its whole environment
        :param deadline: by :func:`boot_clock`
        :raises NotStartedError: it cannot be started
        """
        self._argv, self._env, self._deadline = [*argv], env, deadline
        reading, self._input = os.pipe()
        self._begin(reading)

    def _begin(self, stdin: int) -> None:
        """Starts it with that standard input, which is closed here."""
        pipes = [os.pipe() for _ in range(3)]
        (self._output, output), (self._errors, errors), (reading, writing) = pipes
        try:
            self._pid = os.fork()
        except OSError as error:
            self._close(stdin, self._input, *(each for pipe in pipes for each in pipe))
            raise NotStartedError(f"{self._argv[0]} was not run ({error.strerror})") from None
        if self._pid == 0:
            self._become((stdin, output, errors), writing)
        self._close(stdin, output, errors, writing)
        reason = os.read(reading, 200).decode(errors="replace")  # its end is that of the copy of this program
        self._close(reading)
        if reason:
            self.kill()
            raise NotStartedError(reason)

    def _become(self, standard: tuple[int, int, int], reasons: int) -> None:
        """In the new process: becomes the command, or says why not. All other descriptors are closed by execve(2)."""
        try:
            os.setsid()
            for number, descriptor in enumerate(standard):
                os.dup2(descriptor, number)
            for each in (_signal.SIGPIPE, _signal.SIGXFSZ):  # which Python ignores
                _signal.signal(each, _signal.SIG_DFL)
            end_at(self._deadline)
            os.execve(self._argv[0], self._argv, self._env)
        except TimeoutError as error:
            os.write(reasons, f"{self._argv[0]} was not run ({error})".encode())
        except OSError as error:
            os.write(reasons, f"{self._argv[0]} cannot be run ({error.strerror})".encode())
        finally:
            os._exit(127)

    def finish(self, data: bytes, deadline: float) -> tuple[int, str, str]:
        """Gives the command its input and waits for its end.

        :param deadline: by which it is killed, if that is earlier than its own
        :returns: its status, and what it printed on its output and as errors
        :raises NotStartedError: nothing happened
        :raises EndedError: it was killed at the deadline
        """
        if self._holds(len(data)):
            with Suppress(BrokenPipeError):  # it has ended, and says why
                if os.write(self._input, data) < len(data):
                    self.kill()
                    raise EndedError("the input of a command was not taken")
        else:
            self.kill()
            self._begin(_memory_file(data))
        self._close(self._input)
        self._input = -1
        printed = {self._output: b"", self._errors: b""}
        poll = select.poll()
        for each in printed:
            poll.register(each, select.POLLIN)
        left = len(printed)
        while left:
            ready = poll.poll(max(min(deadline, self._deadline) - boot_clock(), 0.0) * 1000)
            if not ready:
                self.kill()
                raise EndedError(f"{os.path.basename(self._argv[0])} gave no answer in time")
            for each, _ in ready:
                piece = os.read(each, OUTPUT_BYTES)
                printed[each] = (printed[each] + piece)[:OUTPUT_BYTES]
                if not piece:
                    poll.unregister(each)
                    left -= 1
        output, errors = (each.decode(errors="replace") for each in printed.values())
        self._close(self._output, self._errors)
        return os.waitstatus_to_exitcode(self._wait()), output, errors

    def kill(self) -> None:
        """Kills the command and what it started, unless it has ended. One that has not had its input has done nothing."""
        if not self._pid:
            return
        self._close(self._input, self._output, self._errors)
        self._input = self._output = self._errors = -1
        with Suppress(ProcessLookupError):
            os.killpg(self._pid, _signal.SIGKILL)
        self._wait()

    def _wait(self) -> int:
        """Its status; without a limit, since nothing is left to do for the command, and the caller's own end is near."""
        pid, self._pid = self._pid, 0
        return os.waitpid(pid, 0)[1]

    def _holds(self, size: int) -> bool:
        """Whether the pipe takes so many bytes at once: a write that does not wait is whole, whatever happens to the writer."""
        if fcntl.fcntl(self._input, fcntl.F_GETPIPE_SZ) < size:
            with Suppress(OSError):  # its user has no more room, or it would be larger than pipes are (pipe(7))
                fcntl.fcntl(self._input, fcntl.F_SETPIPE_SZ, size)
        return fcntl.fcntl(self._input, fcntl.F_GETPIPE_SZ) >= size

    @staticmethod
    def _close(*descriptors: int) -> None:
        for each in descriptors:
            if each >= 0:
                os.close(each)


def _memory_file(data: bytes) -> int:
    """A file in memory, to be read from its beginning (memfd_create(2)).

    :raises NotStartedError: there is no memory for it
    """
    try:
        try:
            file = os.memfd_create("input", os.MFD_CLOEXEC | _MFD_NOEXEC_SEAL)
        except OSError as error:
            if error.errno != _EINVAL:  # Linux before 6.3
                raise
            file = os.memfd_create("input", os.MFD_CLOEXEC)
        with open(file, "wb", closefd=False) as writing:
            writing.write(data)
            writing.seek(0)
    except OSError as error:
        raise NotStartedError(f"there is no memory for the input of a command ({error.strerror})") from None
    return file
