"""What folders have in them already, so that a folder which is uploaded again sends only what is missing."""

from collections import OrderedDict

from ucloud_slurm.errors import NotFound, Problem
from ucloud_slurm.transfer.messages import ListedFile
from ucloud_slurm.users.files import FileEntry, FileKind, FilesAs, Place, SortBy

PAGE = 500
MOST_ENTRIES = 10_000  # of a folder; of a larger one each file is looked at by itself
MOST_FOLDERS = 32  # that are remembered
MOST_NAMES = 50_000  # that are remembered, of all of them
SAME_MILLISECONDS = 1000  # some file systems keep whole seconds

_Contents = dict[str, tuple[int, int]]


class FolderContents:
    """The folders into which one upload goes, as they were when it began to fill them."""

    def __init__(self, files: FilesAs) -> None:
        self._files = files
        self._known: OrderedDict[Place, _Contents | None] = OrderedDict()

    def has(self, target: Place, listed: ListedFile) -> bool:
        """Whether the file is there: a regular one of the same size and time.

        :raises Problem: the folder cannot be read
        """
        if listed.modified_ms is None:
            return False
        folder = target.parent
        if folder not in self._known:
            self._known[folder] = self._read(folder)
            while len(self._known) > MOST_FOLDERS or (len(self._known) > 1 and self._remembered() > MOST_NAMES):
                self._known.popitem(last=False)
        contents = self._known[folder]
        found = self._stat(target) if contents is None else contents.get(target.name)
        return found is not None and found[0] == listed.size and abs(found[1] - listed.modified_ms) < SAME_MILLISECONDS

    def _remembered(self) -> int:
        return sum(len(contents or ()) for contents in self._known.values())

    def _read(self, folder: Place) -> _Contents | None:
        found: _Contents = {}
        after: str | None = None
        try:
            while True:
                page = self._files.list(folder, after=after, most=PAGE, by=SortBy.PATH, descending=False, hidden=True)
                found.update({entry.name: _facts(entry) for entry in page.entries if entry.kind is FileKind.FILE})
                after = page.after
                if after is None:
                    return found
                if len(found) > MOST_ENTRIES:
                    return None
        except NotFound:
            return {}
        except Problem:
            return None  # a folder may be writable and not readable

    def _stat(self, target: Place) -> tuple[int, int] | None:
        try:
            entry = self._files.stat(target)
        except Problem:
            return None
        return _facts(entry) if entry.kind is FileKind.FILE else None


def _facts(entry: FileEntry) -> tuple[int, int]:
    return entry.size, entry.modified_at
