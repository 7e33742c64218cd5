"""Pages of a folder, however many names are in it: no more is kept than one page, and no more is looked at (stat(2))."""

import heapq
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain, islice

from ucloud_slurm.system import beneath

SORTED_MOST = 10_000  # names of a folder that is sorted by something else than the names
LOOK_NAMES = 512  # between two looks at the clock

PART_SUFFIX = ".ucloud-part"  # of names that begin with a dot, and are never shown: uploads and copies that are not whole

# Name, kind, size, modified and accessed (milliseconds), mode, uid, gid, and the kind of what a link leads to.
Row = tuple[str, str, int, int, int, int, int, int, str | None]
_Key = tuple[int, str]


class TooSlowError(Exception):
    """The folder could not be read in time."""


class CursorError(Exception):
    """The cursor is not of this listing."""


class Page:
    """A page: ``rows``, the cursor of the next one or None, and how many names were left out that are no UTF-8."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.after: str | None = None
        self.unreadable = 0


def page(
    root: int,
    names: Sequence[bytes],
    *,
    after: str | None,
    most: int,
    by: str,
    descending: bool,
    hidden: bool,
    late: Callable[[], bool],
) -> Page:
    """A page of a folder below a root.

    A folder of more than ``SORTED_MOST`` names is sorted by name, whatever is asked. A cursor names the last entry that was
    shown, so that the next page begins behind it whatever has changed, and each listing ends.

    :param by: ``PATH``, ``MODIFIED_AT`` or ``SIZE``
    :param late: whether there is no more time
    :raises TooSlowError: there is none
    :raises CursorError: the cursor is of another listing
    :raises OSError: of open(2) and readdir(3)
    """
    place = beneath.open_beneath(root, names, folder=True)
    try:
        folder = beneath.reopen(place, os.O_RDONLY | os.O_DIRECTORY)
    finally:
        os.close(place)
    try:
        return _Listing(root, names, folder, hidden, late).page(after, most, by, descending)
    finally:
        os.close(folder)


def row(root: int, names: Sequence[bytes], folder: int, name: bytes) -> Row:
    """One file or folder. A link that leads to something below the root has the size and the times of that.

    :param names: of the folder below the root
    :raises OSError: it is not there
    """
    status = beneath.status(folder, name)
    kind, target = kind_of(status), None
    if kind == "link":
        with suppress(OSError):
            there = beneath.open_beneath(root, [*names, name])
            try:
                status = os.fstat(there)
            finally:
                os.close(there)
            target = kind_of(status)
    return _row(name.decode(), status, kind, target)


def row_of_root(root: int) -> Row:
    """The root itself, without a name."""
    return _row("", os.fstat(root), "folder", None)


def kind_of(status: os.stat_result) -> str:
    """What something is: ``file``, ``folder``, ``link`` or ``other``."""
    if stat.S_ISREG(status.st_mode):
        return "file"
    if stat.S_ISDIR(status.st_mode):
        return "folder"
    return "link" if stat.S_ISLNK(status.st_mode) else "other"


def _row(name: str, status: os.stat_result, kind: str, target: str | None) -> Row:
    modified, accessed = status.st_mtime_ns // 10**6, status.st_atime_ns // 10**6
    mode = stat.S_IMODE(status.st_mode)
    return (name, kind, status.st_size, modified, accessed, mode, status.st_uid, status.st_gid, target)


class _Listing:
    def __init__(self, root: int, names: Sequence[bytes], folder: int, hidden: bool, late: Callable[[], bool]) -> None:
        self._root = root
        self._place = names
        self._folder = folder
        self._hidden = hidden
        self._late = late
        self._page = Page()

    def page(self, after: str | None, most: int, by: str, descending: bool) -> Page:
        mark, text = ("", "") if after is None else (after[:1], after[1:])
        if mark not in ("", "n", _mark(by)):
            raise CursorError
        best = heapq.nlargest if descending else heapq.nsmallest
        names = self._names()
        if by != "PATH" and mark != "n":
            some = list(islice(names, SORTED_MOST + 1))
            if len(some) <= SORTED_MOST:
                self._sorted(some, text, most, by, descending)
                return self._page
            if mark:  # it has grown since the page before
                raise CursorError
            names = chain(some, names)
        found = best(most + 1, (name for name in names if after is None or (name < text if descending else name > text)))
        self._show(found[:most])
        self._page.after = f"n{found[most - 1]}" if len(found) > most else None
        return self._page

    def _sorted(self, names: Sequence[str], cursor: str, most: int, by: str, descending: bool) -> None:
        shown, last = _read_cursor(cursor) if cursor else (0, None)
        keys = (key for key in self._keys(names, by) if last is None or (key < last if descending else key > last))
        found: list[_Key] = (heapq.nlargest if descending else heapq.nsmallest)(most + 1, keys)
        self._show([name for _, name in found[:most]])
        # What changes all the time could be shown on every page: so many entries are enough of such a folder.
        if len(found) > most and shown + most < SORTED_MOST:
            value, name = found[most - 1]
            self._page.after = f"{_mark(by)}{shown + most}:{value}:{name}"

    def _names(self) -> Iterator[str]:
        with os.scandir(self._folder) as entries:
            for number, entry in enumerate(entries):
                if number % LOOK_NAMES == 0 and self._late():
                    raise TooSlowError
                name = entry.name
                if not name.isascii():
                    try:
                        name = os.fsencode(name).decode()
                    except UnicodeDecodeError:
                        self._page.unreadable += 1
                        continue
                if name.startswith(".") and (not self._hidden or name.endswith(PART_SUFFIX)):
                    continue
                yield name

    def _keys(self, names: Iterable[str], by: str) -> Iterator[_Key]:
        for number, name in enumerate(names):
            if number % LOOK_NAMES == 0 and self._late():
                raise TooSlowError
            value = 0
            with suppress(OSError):
                status = beneath.status(self._folder, name.encode())
                value = status.st_size if by == "SIZE" else status.st_mtime_ns
            yield value, name

    def _show(self, names: Iterable[str]) -> None:
        for name in names:
            if self._late():
                raise TooSlowError
            try:
                self._page.rows.append(row(self._root, self._place, self._folder, name.encode()))
            except FileNotFoundError:
                continue
            except OSError:  # a folder whose names may be read, and nothing more
                self._page.rows.append((name, "other", 0, 0, 0, 0, 0, 0, None))


def _mark(by: str) -> str:
    return {"PATH": "n", "SIZE": "s"}.get(by, "m")


def _read_cursor(text: str) -> tuple[int, _Key]:
    try:
        shown, value, name = text.split(":", 2)
        return int(shown[:20]), (int(value[:40]), name)
    except ValueError:
        raise CursorError from None
