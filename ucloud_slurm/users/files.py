"""Files of a user below a folder that the configuration names: what can be done with them, here or through the runner.

The service never opens a file of a user by its name. Every call acts as the user, on descriptors below the folder, and no
link, swap or name leads out of it (openat2(2): RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS).
"""

import socket
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

from ucloud_slurm.errors import Refused
from ucloud_slurm.system.terminal import Terminal

QUICK_SECONDS = 3.0  # that UCloud waits for what is answered at once
FINISH_SECONDS = 50.0  # for a file to be written to the disk (fsync(2)); a request to the runner has a minute


class CrossDeviceError(Refused):
    """Something cannot be renamed into another file system: it has to be copied (:class:`Work`)."""


TRASH = "Trash"  # the folder below a drive's own that UCloud knows by this name (contract: DIRECTORY_TRASH)


class FileKind(StrEnum):
    """What an entry of a folder is. A link is not followed; what it leads to is opened only inside the drive."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    OTHER = "other"  # a pipe, a device, a socket


class ConflictPolicy(StrEnum):
    """What is done when the name exists (contract: WriteConflictPolicy)."""

    RENAME = "RENAME"
    REJECT = "REJECT"
    REPLACE = "REPLACE"
    MERGE_RENAME = "MERGE_RENAME"


class SortBy(StrEnum):
    """By what entries are sorted (contract: FilesSortBy)."""

    PATH = "PATH"
    MODIFIED_AT = "MODIFIED_AT"
    SIZE = "SIZE"


class Place(NamedTuple):
    """A place in a user's files.

    :ivar root: the local folder that nothing leads out of, absolute
    :ivar parts: the names below it; none for the folder itself
    """

    root: str
    parts: tuple[str, ...]

    def child(self, name: str) -> "Place":
        """The place of a name in this folder."""
        return Place(self.root, (*self.parts, name))

    @property
    def parent(self) -> "Place":
        """The folder that it is in."""
        return Place(self.root, self.parts[:-1])

    @property
    def name(self) -> str:
        """Its last name; empty for the root."""
        return self.parts[-1] if self.parts else ""


class FileEntry(NamedTuple):
    """One file or folder (stat(2)). Times are milliseconds since the epoch, ``mode`` has the permission bits only.

    :ivar target: of a link that leads to something inside the drive: what that is, and whose size, times and permissions
        the other fields are; None where it leads out or nowhere
    """

    name: str
    kind: FileKind
    size: int
    modified_at: int
    accessed_at: int
    mode: int
    uid: int
    gid: int
    target: FileKind | None = None


class Listing(NamedTuple):
    """A page of a folder.

    :ivar after: the cursor of the next page; None at the end
    :ivar hidden: names in the folder that are no UTF-8, and are not shown
    """

    entries: tuple[FileEntry, ...]
    after: str | None
    hidden: int


class OpenedFile(NamedTuple):
    """A regular file that is open for reading. The caller closes the descriptor."""

    descriptor: int
    size: int
    modified_ns: int


class OpenedPart(NamedTuple):
    """The file that an upload is written to, beside its target, until it is whole. The caller closes the descriptor.

    :ivar name: beside the target: ``.`` + random characters + ``.ucloud-part``
    :ivar size: bytes that are in it
    """

    descriptor: int
    name: str
    size: int


class Work(StrEnum):
    """What may take hours."""

    COPY = "copy"
    MOVE = "move"  # between file systems: a copy, then the source is erased
    ERASE = "erase"  # the contents of ``Trash``, or something in it


class FilesAs(Protocol):
    """The files of one user.

    Every call may raise what :class:`ucloud_slurm.users.impersonation.Impersonation` may, and a
    :class:`ucloud_slurm.errors.Problem` whose sentence the researcher reads: 404 there is nothing of that name, 403 the
    kernel refuses or a link leads out, 409 the name exists (``REJECT``), 400 it is not what the call needs, 507 no space or
    no quota, 500 the file system reports an error.

    Each ends within about ``within`` seconds as far as the user's program does it; what this process does itself takes as
    long as its file systems. Without an answer it raises :class:`ucloud_slurm.users.asked_files.FilesNotAnsweringError`: a
    change may have been made then.
    """

    def list(
        self,
        folder: Place,
        *,
        after: str | None,
        most: int,
        by: SortBy,
        descending: bool,
        hidden: bool,
        within: float = QUICK_SECONDS,
    ) -> Listing:
        """A page of a folder, in a stable order that ends. It may be shorter than asked, even empty, and not the last one.

        A folder of more than 10 000 names is sorted by name. Part files are never shown.

        :param after: the cursor of the page before, with the same order; None for the first
        :param most: entries, of which there are 500 at most
        :param hidden: whether names that begin with a dot are shown
        """

    def stat(self, place: Place, *, within: float = QUICK_SECONDS) -> FileEntry:
        """One file or folder. That of the drive's own folder has no name."""

    def read(self, place: Place, *, within: float = QUICK_SECONDS) -> OpenedFile:
        """Opens a regular file for reading; also through a link that stays in the drive."""

    def begin(self, place: Place, policy: ConflictPolicy, *, parents: bool, within: float = QUICK_SECONDS) -> OpenedPart:
        """Makes the part file of an upload, mode 0600, in the target's folder.

        :param parents: whether folders on the way are made
        """

    def resume(self, place: Place, part: str, *, within: float = QUICK_SECONDS) -> OpenedPart:
        """Opens a part file again. One that is away is a 404, one that is not the user's own a 409."""

    def finish(
        self,
        place: Place,
        part: str,
        policy: ConflictPolicy,
        *,
        size: int,
        modified_ms: int | None,
        within: float = FINISH_SECONDS,
    ) -> str:
        """Makes a part file the target: fsync, then rename. Returns the name that it has now.

        A file that is replaced leaves its permissions; a new one is its user's, mode 0600, and the group's as well (0660)
        in a folder that a group shares. Without an answer it may be repeated: a 404 says then that it was done before.

        :param size: that the part must have
        """

    def drop(self, place: Place, part: str, *, within: float = QUICK_SECONDS) -> None:
        """Deletes a part file. Idempotent."""

    def make_folder(self, place: Place, policy: ConflictPolicy, *, parents: bool, within: float = QUICK_SECONDS) -> str:
        """Makes a folder; returns its name. One that is there is taken for ``REPLACE`` and ``MERGE_RENAME``."""

    def move(self, source: Place, target: Place, policy: ConflictPolicy, *, within: float = QUICK_SECONDS) -> str:
        """Renames within one file system; returns the new name. A folder never replaces anything, nor is it replaced.

        :raises CrossDeviceError: they are in two file systems
        """

    def trash(self, place: Place, *, within: float = QUICK_SECONDS) -> str:
        """Moves it into the folder ``Trash`` below the root; returns the name there.

        :raises CrossDeviceError: it is in another file system
        """

    def work(
        self,
        verb: Work,
        source: Place,
        target: Place | None,
        policy: ConflictPolicy,
        *,
        key: str,
        within: float = QUICK_SECONDS,
    ) -> socket.socket:
        """Begins something that may take hours, in a process of the user's own. It ends when this socket is closed.

        :param target: None for :data:`Work.ERASE`
        :param key: of the work, the same whenever it is begun again: what an earlier attempt left is deleted first
        :returns: a socket of packets (:mod:`ucloud_slurm.users.file_work`): progress, and then how it ended
        """

    def shell(self, folder: Place, cols: int, rows: int, *, within: float = QUICK_SECONDS) -> Terminal:
        """Starts the user's login shell on a terminal, in a folder. It ends when the terminal is closed.

        :param cols: of the terminal; the nearest possible size is taken
        :raises TerminalError: it cannot be started
        """


def names(parts: Sequence[str]) -> str:
    """A path for a sentence."""
    return "/" + "/".join(parts)
