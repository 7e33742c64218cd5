"""Commands of ours that the listener runs: what needs much memory is done in processes that do not stay."""

import logging
import os
import subprocess
import threading
from collections.abc import Sequence

from ucloud_slurm.errors import one_line
from ucloud_slurm.listener.link import ChannelUnavailableError
from ucloud_slurm.system.process import CommandMissingError, CommandTimeoutError, run

log = logging.getLogger(__name__)

RENEWAL = 60.0  # seconds that getting an access token may take
PASS = 300.0  # seconds after which a pass is ended, as systemd ends those of the timer


def renew(command: Sequence[str]) -> None:
    """Has a fresh access token put into the database.

    :raises ChannelUnavailableError: there is none
    """
    try:
        done = run(command, os.environ, RENEWAL)
    except (CommandMissingError, CommandTimeoutError) as error:
        raise ChannelUnavailableError(f"There is no access token for UCloud's channel ({error})") from None
    if done.status != 0:
        said = one_line(done.errors.removeprefix("ucloud-slurm: "), 300) or f"exit status {done.status}"
        raise ChannelUnavailableError(f"There is no access token for UCloud's channel ({said})")


class Passes:
    """Passes of the worker, one after the other: one that is wanted while another runs follows it."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._wanted = threading.Event()
        threading.Thread(target=self._run, name="passes", daemon=True).start()

    def want(self) -> None:
        """Has a pass done that begins after this call."""
        self._wanted.set()

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            try:
                subprocess.run(self._command, stdin=subprocess.DEVNULL, check=False, timeout=PASS)
            except (OSError, subprocess.TimeoutExpired) as error:
                log.warning("a pass of the worker was not done (%s); the timer starts the next", type(error).__name__)
