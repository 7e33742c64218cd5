"""Backups of the database: made while it is in use, verified before they count, and restored."""

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from ucloud_slurm.errors import Conflict, Misconfigured, StorageFullError
from ucloud_slurm.store import database_file, migrations
from ucloud_slurm.store.generation import record, recorded
from ucloud_slurm.store.sqlite import RESTORE_SECONDS, Store
from ucloud_slurm.system.filelock import BACKUP, IN_USE, SharedLock, exclusive_lock

STOP = (
    "systemctl stop ucloud-slurm.socket ucloud-slurm.service ucloud-slurm-worker.timer ucloud-slurm-worker.service "
    "ucloud-slurm-listener.service ucloud-slurm-link.socket ucloud-slurm-link.service ucloud-slurm-backup.timer "
    "ucloud-slurm-backup.service"
)
KEPT = 28  # unless the configuration has another number


@dataclass(frozen=True, slots=True)
class Contents:
    """What a verified database has.

    :ivar size: bytes, without the write-ahead log
    :ivar migration: the last one that it has had
    :ivar written_at: when the file was written last, in seconds since the epoch
    """

    path: Path
    size: int
    migration: str
    jobs: int
    written_at: float


def verify(path: Path, of: Path | None = None, *, in_use: bool = False) -> Contents:
    """Reads all of a database or backup.

    :param of: what it is a copy of, and what the sentence names
    :param in_use: other processes may write to it
    :raises Misconfigured: with one sentence that says what is wrong with it
    """
    applied: set[str] = set()
    jobs = 0
    try:
        if not path.is_file():
            raise OSError(errno.EISDIR if path.exists() else errno.ENOENT, "")
        damage = database_file.damage_of(path) if path.stat().st_size else "is empty"
        if damage is None:
            with closing(_read(path, in_use=in_use)) as source:
                damage, applied = _damage(source), migrations.applied(source)
                if applied:
                    ((jobs,),) = source.execute("select count(*) from jobs").fetchall()
    except sqlite3.DatabaseError as error:
        damage = f"is damaged ({error})"
    except OSError as error:
        raise Misconfigured([f"{of or path} {database_file.closed(path, error)}."]) from None
    if damage:
        raise Misconfigured([f"{of or path} {damage}."])
    if not applied:
        raise Misconfigured([f"{of or path} is not a database of ucloud-slurm."])
    if newer := applied - migrations.names():
        raise Misconfigured([f"{of or path} is of a newer release ({max(newer)}); install that."])
    state = path.stat()
    return Contents(path, state.st_size, max(applied), jobs, state.st_mtime)


def _read(path: Path, *, in_use: bool) -> sqlite3.Connection:
    """A connection for reading; without a log it makes no files beside the database."""
    os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))  # its error has a number, that of SQLite has none
    logged = in_use or database_file.size(f"{path}-wal") > 0
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode={'rw' if logged else 'ro&immutable=1'}", uri=True)


def _damage(source: sqlite3.Connection) -> str | None:
    """What SQLite finds wrong, in one clause."""
    for (said,) in source.execute("pragma integrity_check(1)").fetchall():
        if said != "ok":
            return f"is damaged ({' '.join(said.split())})"
    for table, row, parent, _ in source.execute("pragma foreign_key_check").fetchall():
        return f"is inconsistent (row {row} of {table} has no row in {parent})"
    return None


def make(database: Path, folder: Path, now: float, *, keep: int = KEPT, leave: int = 0, before: str | None = None) -> Contents:
    """Makes a backup while others use the database, verifies it, and deletes the oldest.

    The copy is of one moment. Until it is verified and on the disk, it has another name.

    :param folder: made if it does not exist
    :param now: seconds since the epoch
    :param keep: how many there are afterwards; those before migrations are counted apart
    :param leave: bytes that stay free, where the backups are on the disk of the database
    :param before: the migration that begins after it
    :raises StorageFullError: the disk has not the space
    :raises Conflict: another backup is under way
    :raises Misconfigured: the database or the copy is damaged
    :raises OSError: the folder cannot be written
    """
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    final = folder / f"{database.stem}-{stamp}{f'-before-{before}' if before else ''}.db"
    with exclusive_lock(database, BACKUP, RESTORE_SECONDS) as mine:
        if not mine:
            raise Conflict("another backup is under way")
        folder.mkdir(0o700, parents=True, exist_ok=True)
        for left in folder.glob(f"{database.stem}-*.db.new*"):  # of one that was killed
            left.unlink()
        new = folder / f"{final.name}.new"
        in_use = SharedLock(database, IN_USE, RESTORE_SECONDS)
        try:
            _delete_oldest(database, folder, keep, before)  # the disk may be full of them
            _copy(database, new, folder, in_use=True, leave=leave if _on_one_disk(database, folder) else 0)
            contents = verify(new, database)
            os.utime(new, (now, now))
            new.replace(final)
            _sync(folder)
        finally:
            del in_use
            new.unlink(missing_ok=True)
        _delete_oldest(database, folder, keep, before)
    return replace(contents, path=final, written_at=now)


