"""Impersonation: what must be done as the user that a job runs as.

For the account of this process it is done here, for other users by the runner: see
:mod:`ucloud_slurm.users.runner_client`.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from ucloud_slurm.errors import Forbidden, NotNow
from ucloud_slurm.system import terminal
from ucloud_slurm.system.files import make_folder, open_file, remove_folder
from ucloud_slurm.system.process import Command, Started
from ucloud_slurm.system.terminal import Terminal


class ImpersonationUnavailableError(NotNow):
    """The user cannot be impersonated at the moment; nothing was done."""


class ImpersonationDeniedError(Forbidden):
    """This provider may not impersonate that user; a retry is of no use."""


class Impersonation(Protocol):
    """One user, and what can be done as that user.

    :raises ImpersonationUnavailableError: from every call; nothing was done
    :raises ImpersonationDeniedError: from every call; nothing was done, and a retry is of no use
    """

    def prepare(self, folder: str, files: Mapping[str, str]) -> None:
        """Makes a job's folder with these files in it.

        :raises StorageFullError: it cannot be made or written
        """

    def start(self, argv: Sequence[str], env: Mapping[str, str]) -> Started:
        """Starts a command of Slurm's, which waits for its input.

        :raises CommandMissingError: it could not be started
        """

    def open(self, path: str) -> int | None:
        """Opens a file of a job for reading and returns its descriptor; None if there is no such file.

        :raises NotARegularFileError: it is no regular file of the user
        """

    def listen(self, folder: str) -> int | None:
        """An inotify(7) descriptor that watches a folder; None where this process can watch it itself."""

    def terminal(self, argv: Sequence[str], env: Mapping[str, str], cols: int, rows: int) -> Terminal:
        """Starts a shell on a terminal.

        :raises TerminalError: it cannot be started
        """

    def self_test(self, folder: str) -> None:
        """Makes a folder and removes it.

        :raises StorageFullError: it cannot be made
        """


class OwnAccount:
    """Impersonation as the account of this process. See :class:`Impersonation`."""

    def prepare(self, folder: str, files: Mapping[str, str]) -> None:
        """See :class:`Impersonation`."""
        make_folder(folder, files)

    def start(self, argv: Sequence[str], env: Mapping[str, str]) -> Started:
        """See :class:`Impersonation`."""
        return Command(argv, env)

    def open(self, path: str) -> int | None:
        """See :class:`Impersonation`."""
        return open_file(path)

    def listen(self, folder: str) -> int | None:
        """See :class:`Impersonation`. This process watches its own folders with one descriptor for all."""
        return None

    def terminal(self, argv: Sequence[str], env: Mapping[str, str], cols: int, rows: int) -> Terminal:
        """See :class:`Impersonation`."""
        return terminal.start(argv, env, cols, rows)

    def self_test(self, folder: str) -> None:
        """See :class:`Impersonation`."""
        make_folder(folder)
        remove_folder(folder)
