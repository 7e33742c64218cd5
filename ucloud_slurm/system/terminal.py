"""Terminals: a command that runs on a pseudo-terminal as the job's user, and the end of it that we hold."""

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

PATIENCE = 3.0  # seconds that a command has to end after its terminal was hung up
MOST = 1000  # rows and columns


class TerminalError(NotNow):
    """No terminal could be had, or the command could not be started."""


class Terminal:
    """A command on a terminal. ``descriptor`` is our end: non-blocking, readable while the command runs."""

    def __init__(self, descriptor: int, process: "subprocess.Popen[bytes] | None" = None) -> None:
        """Takes over an open end.

        :param process: the command, where it is ours; one of somebody else's ends when the terminal is hung up
        """
        self.descriptor = descriptor
        self._process = process
        os.set_blocking(descriptor, False)

    def resize(self, cols: int, rows: int) -> None:
        """Gives the terminal a size; what no terminal has is made the nearest that one has."""
        _resize(self.descriptor, cols, rows)

    def close(self) -> None:
        """Hangs up and waits until the command has ended; one that will not is killed."""
        with suppress(OSError):
            os.close(self.descriptor)
        if self._process is None:
            return
        for number in (None, signal.SIGTERM, signal.SIGKILL):
            if number is not None:
                self._process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(PATIENCE)
                return


def start(argv: Sequence[str], env: Mapping[str, str], cols: int, rows: int) -> Terminal:
    """Starts a command on a terminal of its own.

    :raises TerminalError: see there
    """
    try:
        ours, theirs = pty.openpty()
    except OSError as error:
        raise TerminalError(f"no terminal can be had ({error.strerror})") from None
    try:
        _resize(ours, cols, rows)
        # setsid(1) makes the terminal the command's own: it hears of new sizes, and of the end.
        process = subprocess.Popen(
            ["/usr/bin/setsid", "--ctty", *argv],
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
    size = struct.pack("HHHH", min(max(rows, 1), MOST), min(max(cols, 1), MOST), 0, 0)
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, size)
