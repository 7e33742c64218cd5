"""Whether a file can be changed only by accounts that are trusted with it: the file, its folders, and links to them."""

from __future__ import annotations

import errno
import os
import pwd
import stat

TYPE_CHECKING = False  # what else is imported loads slowly, and the program that acts as a user starts often
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MOST_LINKS = 40  # path_resolution(7)


class Distrust:
    """Why a file is not trusted, and the command that repairs it.

    :ivar why: a sentence
    """

    __slots__ = ("_path", "_words", "why")

    def __init__(self, why: str, words: str, path: str) -> None:
        """The command is words and a path."""
        self.why = why
        self._words = words
        self._path = path

    @property
    def repair(self) -> str:
        """The command."""
        from shlex import quote

        return f"{self._words} {quote(self._path)}"


def distrust(path: str | os.PathLike[str], trusted: Callable[[int], bool], owners: str) -> Distrust | None:
    """Why accounts that are not trusted could change a file, or put another one in its place; None if none could.

    :param path: absolute
    :param trusted: whether the account with that uid may own the file, its folders, and links on the way to it
    :param owners: what these accounts are, for the sentence; the first is the one for the repair
    """
    try:
        for place in _places(os.fspath(path)):
            status = os.lstat(place)
            if not trusted(status.st_uid):
                owner = f"{place} belongs to {_name(status.st_uid)}, and should belong to {owners}"
                return Distrust(owner, "chown -h root", place)
            sticky = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
            if status.st_mode & 0o022 and not sticky and not stat.S_ISLNK(status.st_mode):
                return Distrust(f"{place} can be changed by others than its owner", "chmod go-w", place)
    except OSError as error:
        return Distrust(f"{path} cannot be used ({error.strerror})", "ls -l", os.fspath(path))
    return None


def _places(path: str) -> Iterator[str]:
    """The root, every folder and every link on the way to a file, and the file itself."""
    place, links = "/", 0
    names = _parts(path)
    yield place
    while names:
        name = names.pop(0)
        place = os.path.dirname(place) if name == ".." else os.path.join(place, name)
        yield place
        if os.path.islink(place):
            links += 1
            if links > MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            target = os.readlink(place)
            place = "/" if os.path.isabs(target) else os.path.dirname(place)
            names[:0] = _parts(target)


def _parts(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in ("", ".")]


def _name(uid: int) -> str:
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"the uid {uid}"
