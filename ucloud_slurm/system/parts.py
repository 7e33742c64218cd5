"""Part files: what an upload is written to, beside its target, until it is whole."""

import errno
import os
import re
import stat

from ucloud_slurm.system import beneath, placing
from ucloud_slurm.system.listing import PART_SUFFIX

PART = re.compile(r"\.[0-9a-f]{16}" + re.escape(PART_SUFFIX))
_FLAGS = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class NotAPartError(Exception):
    """What has the name of a part file is not one that this user began."""


class WrongSizeError(Exception):
    """The part file is not whole."""


def name_of(key: str) -> bytes:
    """The name of the part with a key of 16 hexadecimal digits."""
    return f".{key}{PART_SUFFIX}".encode()


def is_reserved(name: bytes) -> bool:
    """Whether a name looks like that of a part: such a file would not be shown."""
    return name.startswith(b".") and name.endswith(PART_SUFFIX.encode())


def begin(folder: int, name: bytes, policy: str) -> tuple[bytes, int]:
    """Makes a part file, mode 0600, in the folder of its target.

    :param name: the target's
    :returns: the part's name, and a descriptor for writing
    :raises FileExistsError: the target exists, and may not be replaced
    :raises IsADirectoryError: it is a folder that would have to be replaced
    :raises OSError: of open(2)
    """
    if policy in (placing.REJECT, placing.REPLACE):
        try:
            status = beneath.status(folder, name)
        except FileNotFoundError:
            pass
        else:
            if policy == placing.REJECT:
                raise FileExistsError(errno.EEXIST, "the name exists")
            if stat.S_ISDIR(status.st_mode):
                raise IsADirectoryError(errno.EISDIR, "it is a folder")
    part = name_of(os.urandom(8).hex())
    return part, os.open(part, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=folder)


def resume(folder: int, part: bytes) -> int:
    """Opens a part file again for writing.

    :raises NotAPartError: it is no regular file of this user's with one name
    :raises OSError: of open(2)
    """
    place = os.open(part, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        status = os.fstat(place)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_nlink != 1:
            raise NotAPartError
        return beneath.reopen(place, os.O_WRONLY)
    finally:
        os.close(place)


def finish(folder: int, part: bytes, name: bytes, policy: str, *, size: int, modified_ms: int | None) -> bytes:
    """Makes a part file the target, on the disk; returns the name that it has now.

    It keeps the permissions of a file that it replaces, without those that change who runs it. A new file is its user's
    alone, mode 0600; in a folder that a group shares it is the group's as well (:func:`ucloud_slurm.system.placing.shares`).

    :param size: that it must have
    :param modified_ms: milliseconds since the epoch; None: as it was written
    :raises WrongSizeError: it has another size
    :raises NotAPartError: see :func:`resume`
    :raises FileExistsError: the name is taken
    :raises OSError: of the calls
    """
    descriptor = resume(folder, part)
    try:
        status = os.fstat(descriptor)
        if status.st_size != size:
            raise WrongSizeError
        os.fchmod(descriptor, _mode(folder, name, policy, status))
        if modified_ms is not None:
            os.utime(descriptor, ns=(status.st_atime_ns, modified_ms * 10**6))
        os.fsync(descriptor)
        final = placing.put(folder, part, folder, name, policy)
    finally:
        os.close(descriptor)
    placing.synchronize(folder)
    return final


def drop(folder: int, part: bytes) -> None:
    """Deletes a part file.

    :raises OSError: of unlink(2)
    """
    os.unlink(part, dir_fd=folder)


def _mode(folder: int, name: bytes, policy: str, new: os.stat_result) -> int:
    fresh = 0o660 if placing.shares(folder, new) else 0o600
    if policy != placing.REPLACE:
        return fresh
    try:
        old = beneath.status(folder, name)
    except OSError:
        return fresh
    if not stat.S_ISREG(old.st_mode):
        return fresh
    # The permissions of its group are those of another group, where the new file is not of the same.
    return old.st_mode & (0o777 if old.st_gid == new.st_gid else 0o707)
