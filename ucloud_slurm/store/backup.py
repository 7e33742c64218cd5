"""Backups of the database: made while it is in use, and verified before they count."""

import errno
import os
import sqlite3
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from ucloud_slurm.errors import Conflict, Misconfigured, StorageFullError
from ucloud_slurm.store import database_file, migrations
from ucloud_slurm.system.filelock import (
    ALONE_SECONDS,
    BACKUP,
    IN_USE,
    MIGRATION,
    MIGRATION_SECONDS,
    SharedLock,
    exclusive_lock,
    wait_until_free,
)

KEPT = 28  # unless the configuration has another number


class Contents(NamedTuple):
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
    if in_use:
        _wait_for_migration(path)
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
    if unknown := applied - migrations.names():
        raise Misconfigured([database_file.newer(of or path, unknown)])
    state = path.stat()
    return Contents(path, state.st_size, max(applied), jobs, state.st_mtime)


def _wait_for_migration(database: Path) -> None:
    """A file that is here has all of its tables as soon as nobody is making or migrating it.

    :raises Conflict: that does not end
    """
    if database.exists() and not wait_until_free(database, MIGRATION, MIGRATION_SECONDS):
        raise Conflict("a migration of the database is under way")


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


def make(
    database: Path, folder: Path, now: float, *, keep: int = KEPT, leave: int = 0, before: str | None = None, lock: str = BACKUP
) -> Contents:
    """Makes a backup while others use the database, verifies it, and deletes the oldest.

    The copy is of one moment. Until it is verified and on the disk, it has another name.

    :param folder: made if it does not exist
    :param now: seconds since the epoch
    :param keep: how many there are afterwards; those before migrations are counted apart
    :param leave: bytes that stay free, where the backups are on the disk of the database
    :param before: the migration that begins after it
    :param lock: one is made at a time under this lock; a lock belongs to a folder
    :raises StorageFullError: the disk has not the space
    :raises Conflict: another backup is under way, or a migration does not end
    :raises Misconfigured: the database or the copy is damaged
    :raises OSError: the folder cannot be written
    """
    if before is None:
        _wait_for_migration(database)
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    final = folder / f"{database.stem}-{stamp}{f'-before-{before}' if before else ''}.db"
    with exclusive_lock(database, lock, ALONE_SECONDS) as mine:
        if not mine:
            raise Conflict(f"another backup of {database} is being made; run this again when that has ended")
        folder.mkdir(0o700, parents=True, exist_ok=True)
        for left in folder.glob(f"{database.stem}-*.db.new*"):  # of one that was killed
            left.unlink()
        new = folder / f"{final.name}.new"
        in_use = SharedLock(database, IN_USE, ALONE_SECONDS)
        try:
            _delete_oldest(database, folder, keep, before)  # the disk may be full of them
            copy(database, new, folder, in_use=True, leave=leave if _on_one_disk(database, folder) else 0)
            contents = verify(new, database)
            os.utime(new, (now, now))
            new.replace(final)
            sync(folder)
        finally:
            del in_use
            new.unlink(missing_ok=True)
        _delete_oldest(database, folder, keep, before)
    return contents._replace(path=final, written_at=now)


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


def copy(path: Path, new: Path, folder: Path, *, in_use: bool = False, leave: int = 0) -> None:
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
    sync(new)


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
