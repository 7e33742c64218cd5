"""What the routes of the file unit share: the rows, who may do what now, and what is being served."""

import logging
from typing import NamedTuple

from ucloud_slurm.errors import Problem, one_line
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.drives import check_writable, resolve_again
from ucloud_slurm.store.tasks import NewTask
from ucloud_slurm.store.transfers import Transfer, TransferKind
from ucloud_slurm.system.bulkhead import Bulkhead
from ucloud_slurm.transfer.admission import Admission
from ucloud_slurm.transfer.open_parts import OpenParts
from ucloud_slurm.users.files import FilesAs, Place, names

log = logging.getLogger(__name__)

RESOLVE_SECONDS = 5.0  # for the mapping of users, and UCloud
SIDE_THREADS = 16  # for what is done beside the transfers: closing and deleting
SIDE_THREADS_PER_USER = 2
TITLE_CHARACTERS = 120
WHY_CHARACTERS = 1000


class GoneError(Problem):
    """A link that does not work any more."""

    status = 410


class Unit(NamedTuple):
    """The file unit of one process."""

    provider: Provider
    admission: Admission
    parts: OpenParts
    beside: Bulkhead

    @classmethod
    def of(cls, provider: Provider) -> "Unit":
        """The unit over an opened provider."""
        beside = Bulkhead(SIDE_THREADS, SIDE_THREADS_PER_USER)
        return cls(provider, Admission(provider.config.transfers), OpenParts(beside), beside)

    def close(self) -> None:
        """Lets its threads end."""
        self.beside.close()

    def files(self, transfer: Transfer) -> FilesAs:
        """The files of the user of a transfer."""
        return self.provider.files(transfer.local_user)

    def checked(self, transfer: Transfer) -> Place:
        """The place of a transfer, if its user may still use it: a link may be two days old.

        :raises Problem: the drive or the user is not there any more, or is another one
        """
        place, user = Place(transfer.root, transfer.parts), transfer.local_user
        found = resolve_again(self.provider, transfer.drive_id, place, transfer.username, user, RESOLVE_SECONDS)
        if transfer.kind is not TransferKind.DOWNLOAD:
            check_writable(found)
        return place

    def report_failure(self, transfer: Transfer, why: str) -> None:
        """Lets UCloud show the user why an upload is not complete: its protocol has no message for that."""
        title = f"Uploading {transfer.parts[-1][:TITLE_CHARACTERS]}"
        task = NewTask("upload", transfer.username, transfer.local_user, "{}", title)
        self.provider.tasks.add_failed(task, one_line(why, WHY_CHARACTERS), self.provider.now())

    def record(self, transfer: Transfer, what: str, done: int) -> None:
        """One line of the journal for each transfer that has ended, or failed."""
        path = "/" + transfer.drive_id + names(transfer.parts)
        log.info(
            "transfer: %s as %s: %s of %r: %s, %d bytes",
            transfer.username,
            transfer.local_user,
            transfer.kind,
            path,
            what,
            done,
        )
