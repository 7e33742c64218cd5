"""What users of UCloud do with the files of drives, and what the provider hears of it (contract: files.provider).

Core has no files. It finds the drive in a path, looks whether the user may use the drive, and reads the provider's
answers by type.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit

from tests.sandbox.core.complaints import Complaints
from tests.sandbox.core.drives import CoreDrive, Drives, drive_of_path
from tests.sandbox.core.errors import CoreError, ProtocolError
from tests.sandbox.core.provider import ProviderCalls
from tests.sandbox.core.today.bodies import Stamp, decode

Json = dict[str, Any]
T = TypeVar("T")
PAGE = 250
"""Entries that the web client asks for at once."""
PROTOCOLS = ("CHUNKED", "WEBSOCKET")
"""What the web client can do."""
POSSIBLE = frozenset({"CHUNKED", "WEBSOCKET", "WEBSOCKET_V1", "WEBSOCKET_V2"})
YEAR_1 = -62_135_596_800_000
ICONS = frozenset({None, "", "DIRECTORY_TRASH", "DIRECTORY_JOBS", "DIRECTORY_STAR", "DIRECTORY_SHARES"})
RESOURCE_FLAGS: Json = {
    "includeOthers": False,
    "includeUpdates": False,
    "includeSupport": False,
    "includeProduct": False,
    "filterLabels": {},
    **dict.fromkeys(
        (
            "filterCreatedBy",
            "filterCreatedAfter",
            "filterCreatedBefore",
            "filterProvider",
            "filterProductId",
            "filterProductCategory",
            "hideProductId",
            "hideProductCategory",
            "hideProvider",
            "filterProviderIds",
            "filterIds",
            "sortBy",
            "sortDirection",
            "includePermissions",
        )
    ),
}
"""What every FileFlags begins with."""


@dataclass(frozen=True, slots=True)
class FileStatus:
    """What the provider says of a file."""

    type: str = ""
    icon: str | None = None
    size_in_bytes: int | None = None
    size_including_children_in_bytes: int | None = None
    file_count: int | None = None
    directory_count: int | None = None
    modified_at: Stamp = Stamp(YEAR_1)  # noqa: RUF009
    accessed_at: Stamp = Stamp(YEAR_1)  # noqa: RUF009
    unix_mode: int = 0
    unix_owner: int = 0
    unix_group: int = 0
    metadata: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ProviderFile:
    """A file in an answer."""

    id: str = ""
    status: FileStatus = field(default_factory=FileStatus)
    created_at: Stamp = Stamp(YEAR_1)  # noqa: RUF009
    legacy_sensitivity: str = ""


@dataclass(frozen=True, slots=True)
class FilePage:
    """The answer of browse."""

    items: list[ProviderFile] = field(default_factory=list)
    items_per_page: int = 0
    next: str | None = None


@dataclass(frozen=True, slots=True)
class UploadLink:
    """Where and how a file is sent."""

    endpoint: str = ""
    protocol: str = ""
    token: str = ""


@dataclass(frozen=True, slots=True)
class UploadLinks:
    """The answer of upload."""

    responses: list[UploadLink] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DownloadLink:
    """Where a file is fetched."""

    endpoint: str = ""


@dataclass(frozen=True, slots=True)
class DownloadLinks:
    """The answer of download."""

    responses: list[DownloadLink] = field(default_factory=list)


@dataclass(slots=True)
class FileActions:
    """The pages of files. Paths go to the provider as the user sent them.

    Every method raises :class:`CoreError`: 403 without permission, 404 and 403 where the product does not allow it,
    502 for an answer that cannot be read, and what the provider answered.
    """

    calls: ProviderCalls
    drives: Drives
    complaints: Complaints

    # -- looking --------------------------------------------------------------------------------------------

    def browse(
        self,
        user: str,
        path: str,
        *,
        most: int = PAGE,
        after: str | None = None,
        sort_by: str | None = None,
        direction: str | None = None,
        hidden: bool = False,
        extension: str | None = None,
    ) -> Json:
        """A page of a folder.

        :param most: entries; 0 leaves the number out
        :param after: ``next`` of the page before
        :param hidden: whether names that begin with a dot are shown
        :return: ``{"items": [UFile], "itemsPerPage", "next"}``
        """
        drive = self._may(user, path, "READ")
        flags = self._flags(path, hidden=not hidden, extension=extension)
        asked = {"next": after, "sortBy": sort_by, "sortDirection": direction}
        number = {"itemsPerPage": most} if most else {}
        body = {**self._in(drive, user), "Browse": {"flags": flags, **number, **asked}}
        page = self._read(FilePage, "browse", body, user)
        for file in page.items:
            self._look_at(file, path)
        if len(page.items) > (most or PAGE):
            self._complain("browse", f"{len(page.items)} entries are in a page of {most or PAGE}")
        if len({file.id for file in page.items}) < len(page.items):
            self._complain("browse", "an entry is there twice")
        items = [self._shown(file, drive, user) for file in page.items]
        return {"items": items, "itemsPerPage": page.items_per_page, "next": page.next}

    def retrieve(self, user: str, path: str) -> Json:
        """One file or folder, as a UFile."""
        drive = self._may(user, path, "READ")
        body = {**self._in(drive, user), "retrieve": {"flags": self._flags(None), "id": path}}
        file = self._read(ProviderFile, "retrieve", body, user)
        self._look_at(file, None)
        return self._shown(file, drive, user)

    # -- changing -------------------------------------------------------------------------------------------

    def create_folder(self, user: str, *paths: str, policy: str = "RENAME") -> None:
        """Make folders."""
        items = [{"id": path, "conflictPolicy": policy, **self._in(self._writable(user, path), user)} for path in paths]
        self._unit("createFolder", items, user)

    def move(self, user: str, *pairs: tuple[str, str], policy: str = "REJECT") -> None:
        """Move files, or rename them. Out of a read-only drive too: only where they go is looked at.

        :param pairs: the old path and the new one
        """
        self._unit("move", [self._pair(user, old, new, policy, "EDIT") for old, new in pairs], user)

    def copy(self, user: str, *pairs: tuple[str, str], policy: str = "RENAME") -> None:
        """Copy files, which goes on after the answer."""
        self._unit("copy", [self._pair(user, old, new, policy, "READ") for old, new in pairs], user)

    def trash(self, user: str, *paths: str) -> None:
        """Throw files away."""
        self._unit("trash", [{"id": path, **self._in(self._with_trash(user, path), user)} for path in paths], user)

    def empty_trash(self, user: str, *paths: str) -> None:
        """Delete what was thrown away; the web client offers it for folders that look like a trash, others may ask for any."""
        self._unit("emptyTrash", [{"id": path, **self._in(self._with_trash(user, path), user)} for path in paths], user)

    def delete(self, user: str, *paths: str) -> None:
        """Delete files at once, which only programs ask for."""
        self._unit("delete", [self._bare(path, self._writable(user, path), user) for path in paths], user)

    # -- contents -------------------------------------------------------------------------------------------

    def upload_links(
        self, user: str, *paths: str, kind: str = "FILE", policy: str = "RENAME", protocols: Sequence[str] = PROTOCOLS
    ) -> list[UploadLink]:
        """Ask where files are to be sent.

        :param kind: FILE or FOLDER
        """
        items = [
            {
                "id": path,
                "type": kind,
                "supportedProtocols": list(protocols),
                "conflictPolicy": policy,
                **self._in(self._writable(user, path), user),
            }
            for path in paths
        ]
        found = self._read(UploadLinks, "createUpload", {"items": items}, user).responses
        self._check_links("createUpload", [link.endpoint for link in found], paths)
        for link in found:
            if link.protocol not in POSSIBLE:
                self._complain("createUpload", f"no browser can upload with the protocol {link.protocol!r}")
            if kind == "FOLDER" and link.protocol not in ("WEBSOCKET", "WEBSOCKET_V2"):
                self._complain("createUpload", f"the upload of a folder hangs with the protocol {link.protocol}")
            if link.protocol == "CHUNKED" and not link.token:
                self._complain("createUpload", "an upload in chunks has no token")
        return found

    def upload_link(self, user: str, path: str, **more: Any) -> UploadLink:
        """Ask where one file, or a folder, is to be sent. See :meth:`upload_links`."""
        return self.upload_links(user, path, **more)[0]

    def download_links(self, user: str, *paths: str) -> list[str]:
        """Ask where files can be fetched."""
        items = [{"id": path, **self._in(self._may(user, path, "READ"), user)} for path in paths]
        found = [link.endpoint for link in self._read(DownloadLinks, "createDownload", {"items": items}, user).responses]
        self._check_links("createDownload", found, paths)
        return found

    def download_link(self, user: str, path: str) -> str:
        """Ask where one file can be fetched."""
        return self.download_links(user, path)[0]

    # -- who may --------------------------------------------------------------------------------------------

    def _may(self, user: str, path: str, permission: str) -> CoreDrive:
        return self.drives.require(drive_of_path(path) or "", user, permission)

    def _writable(self, user: str, path: str) -> CoreDrive:
        drive = self._may(user, path, "EDIT")
        if self.drives.support.flag(drive.product, "files", "isReadOnly"):
            raise CoreError(403, "Drive is read only")
        return drive

    def _with_trash(self, user: str, path: str) -> CoreDrive:
        drive = self._writable(user, path)
        if not self.drives.support.flag(drive.product, "files", "trashSupported"):
            raise CoreError(404, "Not found")
        return drive

    # -- what is sent ---------------------------------------------------------------------------------------

    def _flags(self, path: str | None, *, hidden: bool | None = None, extension: str | None = None) -> Json:
        included = dict.fromkeys(("includeTimestamps", "includeSizes", "includeUnixInfo", "includeMetadata"), True)
        return RESOURCE_FLAGS | included | {"filterByFileExtension": extension, "path": path, "filterHiddenFiles": hidden}

    def _in(self, drive: CoreDrive, user: str) -> Json:
        return {"resolvedCollection": self.drives.resolved(drive, user)}

    def _pair(self, user: str, old: str, new: str, policy: str, permission: str) -> Json:
        source, target = self._may(user, old, permission), self._writable(user, new)
        if source.product["provider"] != target.product["provider"]:
            raise CoreError(400, "Files cannot be moved between providers")
        return {
            "resolvedOldCollection": self.drives.resolved(source, user),
            "resolvedNewCollection": self.drives.resolved(target, user),
            "oldId": old,
            "newId": new,
            "conflictPolicy": policy,
        }

    def _bare(self, path: str, drive: CoreDrive, user: str) -> Json:
        """A UFile of which nothing is known but its path."""
        sizes = dict.fromkeys(("sizeInBytes", "sizeIncludingChildrenInBytes", "fileCount", "directoryCount"))
        unix = dict.fromkeys(("unixMode", "unixOwner", "unixGroup"), 0)
        status = {"type": "", **sizes, "modifiedAt": YEAR_1, "accessedAt": YEAR_1, **unix, "metadata": {"metadata": None}}
        return {"id": path, "createdAt": drive.created_at, **self._of(drive, user), "status": status}

    def _of(self, drive: CoreDrive, user: str) -> Json:
        mine = {"myself": self.drives.permissions(drive, user), "others": []}
        owner = {"createdBy": drive.owner, "project": drive.project}
        return {"owner": owner, "permissions": mine, "specification": {"collection": drive.id, "product": dict(drive.product)}}

    # -- what comes back ------------------------------------------------------------------------------------

    def _name(self, call: str) -> str:
        return f"files.provider.{self.calls.provider}.{call}"

    def _unit(self, call: str, items: Sequence[Mapping[str, Any]], user: str) -> None:
        """A bulk whose answers have no meaning, and are not counted; but they are read."""
        data = self.calls.for_user(self._name(call), {"items": list(items)}, user)
        found = self.calls.responses(self._name(call), data)
        if not all(entry is None or isinstance(entry, dict) for entry in found):
            self._unreadable(call, "a response is no object")

    def _read(self, kind: type[T], call: str, body: Json, user: str) -> T:
        """A call with an answer that is read by its type."""
        data = self.calls.for_user(self._name(call), body, user)
        try:
            return decode(
                kind, json.dumps(data).encode(), lambda key: self._complain(call, f"{key} is a key that UCloud does not know")
            )
        except ProtocolError as error:
            self._unreadable(call, error.sentences[0])

    def _unreadable(self, call: str, why: str) -> NoReturn:
        self._complain(call, f"the answer cannot be read: {why}")
        raise CoreError(502, "Invalid response from provider")

    def _check_links(self, call: str, endpoints: Sequence[str], paths: Sequence[str]) -> None:
        if len(endpoints) != len(paths) or not all(endpoints):
            self._complain(call, f"{len([each for each in endpoints if each])} addresses came for {len(paths)} files")
            raise CoreError(502, "malformed response")
        for each in endpoints:
            parts = urlsplit(each)
            if parts.scheme not in ("http", "https", "ws", "wss") or not parts.netloc:
                self._complain(call, f"{each!r} is not an address that a browser can open")

    def _look_at(self, file: ProviderFile, folder: str | None) -> None:
        for sentence in _odd(file, folder):
            self._complain("retrieve" if folder is None else "browse", f"{file.id}: {sentence}")

    def _shown(self, file: ProviderFile, drive: CoreDrive, user: str) -> Json:
        status = file.status
        return {
            "id": file.id,
            "createdAt": int(status.modified_at),
            **self._of(drive, user),
            "status": {
                "type": status.type,
                "icon": status.icon or None,
                "sizeInBytes": status.size_in_bytes,
                "sizeIncludingChildrenInBytes": status.size_including_children_in_bytes,
                "fileCount": status.file_count,
                "directoryCount": status.directory_count,
                "modifiedAt": int(status.modified_at),
                "accessedAt": int(status.accessed_at),
                "unixMode": status.unix_mode,
                "unixOwner": status.unix_owner,
                "unixGroup": status.unix_group,
                "metadata": {"metadata": {}},
            },
        }

    def _complain(self, call: str, sentence: str) -> None:
        self.complaints.add(f"{self._name(call)}: {sentence}")


def _odd(file: ProviderFile, folder: str | None) -> Iterator[str]:
    """What Core passes on, and users see wrongly."""
    status = file.status
    if status.type not in ("FILE", "DIRECTORY"):
        yield f"is a {status.type!r}, neither a FILE nor a DIRECTORY"
    if status.icon not in ICONS:
        yield f"has an icon {status.icon!r} that there is not"
    if status.modified_at == YEAR_1:
        yield "was modified in the year 1"
    if any((number or 0) < 0 for number in (status.size_in_bytes, status.file_count, status.directory_count)):
        yield "has a negative size"
    parent, _, name = file.id.rpartition("/")
    if folder is not None and (not name or parent != "/" + folder.strip("/")):
        yield f"is not in {folder}"
