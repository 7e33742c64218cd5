"""Impersonation as a user: the few things that must be done as whoever the job belongs to.

Where that is the account of this process they are done here. For everybody else the runner does them: see
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
    """Nobody can act as that user at the moment; nothing was done."""


class ImpersonationDeniedError(Forbidden):
    """This provider may not act as that user. It will not pass by itself."""


class Impersonation(Protocol):
    """One user, and what can be done as them.

    :raises ImpersonationUnavailableError: from every call, when nothing was done
    :raises ImpersonationDeniedError: from every call, when nothing was done and never will be
    """

    def prepare(self, folder: str, files: Mapping[str, str]) -> None:
        """Makes a job's folder with these files in it.

        :raises StorageFull: it cannot be made or written
        """

    def start(self, argv: Sequence[str], env: Mapping[str, str]) -> Started:
        """Starts a command of Slurm's, which waits for its input.

        :raises CommandMissingError: it could not be started
        """

    def open(self, path: str) -> int | None:
        """Opens a file of a job for reading; the descriptor is the caller's. None when there is none.

        :raises NotARegularFileError: something else is in its place
        """

    def listen(self, folder: str) -> int | None:
        """A descriptor that tells of changes in a folder (inotify(7)), where this process may not listen itself."""

    def terminal(self, argv: Sequence[str], env: Mapping[str, str], cols: int, rows: int) -> Terminal:
        """Starts a shell on a terminal.

        :raises TerminalError: it cannot be started
        """

    def self_test(self, folder: str) -> None:
        """Makes a folder and removes it.

        :raises StorageFull: it cannot be made
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
        """See :class:`Impersonation`: this process listens itself, with one descriptor for all."""
        return None

    def terminal(self, argv: Sequence[str], env: Mapping[str, str], cols: int, rows: int) -> Terminal:
        """See :class:`Impersonation`."""
        return terminal.start(argv, env, cols, rows)

    def self_test(self, folder: str) -> None:
        """See :class:`Impersonation`."""
        make_folder(folder)
        remove_folder(folder)
