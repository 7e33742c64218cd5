"""What gets a name in a folder: renamed or made in one step, with a free name, or in place of what has it.

Folders are descriptors (:mod:`ucloud_slurm.system.beneath`), names are bytes, and no last name is followed. The policies are
those of UCloud's contract (WriteConflictPolicy).
"""

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress

from ucloud_slurm.system import beneath

RENAME, REJECT, REPLACE, MERGE_RENAME = "RENAME", "REJECT", "REPLACE", "MERGE_RENAME"
POLICIES = (RENAME, REJECT, REPLACE, MERGE_RENAME)
NAME_BYTES = 255  # NAME_MAX
MOST_NAMES = 1000  # of one name, with a number behind it, that are tried
_EXTENSION_BYTES = 64
_SHARED = 0o770  # mode of a folder that is its group's as well


def put(folder: int, name: bytes, to_folder: int, to_name: bytes, policy: str) -> bytes:
    """Renames by a policy; returns the name that it has now. ``REPLACE`` replaces anything but a folder, by a file.

    :raises FileExistsError: the name is taken
    :raises OSError: of rename(2), such as EXDEV
    """
    is_folder = stat.S_ISDIR(beneath.status(folder, name).st_mode)
    if policy == REPLACE and not is_folder:
        os.rename(name, to_name, src_dir_fd=folder, dst_dir_fd=to_folder)
        return to_name
    for candidate in names(to_name, policy, is_folder=is_folder):
        with suppress(FileExistsError):
            beneath.rename_new(folder, name, to_folder, candidate)
            return candidate
    raise _taken()


def make(folder: int, name: bytes, policy: str) -> bytes:
    """Makes a folder by a policy; returns its name. One that is there is taken for ``REPLACE`` and ``MERGE_RENAME``.

    It is its user's alone, mode 0700; in a folder that a group shares it is the group's as well (:func:`shares`).

    :raises FileExistsError: the name is taken
    """
    for candidate in names(name, policy, is_folder=True):
        try:
            os.mkdir(candidate, 0o700, dir_fd=folder)
        except FileExistsError:
            if policy in (REPLACE, MERGE_RENAME) and stat.S_ISDIR(beneath.status(folder, candidate).st_mode):
                return candidate
            continue
        _share(folder, candidate)
        return candidate
    raise _taken()


def make_all(root: int, parts: Sequence[bytes]) -> int:
    """The place of a folder below a root, which is made if it is not there, and those on the way.

    :raises OSError: of mkdir(2) and open(2)
    """
    try:
        return beneath.open_beneath(root, parts, folder=True)
    except FileNotFoundError:
        if not parts:
            raise
    parent = make_all(root, parts[:-1])
    try:
        with suppress(FileExistsError):
            os.mkdir(parts[-1], 0o700, dir_fd=parent)
            _share(parent, parts[-1])
    finally:
        os.close(parent)
    return beneath.open_beneath(root, parts, folder=True)


def shares(folder: int, new: os.stat_result) -> bool:
    """Whether what is new in a folder is its group's as well: the group may write there, not everybody, and got it."""
    status = os.fstat(folder)
    return status.st_mode & 0o022 == 0o020 and status.st_gid == new.st_gid


def names(name: bytes, policy: str, *, is_folder: bool) -> Iterator[bytes]:
    """The names that are tried one after the other: ``name.txt``, ``name(1).txt``, ``name(2).txt`` ..."""
    yield name
    if policy not in (RENAME, MERGE_RENAME):
        return
    stem, extension = (name, b"") if is_folder else os.path.splitext(name)
    if len(extension) > _EXTENSION_BYTES:
        stem, extension = name, b""
    for number in range(1, MOST_NAMES):
        tail = b"(%d)%s" % (number, extension)
        cut = stem[: NAME_BYTES - len(tail)]
        # A character is not cut in two.
        yield (cut if cut == stem else cut.decode(errors="ignore").encode()) + tail


def synchronize(folder: int) -> None:
    """Writes a folder's names to the disk (fsync(2)), where its user may read it."""
    with suppress(PermissionError):
        descriptor = beneath.reopen(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with suppress(OSError):  # file systems that cannot: EINVAL
                os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _share(folder: int, name: bytes) -> None:
    try:
        new = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return
    try:
        status = os.fstat(new)
        if status.st_uid == os.geteuid() and shares(folder, status):
            with suppress(OSError):
                os.chmod(f"/proc/self/fd/{new}", _SHARED | status.st_mode & stat.S_ISGID)
    finally:
        os.close(new)


def _taken() -> FileExistsError:
    return FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
