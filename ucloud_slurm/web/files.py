"""The calls about files (contract: files.provider): folders and their changes. The bytes pass the file unit."""

from collections.abc import Callable
from typing import Any, NoReturn

from ucloud_slurm.errors import Refused
from ucloud_slurm.provider.context import Lazy, Provider
from ucloud_slurm.system.bulkhead import Bulkhead
from ucloud_slurm.ucloud.files import (
    BrowseRequest,
    DownloadLink,
    FileIcon,
    FileItem,
    FilePage,
    FileStatus,
    FileType,
    FolderItem,
    MoveItem,
    ProviderFile,
    RetrieveRequest,
    TerminalItem,
    UploadItem,
    UploadLink,
)
from ucloud_slurm.ucloud.jobs import Bulk
from ucloud_slurm.ucloud.responses import Answers, Nothing, ShellSession
from ucloud_slurm.users.files import TRASH, FileEntry, FileKind, SortBy
from ucloud_slurm.web.file_changes import FileChanges
from ucloud_slurm.web.places import Caller, Located
from ucloud_slurm.web.routes import NOT_SUPPORTED, CallRegistry
from ucloud_slurm.web.sessions import open_terminals
from ucloud_slurm.web.transfers import download_links, upload_links

LARGEST_PAGE = 500
USUAL_PAGE = 250
THREADS = 24  # of a process, that call the file systems of users
THREADS_PER_USER = 4

Acting = Callable[[], str | None]


def declare(provider: Provider, calls: CallRegistry, acting: Acting) -> None:
    """Declares them.

    :param acting: the user of UCloud for whom the present call is made
    """

    threads = Lazy(lambda: Bulkhead(THREADS, THREADS_PER_USER))

    def caller() -> Caller:
        return Caller(provider, threads, acting())

    _reading(provider, calls, caller)
    _changes(provider, calls, caller)
    _refused(calls)

    @calls.call("POST", "files/download", takes=Bulk[FileItem], gives=Answers[DownloadLink])
    def download(bulk: Bulk[FileItem]) -> Answers[DownloadLink]:
        """Make links by which a browser fetches files."""
        return Answers(responses=download_links(provider, caller(), bulk.items))

    @calls.call("POST", "files/upload", takes=Bulk[UploadItem], gives=Answers[UploadLink])
    def upload(bulk: Bulk[UploadItem]) -> Answers[UploadLink]:
        """Make links by which a browser sends files."""
        return Answers(responses=upload_links(provider, caller(), bulk.items))

    @calls.call("POST", "jobs/openTerminalInFolder", takes=Bulk[TerminalItem], gives=Answers[ShellSession])
    def terminals(bulk: Bulk[TerminalItem]) -> Answers[ShellSession]:
        """Open shells in folders, where the drive has them."""
        return Answers(responses=open_terminals(provider, caller(), bulk.items))


def _reading(provider: Provider, calls: CallRegistry, caller: Callable[[], Caller]) -> None:
    @calls.call("POST", "files/browse", takes=BrowseRequest, gives=FilePage)
    def browse(wanted: BrowseRequest) -> FilePage:
        """List a folder."""
        page, who = wanted.browse, caller()
        folder = who.located(page.flags.path, wanted.resolved_collection)
        most = min(page.items_per_page if page.items_per_page > 0 else USUAL_PAGE, LARGEST_PAGE)
        by = SortBy(page.sort_by) if page.sort_by in list(SortBy) else SortBy.PATH
        order: dict[str, Any] = {
            "after": page.next or None,
            "most": most,
            "by": by,
            "descending": page.sort_direction == "descending",
        }
        hidden = not page.flags.filter_hidden_files
        listing = who.ask(folder, lambda files, left: files.list(folder.place, **order, hidden=hidden, within=left))
        jobs = _jobs_folder(provider, folder)
        items = [shown(folder, (*folder.path.parts, entry.name), entry, jobs) for entry in listing.entries]
        return FilePage(items=items, items_per_page=most, next=listing.after)

    @calls.call("POST", "files/retrieve", takes=RetrieveRequest, gives=ProviderFile)
    def retrieve(wanted: RetrieveRequest) -> ProviderFile:
        """Describe a file or folder."""
        who = caller()
        at = who.located(wanted.retrieve.id, wanted.resolved_collection)
        entry = who.ask(at, lambda files, left: files.stat(at.place, within=left))
        return shown(at, at.path.parts, entry, _jobs_folder(provider, at))


