"""What comes before a job is sent, as its user: its folder is made, and the command that submits it is loaded."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from ucloud_slurm.system.files import make_folder
from ucloud_slurm.system.process import Command, Started


class Preparation(Protocol):
    """A job's folder, and the command that submits the job, as its user."""

    def start(self, argv: Sequence[str], env: Mapping[str, str]) -> Started:
        """Starts the command, which waits for its input; the folder may be made meanwhile.

        :raises CommandMissingError: it could not be started
        """

    def ready(self) -> None:
        """Returns when the folder is there, or will be before the command has its input.

        :raises StorageFullError: it cannot be made or written
        """


class OwnPreparation:
    """See :class:`Preparation`. The folder is made when its row is there: nobody removes it if this process is killed."""

    def __init__(self, folder: str, files: Mapping[str, str]) -> None:
        self._folder = folder
        self._files = files

    def start(self, argv: Sequence[str], env: Mapping[str, str]) -> Started:
        return Command(argv, env)

    def ready(self) -> None:
        make_folder(self._folder, self._files)