def _delete_oldest(database: Path, folder: Path, keep: int, before: str | None) -> None:
    kept = [one for one in made(database, folder) if ("-before-" in one.name) == (before is not None)]
    for old in kept[: -max(keep, 1)]:
        old.unlink(missing_ok=True)


def _on_one_disk(database: Path, folder: Path) -> bool:
    return database.stat().st_dev == folder.stat().st_dev


def made(database: Path, folder: Path) -> list[Path]:
    """The verified backups in a folder, oldest first."""
    return sorted(folder.glob(f"{database.stem}-????????T??????Z*.db"))


def last_made(database: Path, folder: Path) -> float | None:
    """When the newest verified backup was made, in seconds since the epoch; None without any."""
    times = []
    for one in made(database, folder):
        with suppress(OSError):
            times.append(one.stat().st_mtime)
    return max(times, default=None)


def restore(source: Path, database: Path, backups: Path, now: float) -> Path | None:
    """Puts a backup in the place of the database, which stays beside it under another name.

    The restored database is behind what UCloud knows (:mod:`ucloud_slurm.store.generation`), whatever happens meanwhile.

    :param backups: folder of the backup that is made if it must be migrated
    :param now: seconds since the epoch
    :returns: the replaced file; None if there was none
    :raises Conflict: a process has the database open
    :raises StorageFullError: the disk has not the space
    :raises Misconfigured: the backup cannot be used
    :raises OSError: a file cannot be written
    """
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    replaced, new = Path(f"{database}.replaced-{stamp}"), Path(f"{database}.restoring")
    database_file.refuse_shared(database)
    with _alone(database):
        verify(source)
        try:
            _copy(source, new, database.parent)
            if not _unclaim(new, now):  # it is from before the mark: a file with a higher number says the same
                record(database, max(1, recorded(database) or 0), now)
            there = database.exists()
            if there:
                database.rename(replaced)
            # The log belongs to the replaced file: beside another one it would damage that.
            with suppress(FileNotFoundError):
                Path(f"{database}-wal").rename(f"{replaced}-wal")
            Path(f"{database}-shm").unlink(missing_ok=True)
            _sync(database.parent)
            new.rename(database)
            _sync(database.parent)
        finally:
            new.unlink(missing_ok=True)
    Store(database, backups).close()
    return replaced if there else None


def adopt(database: Path, backups: Path, now: float) -> None:
    """Makes the database of another host that of this one. It is behind until it was reconciled.

    :param backups: as for :func:`restore`
    :param now: seconds since the epoch
    :raises Conflict: a process has the database open
    :raises Misconfigured: there is none, or it cannot be used
    """
    database_file.refuse_shared(database)
    with _alone(database):
        verify(database, in_use=True)
        _unclaim(database, now)
    Store(database, backups).close()


@contextmanager
def _alone(database: Path) -> Iterator[None]:
    with exclusive_lock(database, IN_USE) as mine:
        if not mine:
            raise Conflict(f"{database} is in use; stop everything that uses it: {STOP}")
        yield


def _unclaim(database: Path, now: float) -> bool:
    """Marks a database as restored, without a host and a file; False if it has no place for that."""
    with closing(sqlite3.connect(database, isolation_level=None)) as conn:
        if "m015_generation" not in migrations.applied(conn):
            return False
        conn.execute("update generation set restored_at = ?, host = null, host_name = null, inode = null", [now])
    return True


def _copy(path: Path, new: Path, folder: Path, *, in_use: bool = False, leave: int = 0) -> None:
    """Copies a database to the disk as a new file without a log, for this account only.

    :param leave: bytes that stay free beside it
    """
    for left in (new, Path(f"{new}-journal")):  # of one that was killed; SQLite would put the journal into the copy
        left.unlink(missing_ok=True)
    try:
        with closing(_read(path, in_use=in_use)) as source:
            ((pages,),), ((page,),) = (source.execute(f"pragma page_{what}").fetchall() for what in ("count", "size"))
            needed, free = pages * page, database_file.free_bytes(folder)
            if free < needed + leave:
                why = f"{folder} has {free // 2**20} MiB free, and the copy needs {needed // 2**20 + 1}"
                if leave:
                    why += f" beside the {leave // 2**20} of database.minimum_free; lower database.backups_kept, or name "
                    why += "a folder on another disk in database.backups"
                raise StorageFullError(why)
            os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
            with closing(sqlite3.connect(new, isolation_level=None)) as target:
                target.execute("pragma synchronous = off")  # all of it is synchronized below
                source.backup(target)
                target.execute("pragma journal_mode = delete")
    except sqlite3.DatabaseError as error:
        problem = database_file.problem(new, error)
        if isinstance(problem, StorageFullError):
            raise problem from error
        raise Misconfigured([f"{path} is damaged ({error})."]) from None
    _sync(new)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
