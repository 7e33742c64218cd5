"""Files of another user, through the runner."""

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ucloud_slurm.users.asked_files import Answer, AskedFiles
from ucloud_slurm.users.impersonation import RunnerClient

MARGIN_SECONDS = 0.5  # for an answer that comes at the deadline


class RunnerFiles(AskedFiles):
    """See :class:`ucloud_slurm.users.files.FilesAs`."""

    def __init__(self, runner: Path, user: str) -> None:
        self._client = RunnerClient(runner, user)

    def ask(self, verb: str, within: float, theirs: socket.socket | None, arguments: Mapping[str, Any]) -> Answer:
        return self._client.ask(verb, within, theirs, MARGIN_SECONDS, **arguments)

    def uid(self) -> int:
        return self._client.uid()
