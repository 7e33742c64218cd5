"""Whether a file can be changed only by accounts that are trusted with it: the file, its folders, and links to them."""

import errno
import os
import pwd
import stat
from collections.abc import Callable, Iterator
from shlex import quote
from typing import NamedTuple

MOST_LINKS = 40  # path_resolution(7)


class Distrust(NamedTuple):
    """Why a file is not trusted, and the command that repairs it."""

    why: str
    repair: str


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
                return Distrust(owner, f"chown -h root {quote(place)}")
            sticky = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
            if status.st_mode & 0o022 and not sticky and not stat.S_ISLNK(status.st_mode):
                return Distrust(f"{place} can be changed by others than its owner", f"chmod go-w {quote(place)}")
    except OSError as error:
        return Distrust(f"{path} cannot be used ({error.strerror})", f"ls -l {quote(os.fspath(path))}")
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
