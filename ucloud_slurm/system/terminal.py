"""Pseudo-terminals (pty(7)): a command that runs on one as the job's user, and its controlling end."""

import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from contextlib import suppress

from ucloud_slurm.errors import NotNow
from ucloud_slurm.system import limits

EXIT_SECONDS = 3.0  # that a command has to end after its terminal was hung up, and after each signal
LARGEST_SIZE = 1000  # rows and columns


class TerminalError(NotNow):
    """The system gives no pseudo-terminal, or the command cannot be started."""


class Terminal:
    """A command on a terminal. ``descriptor`` is the controlling end: non-blocking, readable while the command runs."""

    def __init__(self, descriptor: int, process: "subprocess.Popen[bytes] | None" = None) -> None:
        """Takes ownership of the descriptor.

        :param process: the command, if this process started it; another user's ends when the terminal is hung up
        """
        self.descriptor = descriptor
        self._process = process
        os.set_blocking(descriptor, False)

    def resize(self, cols: int, rows: int) -> None:
        """Sets the size of the terminal, between 1 and LARGEST_SIZE."""
        _resize(self.descriptor, cols, rows)

    def close(self) -> None:
        """Hangs up and waits for the end of the command; terminates it, then kills it."""
        with suppress(OSError):
            os.close(self.descriptor)
        if self._process is None:
            return
        for number in (None, signal.SIGTERM, signal.SIGKILL):
            if number is not None:
                self._process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(EXIT_SECONDS)
                return


def start(argv: Sequence[str], env: Mapping[str, str], cols: int, rows: int) -> Terminal:
    """Starts a command on a terminal of its own.

    :raises TerminalError: it cannot be started
    """
    try:
        ours, theirs = pty.openpty()
    except OSError as error:
        raise TerminalError(f"the system gives no pseudo-terminal ({error.strerror})") from None
    try:
        _resize(ours, cols, rows)
        # setsid(1): the command gets the signals of its terminal, SIGWINCH and SIGHUP.
        process = subprocess.Popen(
            limits.restoring(["/usr/bin/setsid", "--ctty", *argv]),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=dict(env),
            cwd="/",
            close_fds=True,
        )
    except OSError as error:
        os.close(ours)
        raise TerminalError(f"the shell cannot be started ({error.strerror})") from None
    finally:
        os.close(theirs)
    return Terminal(ours, process)


def _resize(descriptor: int, cols: int, rows: int) -> None:
    size = struct.pack("HHHH", min(max(rows, 1), LARGEST_SIZE), min(max(cols, 1), LARGEST_SIZE), 0, 0)
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, size)
