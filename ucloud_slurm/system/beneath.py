"""Names below a folder, which nothing leads out of: no link, no ``..``, no folder that is swapped for a link meanwhile.

The kernel resolves them as one (openat2(2): RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS). One that cannot is given name by name,
and every link is refused then. Names are bytes, as the kernel has them, and what is opened here is only a place in the file
system (open(2): O_PATH): nothing is read, and no pipe or device notices it.
"""

import ctypes
import errno
import os
import stat
from collections.abc import Sequence
from contextlib import suppress

TRIES = 64  # of a name that is resolved while folders are renamed (openat2(2): EAGAIN)

_OPENAT2 = 437  # on every architecture
_RESOLVE_NO_MAGICLINKS, _RESOLVE_NO_SYMLINKS, _RESOLVE_BENEATH = 0x02, 0x04, 0x08
_RENAME_NOREPLACE = 1
_PLACE = os.O_PATH | os.O_CLOEXEC
_NO_FLAGS = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)  # renameat2(2) on a file system without its flags
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)  # link(2)


class LeadsOutError(OSError):
    """A link leads out of the folder, or cannot be followed safely by this kernel."""

    def __init__(self) -> None:
        super().__init__(errno.ELOOP, "a link leads out of the folder")


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_libc = ctypes.CDLL(None, use_errno=True)


def open_root(path: str) -> int:
    """The place of the folder that nothing leads out of. Links in its own path are followed: the site has configured it.

    :returns: a descriptor, which the caller closes
    :raises OSError: it is not there, or is no folder
    """
    return os.open(path.encode(), _PLACE | os.O_DIRECTORY)


def open_beneath(root: int, names: Sequence[bytes], *, folder: bool = False, last: bool = True, links: bool = True) -> int:
    """The place of these names below a folder; of none: the folder itself.

    :param folder: whether it must be a folder
    :param last: whether the last name is followed where it is a link; else the place is the link's
    :param links: whether links that stay inside are followed on the way
    :returns: a descriptor, which the caller closes
    :raises LeadsOutError: it leads out
    :raises OSError: of open(2)
    """
    flags = _PLACE | (os.O_DIRECTORY if folder else 0) | (0 if last else os.O_NOFOLLOW)
    resolve = _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS | (0 if links else _RESOLVE_NO_SYMLINKS)
    result = -errno.EAGAIN
    for _ in range(TRIES):
        result = _openat2(root, b"/".join(names) or b".", flags, resolve)
        if result not in (-errno.EAGAIN, -errno.EINTR):
            break
    if result >= 0:
        return result
    if -result in (errno.ENOSYS, errno.EPERM):  # Linux before 5.6; a filter of system calls from before it
        return _walk(root, names, flags)
    if -result in (errno.EXDEV, errno.ELOOP):
        raise LeadsOutError
    raise OSError(-result, os.strerror(-result))


def reopen(place: int, flags: int) -> int:
    """Opens what a place is, and nothing that has come there since (proc(5): ``/proc/self/fd``).

    :returns: another descriptor, which the caller closes
    """
    return os.open(f"/proc/self/fd/{place}", flags | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)


def open_regular(place: int, flags: int) -> int | None:
    """Opens a regular file; None for anything else, which never notices it."""
    return reopen(place, flags) if stat.S_ISREG(os.fstat(place).st_mode) else None


def status(folder: int, name: bytes) -> os.stat_result:
    """The status of a name in a folder, which is not followed."""
    return os.stat(name, dir_fd=folder, follow_symlinks=False)


def rename_new(folder: int, name: bytes, to_folder: int, to_name: bytes) -> None:
    """Renames in one step, only if there is nothing of the new name.

    A file system that cannot: a file gets its new name (link(2)) and then loses its old one; for a folder it is first looked
    whether the name is there, so that an empty folder that is made in this moment is replaced.

    :raises FileExistsError: the name exists
    :raises OSError: of rename(2)
    """
    code = _renameat2(folder, name, to_folder, to_name)
    if code == 0:
        return
    if code not in _NO_FLAGS:
        raise OSError(code, os.strerror(code))
    if not stat.S_ISDIR(status(folder, name).st_mode):
        try:
            os.link(name, to_name, src_dir_fd=folder, dst_dir_fd=to_folder, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
        else:
            os.unlink(name, dir_fd=folder)
            return
    with suppress(FileNotFoundError):
        status(to_folder, to_name)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    os.rename(name, to_name, src_dir_fd=folder, dst_dir_fd=to_folder)


def synchronize(place: int) -> None:
    """Writes everything of a file system to its disks (syncfs(2)).

    :raises OSError: it could not be written
    """
    descriptor = reopen(place, os.O_RDONLY)
    try:
        if _libc.syncfs(descriptor) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        os.close(descriptor)


def _walk(root: int, names: Sequence[bytes], flags: int) -> int:
    """Name by name, without any link."""
    place = os.open(b".", _PLACE | os.O_DIRECTORY, dir_fd=root)
    for left in range(len(names) - 1, -1, -1):
        name = names[len(names) - 1 - left]
        try:
            found = os.open(name, (_PLACE | os.O_DIRECTORY if left else flags) | os.O_NOFOLLOW, dir_fd=place)
        except NotADirectoryError:
            if stat.S_ISLNK(status(place, name).st_mode):
                raise LeadsOutError from None
            raise
        finally:
            os.close(place)
        place = found
    if not flags & os.O_NOFOLLOW and stat.S_ISLNK(os.fstat(place).st_mode):
        os.close(place)
        raise LeadsOutError
    return place


def _openat2(folder: int, path: bytes, flags: int, resolve: int) -> int:
    """openat2(2): the descriptor, or an error's number below zero."""
    how = _How(flags=flags, resolve=resolve)
    size = ctypes.c_size_t(ctypes.sizeof(how))
    number = ctypes.c_long(_OPENAT2)
    descriptor: int = _libc.syscall(number, ctypes.c_int(folder), ctypes.c_char_p(path), ctypes.byref(how), size)
    return descriptor if descriptor >= 0 else -ctypes.get_errno()


def _renameat2(folder: int, name: bytes, to_folder: int, to_name: bytes) -> int:
    """renameat2(2) with RENAME_NOREPLACE: 0, or an error's number."""
    call = getattr(_libc, "renameat2", None)  # a C library from before 2018
    if call is None:
        return errno.ENOSYS
    return ctypes.get_errno() if call(folder, name, to_folder, to_name, ctypes.c_uint(_RENAME_NOREPLACE)) != 0 else 0
