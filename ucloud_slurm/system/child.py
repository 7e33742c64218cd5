"""Child processes: isolated Python interpreters, and processes that exchange messages with this one over a socket."""

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from io import FileIO
from pathlib import Path

from ucloud_slurm.system import ipc, limits

KILL_SECONDS = 1.0  # for a killed process to end
ERRORS_BYTES = 1024 * 1024  # that are read of what was printed as errors; a pipe has less unless its user enlarges it (pipe(7))
_PACKAGES = str(Path(__file__).parents[2])
# Its input ends with the process that started it; kill fails when nobody is in the group any more.
_CONTINUE = 'read -r _; while kill -s CONT -- "-$1" 2>/dev/null; do sleep 1; done'


def isolated(module: str, *arguments: str) -> list[str]:
    """The command line of a Python process that calls ``main(*arguments)`` of a module (python(1): -I, -S).

    It reads no PYTHON* variable, no current folder and no packages of the user; it imports from the absolute places
    from which this process imports.
    """
    places = [_PACKAGES, *(place for place in sys.path if place.startswith("/"))]
    end = len(arguments) + 1
    code = f"import sys; sys.path[:] = sys.argv[{end}:]; from {module} import main; main(*sys.argv[1:{end}])"
    return [sys.executable, "-I", "-S", "-c", code, *arguments, *places]


def continue_group_at_end() -> "subprocess.Popen[bytes]":
    """None of the processes of this one's group stays stopped when this one has ended; it leads the group.

    Where a terminal interrupts the group, which is that of a script or of sudo, this process stays a member of it.

    Once it has, however that was, a shell in the same session, which may continue other accounts' processes (kill(2)),
    continues the group every second, and ends with the last of it.

    :returns: the shell, to be kept as long as this process lives
    :raises OSError: it cannot be started
    """
    if not _is_in_foreground():
        with suppress(PermissionError):  # the leader of a session leads its group already
            os.setpgid(0, 0)
    return subprocess.Popen(
        ["/bin/sh", "-c", _CONTINUE, "sh", str(os.getpgrp())],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": "/usr/bin:/bin"},
        cwd="/",
        process_group=0,
    )


def _is_in_foreground() -> bool:
    """Whether Ctrl-C in its terminal reaches this process."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    except OSError:  # it has none
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:  # it has hung up
        return False
    finally:
        os.close(terminal)


class Child:
    """A process whose standard input is a socket.

    :ivar channel: this process's end of the socket
    """

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], *, own_session: bool = True) -> None:
        """Starts it.

        :param env: its whole environment
        :param own_session: whether it begins a session, so that all of it can be killed
        :raises OSError: it cannot be started
        """
        self.channel, theirs = socket.socketpair()
        ipc.keep_in_line(self.channel)
        try:
            reading, writing = os.pipe()
        except OSError:
            self.channel.close()
            theirs.close()
            raise
        # What does not fit into the pipe is dropped: it fills no disk and does not block the child. A pipe carries no
        # descriptors, so that no read or close of it waits.
        self._errors, printing = FileIO(reading), FileIO(writing, "w")
        for each in (reading, writing):
            os.set_blocking(each, False)
        try:
            with theirs, printing:
                self._process = subprocess.Popen(
                    argv,
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=printing.fileno(),
                    env=dict(env),
                    cwd="/",
                    start_new_session=own_session,
                )
        except BaseException:
            self.close()
            raise
        limits.restore(self._process.pid)  # in time: it waits for a message before it does anything for a job

    def is_readable(self, within: float = 0.0) -> bool:
        """Whether the channel has a message, or the end of the child, to read.

        :param within: seconds to wait for it
        """
        poll = select.poll()
        poll.register(self.channel, select.POLLIN)
        return bool(poll.poll(within * 1000))

    def errors(self, most: int) -> str:
        """The first ``most`` bytes that the child has printed as errors since this was asked; the others are dropped."""
        printed = b""
        while len(printed) < ERRORS_BYTES and (piece := self._errors.read(ERRORS_BYTES)):
            printed += piece
        return printed[:most].decode(errors="replace")

    def has_ended(self) -> bool:
        """Whether it has ended; never waits."""
        return self._process.poll() is not None

    def is_stopped(self) -> bool:
        """Whether a signal has stopped it, and nobody has continued it; never waits."""
        with suppress(ChildProcessError):  # it has ended
            return os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is not None
        return False

    def close(self) -> None:
        """Closes the channel. The child sees the end of its input."""
        self._errors.close()
        self.channel.close()

    def resume(self) -> None:
        """Continues it if it is stopped: a process may do that to another account's in its own session (kill(2))."""
        with suppress(ProcessLookupError, PermissionError):
            self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kills it and everything in its session, and waits a moment for its end."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(KILL_SECONDS)
