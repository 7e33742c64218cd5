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


class TerminalTrouble(NotNow):
    """No terminal could be had, or the command could not be started."""


class Terminal:
    """A command on a terminal. ``descriptor`` is our end: non-blocking, readable while the command runs.

    :raises TerminalTrouble: from the constructor
    """

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], cols: int, rows: int) -> None:
        try:
            ours, theirs = pty.openpty()
        except OSError as error:
            raise TerminalTrouble(f"no terminal can be had ({error.strerror})") from None
        self.descriptor = ours
        try:
            os.set_blocking(ours, False)
            self.resize(cols, rows)
            # setsid(1) makes the terminal the command's own: it hears of new sizes, and of the end.
            self._process = subprocess.Popen(
                ["/usr/bin/setsid", "--ctty", *argv], stdin=theirs, stdout=theirs, stderr=theirs, env=dict(env),
                cwd="/", close_fds=True,
            )  # fmt: skip
        except OSError as error:
            os.close(ours)
            raise TerminalTrouble(f"the shell cannot be started ({error.strerror})") from None
        finally:
            os.close(theirs)

    def resize(self, cols: int, rows: int) -> None:
        """Gives the terminal a size; what no terminal has is made the nearest that one has."""
        size = struct.pack("HHHH", min(max(rows, 1), MOST), min(max(cols, 1), MOST), 0, 0)
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, size)

    def close(self) -> None:
        """Hangs up and waits until the command has ended; one that will not is killed."""
        with suppress(OSError):
            os.close(self.descriptor)
        for number in (None, signal.SIGTERM, signal.SIGKILL):
            if number is not None:
                self._process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(PATIENCE)
                return
