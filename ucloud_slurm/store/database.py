"""The SQLite file: opening it, one connection a thread, short write transactions."""

import os
import sqlite3
import stat
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from ucloud_slurm.errors import Misconfigured, Problem, StorageFull, StorageTrouble
from ucloud_slurm.store.migrations import migrations

BUSY_SECONDS = 2.0
# statfs(2): file systems that hosts share. WAL needs the shared memory of one host.
SHARED = {"nfs", "nfs4", "cifs", "smb3", "lustre", "gpfs", "beegfs", "ceph", "fuse.glusterfs", "afs", "9p"}

Row = Mapping[str, Any]


class StorageBusy(StorageTrouble):
    """Another writer held the database for too long; nothing was written."""

    status = 500


class Store:
    """The database file. Safe for several threads and processes; every write is one short transaction.

    :raises Misconfigured: when the file cannot be used
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._threads = threading.local()
        self._prepare()

    def _prepare(self) -> None:
        kind = filesystem(self.path.parent)
        if kind in SHARED:
            raise Misconfigured([f"database.path: {self.path} is on a shared file system ({kind}); put it on a "
                                 "local disk of this host."])  # fmt: skip
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor):
                if stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o077:
                    os.fchmod(descriptor, 0o600)
        except OSError as error:
            raise Misconfigured([f"database.path: {self.path} cannot be opened ({error.strerror})."]) from None
        try:
            db = self._database()
            known = {migration.name for migration in migrations._migrations}
            newer = sorted(done.name for done in migrations.applied(db) if done.name not in known)
            if newer:
                raise Misconfigured([f"database.path: {self.path} was written by a newer release ({newer[-1]}); "
                                     "install that release."])  # fmt: skip
            if migrations.pending(db):
                with self.writing():
                    migrations.apply(db)
        except (sqlite3.DatabaseError, Problem) as error:
            raise Misconfigured([f"database.path: {self.path} cannot be used ({error})."]) from None

    def _database(self) -> Database:
        kept: _Connection | None = getattr(self._threads, "kept", None)
        if kept is None:
            kept = self._threads.kept = _Connection(self.path)
        return kept.db

    def close(self) -> None:
        """Closes the connection of this thread. Those of others close with their threads: they may be in use."""
        self._threads.__dict__.pop("kept", None)

    @contextmanager
    def writing(self) -> Generator[Database, None, None]:
        """One write transaction: all of it or nothing.

        :raises StorageFull: the disk is full
        :raises StorageBusy: another writer did not end in time
        """
        with _told(self.path):
            db = self._database()
            if db.conn.in_transaction:  # part of the caller's transaction
                yield db
                return
            db.conn.execute("begin immediate")
            try:
                yield db
                db.conn.execute("commit")
            except BaseException:
                db.conn.rollback()  # does nothing where SQLite has rolled back by itself
                raise

    def rows(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> list[Row]:
        """The rows of a query."""
        with _told(self.path):
            cursor = self._database().conn.execute(sql, parameters)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]

    def row(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> Row | None:
        """The first row of a query, or None."""
        found = self.rows(sql, parameters)
        return found[0] if found else None

    def change(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> int:
        """One statement that writes; returns how many rows it changed."""
        with self.writing() as db:
            return db.conn.execute(sql, parameters).rowcount


class _Connection:
    """The connection of one thread. It is closed when nobody holds this any more."""

    def __init__(self, path: Path) -> None:
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = full")
        connection.execute("pragma foreign_keys = on")
        self.db = Database(connection, execute_plugins=False)

    def __del__(self) -> None:
        if hasattr(self, "db"):
            self.db.conn.close()


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            raise StorageFull(
                f"The provider's disk is full or broken ({path.parent}); please try again later."
            ) from error
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise StorageBusy("The provider is busy; please try again in a minute.") from error
        raise


def filesystem(folder: Path, mounts: Callable[[], str] = lambda: Path("/proc/self/mounts").read_text()) -> str:
    """The kind of file system that a folder is on, as the kernel names it; empty if it cannot be told."""
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