def _changes(provider: Provider, calls: CallRegistry, caller: Callable[[], Caller]) -> None:
    def changed(verb: str, bulk: Bulk[FileItem]) -> Answers[Nothing]:
        who = caller()
        changes = FileChanges(provider, who)
        who.each(bulk.items, changes.trash if verb == "trash" else changes.empty_trash)
        return _nothing(len(bulk.items))

    @calls.call("POST", "files/folder", takes=Bulk[FolderItem], gives=Answers[Nothing])
    def folder(bulk: Bulk[FolderItem]) -> Answers[Nothing]:
        """Make folders."""
        who = caller()
        who.each(bulk.items, FileChanges(provider, who).make_folder)
        return _nothing(len(bulk.items))

    @calls.call("POST", "files/move", takes=Bulk[MoveItem], gives=Answers[Nothing])
    def move(bulk: Bulk[MoveItem]) -> Answers[Nothing]:
        """Rename and move files and folders."""
        who = caller()
        who.each(bulk.items, FileChanges(provider, who).move)
        return _nothing(len(bulk.items))

    @calls.call("POST", "files/copy", takes=Bulk[MoveItem], gives=Answers[Nothing])
    def copy(bulk: Bulk[MoveItem]) -> Answers[Nothing]:
        """Begin to copy files and folders: it goes on as tasks."""
        FileChanges(provider, caller()).copy(bulk.items)
        return _nothing(len(bulk.items))

    @calls.call("POST", "files/trash", takes=Bulk[FileItem], gives=Answers[Nothing])
    def trash(bulk: Bulk[FileItem]) -> Answers[Nothing]:
        """Move files and folders into the trash of their drive."""
        return changed("trash", bulk)

    @calls.call("POST", "files/emptyTrash", takes=Bulk[FileItem], gives=Answers[Nothing])
    def empty_trash(bulk: Bulk[FileItem]) -> Answers[Nothing]:
        """Begin to delete what is in the trash: it goes on as tasks."""
        return changed("emptyTrash", bulk)


def _refused(calls: CallRegistry) -> None:
    @calls.call("DELETE", "files", gives=None)
    def delete() -> NoReturn:
        """Refused: what is deleted goes into the trash first."""
        raise Refused("Files are not deleted at once here: move them to the trash, and empty it.", error_code=NOT_SUPPORTED)

    @calls.call("POST", "files/visualize", gives=None)
    def visualize() -> NoReturn:
        """Refused: there is no map of the storage."""
        raise Refused("This provider has no map of the storage.", error_code=NOT_SUPPORTED, status=404)

    @calls.call("POST", "files/transfer", gives=None)
    def transfer() -> NoReturn:
        """Refused: files are not sent to other providers."""
        raise Refused(
            "This provider does not exchange files with other providers; download and upload them.", error_code=NOT_SUPPORTED
        )


def shown(at: Located, parts: tuple[str, ...], entry: FileEntry, jobs: tuple[str, ...] | None) -> ProviderFile:
    """A file as UCloud shows it. A link that leads out of the drive, or nowhere, is an empty file.

    :param parts: of the file itself, below the drive's folder
    :param jobs: the same of the folder of the jobs; None where it is not in this drive
    """
    kind = entry.target if entry.kind is FileKind.LINK else entry.kind
    is_folder = kind is FileKind.FOLDER
    icon = FileIcon.TRASH if parts == (TRASH,) else FileIcon.JOBS if parts == jobs else None
    return ProviderFile(
        id="/".join(["", at.path.drive_id, *parts]),
        created_at=entry.modified_at,
        status=FileStatus(
            type=FileType.DIRECTORY if is_folder else FileType.FILE,
            icon=icon if is_folder else None,
            size_in_bytes=None if is_folder else entry.size if kind is FileKind.FILE else 0,
            modified_at=entry.modified_at,
            accessed_at=entry.accessed_at,
            unix_mode=entry.mode,
            unix_owner=entry.uid,
            unix_group=entry.gid,
        ),
    )


def _jobs_folder(provider: Provider, at: Located) -> tuple[str, ...] | None:
    """The folder of the acting user's jobs, below that of the drive; None where it is not in it."""
    acting = at.drive.acting
    folder = provider.config.jobs.folder.replace("{home}", acting.home).replace("{user}", acting.user)
    root = at.place.root.rstrip("/") + "/"
    if not folder.startswith(root):
        return None
    return tuple(part for part in folder.removeprefix(root).split("/") if part)


def _nothing(number: int) -> Answers[Nothing]:
    return Answers(responses=[Nothing() for _ in range(number)])
