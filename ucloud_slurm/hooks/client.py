"""Asks the daemon that runs the programs of the site."""

import socket
import time
from pathlib import Path

from ucloud_slurm.errors import one_line
from ucloud_slurm.hooks.program import HookFailedError
from ucloud_slurm.system import ipc

ANSWER_BYTES = 1024 * 1024  # JSON writes some characters of an output in six


class HooksAwayError(HookFailedError):
    """No program was run, because the daemon does not answer."""


def ask(path: Path, event: str, document: str, within: float) -> str:
    """Has the program of an event run; returns what it has printed.

    :param path: the socket of the daemon
    :param document: what the program gets
    :param within: seconds, in all
    :raises HooksAwayError: nobody answers at the socket
    :raises HookFailedError: the program has failed, or the answer is late
    """
    until = time.monotonic() + within
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(within)
        try:
            connection.connect(str(path))
            ipc.send(connection, {"event": event, "document": document, "within": within}, within=until - time.monotonic())
        except (OSError, ipc.ConnectionLostError) as error:
            why = getattr(error, "strerror", None) or error
            raise HooksAwayError(f"nobody answers at {path} ({why}); start ucloud-slurm-hookd.socket") from None
        try:
            answer, _ = ipc.receive(connection, ANSWER_BYTES, within=max(until - time.monotonic(), 0.001))
        except ipc.ConnectionLostError as error:
            raise HookFailedError(f"the program of {event} gave no answer in {within:g} s ({error})") from None
    if isinstance(answer.get("output"), str):
        return str(answer["output"])
    raise HookFailedError(one_line(str(answer.get("failed", "the answer cannot be read")), 500))
