"""Impersonation without the runner: of the account of this process."""

import socket
from collections.abc import Mapping, Sequence

from ucloud_slurm.system import terminal
from ucloud_slurm.system.files import make_folder, open_file, remove_folder
from ucloud_slurm.system.process import Command, Started
from ucloud_slurm.system.terminal import Terminal
from ucloud_slurm.users.preparation import OwnPreparation, Preparation


class OwnAccount:
    """See :class:`ucloud_slurm.users.impersonation.Impersonation`."""

    def prepare(self, folder: str, files: Mapping[str, str]) -> None:
        make_folder(folder, files)

    def start(self, argv: Sequence[str], env: Mapping[str, str]) -> Started:
        return Command(argv, env)

    def preparation(self, folder: str, files: Mapping[str, str], within: float) -> Preparation:
        return OwnPreparation(folder, files)

    def wake(self) -> None:
        """See :class:`Impersonation`. This process is there."""

    def open(self, path: str) -> int | None:
        return open_file(path)

    def listen(self, folder: str) -> socket.socket | None:
        """See :class:`Impersonation`. This process watches its own folders with one descriptor for all."""
        return None

    def terminal(self, argv: Sequence[str], env: Mapping[str, str], cols: int, rows: int) -> Terminal:
        return terminal.start(argv, env, cols, rows)

    def self_test(self, folder: str) -> None:
        make_folder(folder)
        remove_folder(folder)
