"""Files in drives: what UCloud asks of a provider, and what it is answered (contract: files.provider)."""

from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from ucloud_slurm.ucloud.wire import Bool, Int, Message

OMITTED: Any = Field(default=None, exclude_if=lambda value: value is None)


class DriveReference(Message):
    """A drive of UCloud, of which only the id counts here: a path must begin with it."""

    id: str = ""


class FileFlags(Message):
    """Which folder is listed.

    :ivar filter_hidden_files: whether names that begin with a dot are left out
    """

    path: str
    filter_hidden_files: Bool = False


class BrowseOptions(Message):
    """The page of a folder that is asked for. The order has any text in it that a client sends."""

    flags: FileFlags
    items_per_page: Int = 0
    next: str | None = None
    sort_by: str | None = None
    sort_direction: str | None = None


class BrowseRequest(Message):
    """Lists a folder. Today's UCloud writes the second key with a capital B."""

    resolved_collection: DriveReference
    browse: BrowseOptions = Field(alias="Browse")


class RetrieveOptions(Message):
    """The path of a file."""

    id: str


class RetrieveRequest(Message):
    """Describes one file or folder."""

    resolved_collection: DriveReference
    retrieve: RetrieveOptions


Policy = Literal["RENAME", "REJECT", "REPLACE", "MERGE_RENAME"]


class FileItem(Message):
    """An item of download, trash and emptyTrash: a path, and the drive that it is in."""

    id: str
    resolved_collection: DriveReference


class FolderItem(FileItem):
    """An item of folder."""

    conflict_policy: Policy = "RENAME"


class UploadItem(FolderItem):
    """An item of upload.

    :ivar id: where the file, or the folder, will be
    """

    type: Literal["FILE", "FOLDER"] = "FILE"
    supported_protocols: list[str] = []


class MoveItem(Message):
    """An item of move and copy."""

    resolved_old_collection: DriveReference
    resolved_new_collection: DriveReference
    old_id: str
    new_id: str
    conflict_policy: Policy = "RENAME"


class FileType(StrEnum):
    """What UCloud shows an entry as."""

    FILE = "FILE"
    DIRECTORY = "DIRECTORY"


class FileIcon(StrEnum):
    """The folders that UCloud treats in a way of their own."""

    TRASH = "DIRECTORY_TRASH"
    JOBS = "DIRECTORY_JOBS"


class FileStatus(Message):
    """What is known of a file. Times are milliseconds since the epoch: integers, and never null.

    :ivar size_in_bytes: None for a folder
    """

    type: FileType
    icon: FileIcon | None = OMITTED
    size_in_bytes: int | None
    modified_at: int
    accessed_at: int
    unix_mode: int
    unix_owner: int
    unix_group: int


class ProviderFile(Message):
    """A file, by its whole path (contract: ProviderFile)."""

    id: str
    created_at: int
    status: FileStatus


class FilePage(Message):
    """A page of a folder.

    :ivar next: names the next page; None at the end
    """

    items: list[ProviderFile]
    items_per_page: int
    next: str | None


class TerminalItem(Message):
    """An item of openTerminalInFolder: the path of a folder. The drive does not come with it."""

    folder: str


class DownloadLink(Message):
    """Where a browser fetches a file."""

    endpoint: str


class UploadProtocol(StrEnum):
    """How a browser sends files."""

    CHUNKED = "CHUNKED"
    WEBSOCKET_V2 = "WEBSOCKET_V2"


class UploadLink(Message):
    """Where and how a browser sends a file, or the files of a folder."""

    endpoint: str
    protocol: UploadProtocol
    token: str
