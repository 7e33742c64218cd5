"""The database's file: where it may be, whose it is, and what is wrong with it, in one sentence each."""

import errno
import os
import pwd
import sqlite3
import stat
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

from ucloud_slurm.errors import Misconfigured, StorageError, StorageFullError

# File systems that hosts share, as proc_mounts(5) names them. WAL needs the shared memory of one host.
SHARED = {
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "gpfs", "beegfs", "beegfs_nodev", "ceph", "afs", "coda", "9p"),
    *("pvfs2", "panfs", "ocfs2", "gfs2", "wekafs", "vboxsf", "fuse.glusterfs", "fuse.ceph", "fuse.ceph-fuse", "fuse.sshfs"),
    *("fuse.juicefs", "fuse.mfs", "fuse.moosefs", "fuse.lizardfs", "fuse.saunafs", "fuse.dfuse", "fuse.s3fs"),
    *("fuse.rclone", "fuse.seaweedfs", "fuse.davfs2", "fuse.smbnetfs"),
}
RESTORE = "restore a backup: ucloud-slurm database restore FILE"
_MAGIC = b"SQLite format 3\0"
_HEADER_BYTES = 100
_DAMAGED = {sqlite3.SQLITE_CORRUPT: "is damaged", sqlite3.SQLITE_NOTADB: "is not an SQLite database"}
_CLOSED = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}


def refuse_shared(path: Path) -> None:
    """Refuses a database that several hosts see.

    :raises Misconfigured: its file system is one that hosts share
    """
    kind = filesystem(path.parent)
    if kind in SHARED:
        raise Misconfigured([f"database.path: {path} is on a shared file system ({kind}); put it on a local disk."])


def prepare(path: Path) -> None:
    """Makes the file if there is none, for this account only. Called by one process at a time.

    :raises Misconfigured: it cannot be the database
    """
    damage = damage_of(path)
    try:
        make = 0 if damage else os.O_CREAT
        descriptor = os.open(path, os.O_RDWR | make | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor):
            if stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o077:
                os.fchmod(descriptor, 0o600)
    except OSError as error:
        if damage is None or error.errno != errno.ENOENT:
            raise Misconfigured([f"database.path: {path} {closed(path, error)}."]) from None
    if damage:
        raise Misconfigured([f"database.path: {path} cannot be used: it {damage}; {RESTORE}"])


def newer(path: Path, unknown: Collection[str]) -> str:
    """The sentence about a database whose migrations this release does not have.

    :param unknown: their names
    """
    return f"{path} is of a newer release ({max(unknown)}); install that."


def closed(path: Path, error: OSError) -> str:
    """Why a file cannot be opened, and what to do."""
    with suppress(OSError):
        state = path.lstat()
        if stat.S_ISLNK(state.st_mode):
            return "is a symbolic link; name the file itself"
        if not stat.S_ISREG(state.st_mode):
            return "is not a file; name a file in a folder of the daemon user's"
        if error.errno in (errno.EACCES, errno.EPERM) and state.st_uid != os.geteuid():
            return f"belongs to {account(state.st_uid)}, not to {account(os.geteuid())}; change its owner with chown"
        if error.errno == errno.EACCES:
            return f"has the mode {stat.S_IMODE(state.st_mode):03o}; chmod 600 makes it writable"
    if error.errno == errno.ENOENT:
        return f"does not exist{'' if path.parent.exists() else f', and neither does its folder {path.parent}'}"
    if error.errno == errno.EACCES:
        who = account(os.geteuid())
        return f"cannot be opened (Permission denied): {path.parent} is closed to {who}; be the daemon user, or change its mode"
    return f"cannot be opened ({error.strerror})"


def account(uid: int) -> str:
    """The name of an account, else its number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def damage_of(path: Path) -> str | None:
    """What the size and the beginning of a database file show of damage, without SQLite; None for nothing.

    A new, empty file is none, and neither is a missing one, but for those that were in use: SQLite would delete what the
    log has. Nor is what cannot be read; opening it says why.
    """
    logged = size(f"{path}-wal") > 0
    try:
        with path.open("rb") as file:
            head, length = file.read(_HEADER_BYTES), os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        if Path(f"{path}.restoring").exists():
            return "is missing since a restore was interrupted"
        return "is missing, although its log is there" if logged else None
    except OSError:
        return None
    if length == 0:
        return "is empty, although it was in use" if logged or Path(f"{path}.generation").exists() else None
    if not head.startswith(_MAGIC[: len(head)]):
        return "is not an SQLite database"
    page, pages = int.from_bytes(head[16:18]), int.from_bytes(head[28:32])
    expected = (65536 if page == 1 else page) * pages
    # The number of pages is right where the two counters agree; while there is a log, the last pages may be in it only.
    if length < _HEADER_BYTES or (not logged and head[24:28] == head[92:96] and length < expected):
        return f"is truncated ({length} bytes of {max(expected, _HEADER_BYTES)})"
    return None


def inode(path: Path) -> int | None:
    """The number of a file on its file system; None where there is none."""
    try:
        return os.stat(path).st_ino  # noqa: PTH116  asked at each statement, and Path takes twice as long
    except OSError:
        return None


def size(path: Path | str) -> int:
    """Bytes of a file; 0 where there is none."""
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0


def problem(path: Path, error: sqlite3.Error) -> StorageError | None:
    """SQLite's error as the answer to a request, if the file or its disk is to blame; None if it is not.

    The sentence is for the caller and for the journal.
    """
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return StorageFullError(f"The provider's disk is full or broken ({path.parent}); please try again later.")
    if code in _DAMAGED:
        return StorageError(f"The provider's database {path} {_DAMAGED[code]}; its administrator must {RESTORE}")
    if code in _CLOSED:
        return StorageError(f"The provider's database {path} cannot be written ({error}); its administrator must correct that.")
    return None


def free_bytes(folder: Path) -> int:
    """What this account may still write there (statvfs(3)).

    :raises StorageFullError: the disk does not say
    """
    try:
        free = os.statvfs(folder)
    except OSError as error:
        raise StorageFullError(f"The provider's disk is full or broken ({folder}: {error.strerror})") from None
    return free.f_bavail * free.f_frsize


def filesystem(folder: Path, mounts: Callable[[], str] = lambda: Path("/proc/self/mounts").read_text()) -> str:
    """The kind of file system that a folder is on, as the kernel names it; empty if that is not known."""
    try:
        lines = [line.split(" ") for line in mounts().splitlines()]
        here = folder.resolve()
    except OSError:
        return ""
    # The longest mount point above the folder wins; of two on the same point the later one.
    best = ("", "")
    for fields in lines:
        point = fields[1].replace("\\040", " ")
        if (here == Path(point) or Path(point) in here.parents) and len(point) >= len(best[0]):
            best = (point, fields[2])
    return best[1]
