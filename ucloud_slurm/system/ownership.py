"""Whether a file can be changed only by accounts that are trusted with it: the file, its folders, and links to them."""

import errno
import os
import pwd
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

MOST_LINKS = 40  # path_resolution(7)


@dataclass(frozen=True, slots=True)
class Distrust:
    """Why a file is not trusted, and the command that repairs it."""

    why: str
    repair: str


def distrust(path: Path, trusted: Callable[[int], bool], owners: str) -> Distrust | None:
    """Why accounts that are not trusted could change a file, or put another one in its place; None if none could.

    :param path: absolute
    :param trusted: whether the account with that uid may own the file, its folders, and links on the way to it
    :param owners: what these accounts are, for the sentence; the first is the one for the repair
    """
    try:
        for place in _places(path):
            status = place.lstat()
            if not trusted(status.st_uid):
                owner = f"{place} belongs to {_name(status.st_uid)}, and should belong to {owners}"
                return Distrust(owner, f"chown -h root {quote(str(place))}")
            sticky = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
            if status.st_mode & 0o022 and not sticky and not stat.S_ISLNK(status.st_mode):
                return Distrust(f"{place} can be changed by others than its owner", f"chmod go-w {quote(str(place))}")
    except OSError as error:
        return Distrust(f"{path} cannot be used ({error.strerror})", f"ls -l {quote(str(path))}")
    return None


def _places(path: Path) -> Iterator[Path]:
    """The root, every folder and every link on the way to a file, and the file itself."""
    place, links = Path("/"), 0
    names = list(path.parts[1:])
    yield place
    while names:
        name = names.pop(0)
        place = place.parent if name == ".." else place / name
        yield place
        if place.is_symlink():
            links += 1
            if links > MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            target = place.readlink()
            place = Path("/") if target.is_absolute() else place.parent
            names[:0] = target.parts[1:] if target.is_absolute() else target.parts


def _name(uid: int) -> str:
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"the uid {uid}"
