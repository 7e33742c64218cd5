"""The SQLite file: opening it, one connection for each thread, short write transactions."""

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

from ucloud_slurm.errors import Misconfigured, Problem, StorageError, StorageFullError
from ucloud_slurm.store import migrations
from ucloud_slurm.system import deadline
from ucloud_slurm.system.filelock import MIGRATION, exclusive_lock

if TYPE_CHECKING:
    from sqlite_utils import Database
    from sqlite_utils.db import Table

BUSY_SECONDS = 2.0
LEAST_SECONDS = 0.1  # of these, also for a call whose time is over: most transactions take a millisecond or two
RETRY_MILLISECONDS = 2
BUSY = "The provider is busy; please try again in a minute."
MIGRATION_SECONDS = 1800.0  # that another process has to migrate the file
# File systems that hosts share, as proc_mounts(5) names them. WAL needs the shared memory of one host.
SHARED = {"nfs", "nfs4", "cifs", "smb3", "lustre", "gpfs", "beegfs", "ceph", "fuse.glusterfs", "afs", "9p"}

Row = Mapping[str, Any]
_writer = threading.local()


class StorageBusyError(StorageError):
    """Other processes or threads wrote for too long; nothing was written."""

    status = 500


def in_write_transaction() -> bool:
    """Whether this thread keeps other writers waiting: it must not wait for anything but the disk then.

    Commands, the name service, UCloud, Slurm and other threads are asked before; the tests refuse it inside.
    """
    return getattr(_writer, "open", False)


class Store:
    """The database file. Safe for several threads and processes; every write is one short transaction.

    :raises Misconfigured: when the file cannot be used
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._threads = threading.local()
        # The threads of this process queue here: SQLite has no queue, it sleeps and tries again.
        self._write_lock = threading.Lock()
        self._prepare()

    def _prepare(self) -> None:
        kind = filesystem(self.path.parent)
        if kind in SHARED:
            raise Misconfigured([f"database.path: {self.path} is on a shared file system ({kind}); put it on a local disk."])
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor):
                if stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o077:
                    os.fchmod(descriptor, 0o600)
        except OSError as error:
            raise Misconfigured([f"database.path: {self.path} cannot be opened ({error.strerror})."]) from None
        try:
            # One process at a time: SQLite does not wait for one that creates the file, and a migration of a million
            # jobs takes minutes.
            with exclusive_lock(self.path, MIGRATION, MIGRATION_SECONDS):
                self._migrate()
        except OSError as error:
            raise Misconfigured([f"database.path: {self.path.parent} cannot be written ({error.strerror})."]) from None
        except (sqlite3.DatabaseError, Problem) as error:
            raise Misconfigured([f"database.path: {self.path} cannot be used ({error})."]) from None

    def _migrate(self) -> None:
        known = {migration.__name__ for migration in migrations.STEPS}
        done = self._migrated()
        if done - known:
            raise Misconfigured([f"database.path: {self.path} is of a newer release ({max(done - known)}); install that."])
        if known - done:
            migrations.prepare(self._connection().conn)
            with self.writing() as db:
                migrations.migrate(db.database)

    def _migrated(self) -> set[str]:
        """The names of the migrations that the file has had."""
        table = "_sqlite_migrations"
        if self.row("select 1 from sqlite_schema where type = 'table' and name = ?", [table]) is None:
            return set()
        sql = f"select name from {table} where migration_set = ?"
        return {row["name"] for row in self.rows(sql, [migrations.SET])}

    def _connection(self) -> "Connection":
        """The connection of this thread."""
        connection: Connection | None = getattr(self._threads, "connection", None)
        if connection is None:
            connection = self._threads.connection = Connection(self.path)
        return connection

    def close(self) -> None:
        """Closes the connection of this thread. Those of others may be in use, and close when their threads end."""
        self._threads.__dict__.pop("connection", None)

    @contextmanager
    def writing(self, *, durable: bool = True, within: float = BUSY_SECONDS) -> "Generator[Connection, None, None]":
        """One write transaction: all of it or nothing.

        :param durable: wait until the disk has it; otherwise a power failure, and nothing else, can undo it
        :param within: seconds in which other writers must end, while the call that this thread answers may wait
        :raises StorageFullError: the disk is full
        :raises StorageBusyError: another writer did not end in time
        """
        with _storage_errors(self.path):
            connection = self._connection()
            if connection.conn.in_transaction:  # part of the caller's transaction
                yield connection
                return
            within = max(deadline.left(within), min(within, LEAST_SECONDS))
            until = time.monotonic() + within
            if not self._write_lock.acquire(timeout=within):
                raise StorageBusyError(BUSY)
            try:
                connection.set_durable(durable)
                connection.begin(until)
                _writer.open = True
                yield connection
                connection.conn.execute("commit")
            except BaseException:
                connection.conn.rollback()  # does nothing where SQLite has rolled back by itself
                raise
            finally:
                _writer.open = False
                self._write_lock.release()

    def rows(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> list[Row]:
        """The rows of a query."""
        with _storage_errors(self.path):
            cursor = self._connection().conn.execute(sql, parameters)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]

    def tuples(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of a query as tuples, for thousands of rows."""
        with _storage_errors(self.path):
            return list(self._connection().conn.execute(sql, parameters))

    def row(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> Row | None:
        """The first row of a query, or None."""
        found = self.rows(sql, parameters)
        return found[0] if found else None

    def change(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = (), *, durable: bool = True) -> int:
        """One statement that writes; returns how many rows it changed. See :meth:`writing`."""
        with self.writing(durable=durable) as db:
            return db.conn.execute(sql, parameters).rowcount


class Connection:
    """The connection of one thread. It is closed when there is no reference to it any more."""

    def __init__(self, path: Path) -> None:
        self.conn = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        self.conn.execute("pragma journal_mode = wal")
        self.conn.execute("pragma synchronous = full")
        self.conn.execute("pragma foreign_keys = on")
        self._durable = True

    def begin(self, until: float) -> None:
        """Begins a write transaction as soon as other processes let it.

        :param until: when that must be, by ``time.monotonic``
        """
        # SQLite's own pauses grow, though most transactions take a millisecond or two.
        self.conn.execute(f"pragma busy_timeout = {RETRY_MILLISECONDS}")
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

    def set_durable(self, durable: bool) -> None:
        """Whether the next commits wait until the disk has them."""
        if durable is not self._durable:
            self.conn.execute(f"pragma synchronous = {'full' if durable else 'normal'}")
            self._durable = durable

    @cached_property
    def database(self) -> "Database":
        """The same connection for sqlite-utils. Many passes do not need the library, which takes long to load."""
        from sqlite_utils import Database

        return Database(self.conn, execute_plugins=False)

    def table(self, name: str) -> "Table":
        """A table to write into."""
        return self.database.table(name)

    def __del__(self) -> None:
        if hasattr(self, "conn"):
            self.conn.close()


@contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    """Raises SQLite's errors as ours."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if _code(error) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            raise StorageFullError(f"The provider's disk is full or broken ({path.parent}); please try again later.") from error
        if _is_busy(error):
            raise StorageBusyError(BUSY) from error
        raise


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _is_busy(error: sqlite3.Error) -> bool:
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


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
