"""The SQLite file: opening it, one connection a thread, short write transactions."""

import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ucloud_slurm.errors import Misconfigured, Problem, StorageFull, StorageTrouble
from ucloud_slurm.store import migrations
from ucloud_slurm.system.filelock import MIGRATION, exclusive_lock

if TYPE_CHECKING:
    from sqlite_utils import Database
    from sqlite_utils.db import Table

BUSY_SECONDS = 2.0
LOOK_AGAIN = 2  # milliseconds
BUSY = "The provider is busy; please try again in a minute."
PATIENCE = 1800.0  # seconds for another process to bring the file up to date
# statfs(2): file systems that hosts share. WAL needs the shared memory of one host.
SHARED = {"nfs", "nfs4", "cifs", "smb3", "lustre", "gpfs", "beegfs", "ceph", "fuse.glusterfs", "afs", "9p"}

Row = Mapping[str, Any]


class StorageBusyError(StorageTrouble):
    """Others wrote for too long; nothing was written."""

    status = 500


class Store:
    """The database file. Safe for several threads and processes; every write is one short transaction.

    :raises Misconfigured: when the file cannot be used
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._threads = threading.local()
        self._turn = threading.Lock()  # SQLite does not wait for its lock: it sleeps, and looks again
        self._prepare()

    def _prepare(self) -> None:
        kind = filesystem(self.path.parent)
        if kind in SHARED:
            raise Misconfigured(
                [
                    f"database.path: {self.path} is on a shared file system ({kind}); put it on a "
                    "local disk of this host."
                ]
            )
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor):
                if stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o077:
                    os.fchmod(descriptor, 0o600)
        except OSError as error:
            raise Misconfigured([f"database.path: {self.path} cannot be opened ({error.strerror})."]) from None
        try:
            # One at a time: SQLite waits for nobody who makes a file, and a migration that reads a million jobs takes
            # minutes.
            with exclusive_lock(self.path, MIGRATION, PATIENCE):
                self._migrate()
        except OSError as error:
            raise Misconfigured([f"database.path: {self.path.parent} cannot be written ({error.strerror})."]) from None
        except (sqlite3.DatabaseError, Problem) as error:
            raise Misconfigured([f"database.path: {self.path} cannot be used ({error})."]) from None

    def _migrate(self) -> None:
        known = {migration.__name__ for migration in migrations.STEPS}
        done = self._migrated()
        if done - known:
            raise Misconfigured(
                [
                    f"database.path: {self.path} was written by a newer release ({max(done - known)}); "
                    "install that release."
                ]
            )
        if known - done:
            with self.writing() as db:
                migrations.migrate(db.database)

    def _migrated(self) -> set[str]:
        """The names of the migrations that the file has had."""
        table = "_sqlite_migrations"
        if self.row("select 1 from sqlite_schema where type = 'table' and name = ?", [table]) is None:
            return set()
        sql = f"select name from {table} where migration_set = ?"
        return {row["name"] for row in self.rows(sql, [migrations.SET])}

    def _kept(self) -> "Connection":
        kept: Connection | None = getattr(self._threads, "kept", None)
        if kept is None:
            kept = self._threads.kept = Connection(self.path)
        return kept

    def close(self) -> None:
        """Closes the connection of this thread. Those of others close with their threads: they may be in use."""
        self._threads.__dict__.pop("kept", None)

    @contextmanager
    def writing(self, *, durable: bool = True) -> "Generator[Connection, None, None]":
        """One write transaction: all of it or nothing.

        :param durable: wait for the disk; without it a power failure can undo the transaction, and nothing else can
        :raises StorageFull: the disk is full
        :raises StorageBusyError: another writer did not end in time
        """
        with _told(self.path):
            kept = self._kept()
            if kept.conn.in_transaction:  # part of the caller's transaction
                yield kept
                return
            until = time.monotonic() + BUSY_SECONDS
            if not self._turn.acquire(timeout=BUSY_SECONDS):
                raise StorageBusyError(BUSY)
            try:
                kept.wait_for_disk(durable)
                kept.begin(until)
                yield kept
                kept.conn.execute("commit")
            except BaseException:
                kept.conn.rollback()  # does nothing where SQLite has rolled back by itself
                raise
            finally:
                self._turn.release()

    def rows(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> list[Row]:
        """The rows of a query."""
        with _told(self.path):
            cursor = self._kept().conn.execute(sql, parameters)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]

    def tuples(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of a query, with their columns in the order in which it names them: for thousands of rows."""
        with _told(self.path):
            return list(self._kept().conn.execute(sql, parameters))

    def row(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> Row | None:
        """The first row of a query, or None."""
        found = self.rows(sql, parameters)
        return found[0] if found else None

    def change(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = (), *, durable: bool = True) -> int:
        """One statement that writes; returns how many rows it changed. See :meth:`writing`."""
        with self.writing(durable=durable) as db:
            return db.conn.execute(sql, parameters).rowcount


class Connection:
    """The connection of one thread. It is closed when nobody holds this any more."""

    def __init__(self, path: Path) -> None:
        self.conn = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        self.conn.execute("pragma journal_mode = wal")
        self.conn.execute("pragma synchronous = full")
        self.conn.execute("pragma foreign_keys = on")
        self._waits = True

    def begin(self, until: float) -> None:
        """Begins a write transaction as soon as other processes let it.

        :param until: when that must be, by ``time.monotonic``
        """
        # SQLite looks again after longer and longer pauses. Most transactions are over in a millisecond or two.
        self.conn.execute(f"pragma busy_timeout = {LOOK_AGAIN}")
        try:
            while True:
                try:
                    self.conn.execute("begin immediate")
                except sqlite3.OperationalError as error:
                    if not _is_busy(error) or time.monotonic() >= until:
                        raise
                else:
                    return
        finally:
            self.conn.execute(f"pragma busy_timeout = {BUSY_SECONDS * 1000:.0f}")

    def wait_for_disk(self, waits: bool) -> None:
        """Whether the next commits wait until the disk has them."""
        if waits is not self._waits:
            self.conn.execute(f"pragma synchronous = {'full' if waits else 'normal'}")
            self._waits = waits

    @cached_property
    def database(self) -> "Database":
        """The same connection with more comfort. Many a pass needs none, and the library takes long to load."""
        from sqlite_utils import Database

        return Database(self.conn, execute_plugins=False)

    def table(self, name: str) -> "Table":
        """A table to write into."""
        return self.database.table(name)

    def __del__(self) -> None:
        if hasattr(self, "conn"):
            self.conn.close()


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if _code(error) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            raise StorageFull(
                f"The provider's disk is full or broken ({path.parent}); please try again later."
            ) from error
        if _is_busy(error):
            raise StorageBusyError(BUSY) from error
        raise


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _is_busy(error: sqlite3.Error) -> bool:
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


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
