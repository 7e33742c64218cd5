"""The SQLite file: opening it, one connection for each thread, short write transactions."""

import sqlite3
import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ucloud_slurm.errors import Misconfigured, Problem, StorageError
from ucloud_slurm.store import database_file, migrations
from ucloud_slurm.store.fence import Fence
from ucloud_slurm.store.generation import Generation
from ucloud_slurm.system import deadline
from ucloud_slurm.system.filelock import (
    ALONE_SECONDS,
    IN_USE,
    MIGRATION,
    MIGRATION_SECONDS,
    SharedLock,
    exclusive_lock,
    try_locks,
)

if TYPE_CHECKING:
    from sqlite_utils import Database
    from sqlite_utils.db import Table

    from ucloud_slurm.config.database import DatabaseSection

BUSY_SECONDS = 2.0
LEAST_SECONDS = 0.1  # of these, also for a call whose time is over: most transactions take a millisecond or two
RETRY_MILLISECONDS = 2
BUSY = "The provider is busy; please try again in a minute."
RESTART = "restart what has it open: systemctl try-restart ucloud-slurm ucloud-slurm-listener ucloud-slurm-files"
LOG_BYTES = 16 * 2**20  # to which the write-ahead log is cut, as soon as no reader needs more of it

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

    :raises Misconfigured: the file cannot be used
    """

    def __init__(self, path: Path, backups: Path | None = None, *, fenced: bool = False) -> None:
        """Opens it, and brings it up to date.

        :param backups: folder of the backup that is made before; None for that beside the file
        :param fenced: another host may work instead, so that writes need the lease (:mod:`ucloud_slurm.store.fence`)
        """
        self.path = path
        self._backups = backups or path.parent / "backups"
        self._threads = threading.local()
        # The threads of this process queue here: SQLite has no queue, it sleeps and tries again.
        self._write_lock = threading.Lock()
        self.fence: Fence | None = None
        self._prepare()
        # To open it needs no lease: it changes this host's file only.
        self.fence = Fence(path) if fenced else None

    @classmethod
    def of(cls, section: "DatabaseSection") -> Self:
        """That of a configuration; raises as the constructor does."""
        return cls(section.path, section.backup_folder, fenced=section.standby is not None)

    def refuse_elsewhere(self) -> None:
        """Does nothing while this host may work.

        :raises ElsewhereError: it may not (:mod:`ucloud_slurm.store.fence`)
        """
        if self.fence is not None:
            self.fence.check()

    def why_elsewhere(self) -> str | None:
        """Why this host may not work, in one clause; None while it may."""
        return None if self.fence is None else self.fence.why()

    def _prepare(self) -> None:
        database_file.refuse_shared(self.path)
        try:
            try_locks(self.path)
            self._in_use = self._open()  # until this object is deleted, nobody replaces the file
        except OSError as error:
            where = Path(error.filename or self.path)  # the file, or one of the locks beside it
            raise Misconfigured([f"database.path: {where} {database_file.closed(where, error)}."]) from None
        except sqlite3.DatabaseError as error:
            raise Misconfigured([f"database.path: {self.path} cannot be used ({error})."]) from None
        except Problem as error:
            raise Misconfigured([f"database.path: {error}"]) from None

    def _open(self) -> SharedLock:
        in_use = SharedLock(self.path, IN_USE, ALONE_SECONDS)
        # One process at a time: SQLite does not wait for one that creates the file, and a migration of a million
        # jobs takes minutes.
        with exclusive_lock(self.path, MIGRATION, MIGRATION_SECONDS):
            database_file.prepare(self.path)
            self._inode = database_file.inode(self.path)
            self._migrate()
            Generation(self).claim()
        return in_use

    def _migrate(self) -> None:
        known = migrations.names()
        done = migrations.applied(self._connection().conn)
        if done - known:
            raise Misconfigured([f"database.path: {database_file.newer(self.path, done - known)}"])
        if not known - done:
            return
        if done:
            self._back_up(min(known - done))
        elif migrations.is_foreign(self._connection().conn):
            raise Misconfigured([f"database.path: {self.path} is the database of another program; name a new file."])
        migrations.prepare(self._connection().conn)
        with self.writing() as db:
            migrations.migrate(db.database)

    def _back_up(self, migration: str) -> None:
        from ucloud_slurm.store import backup

        try:
            backup.make(self.path, self._backups, time.time(), before=migration)
        except (OSError, Problem) as error:
            why = f"the backup before it cannot be made in {self._backups} ({error}); the database is as it was"
            raise Misconfigured([f"database.path: {self.path} is not migrated to {migration}: {why}."]) from None

    def _connection(self) -> "Connection":
        """The connection of this thread."""
        connection: Connection | None = getattr(self._threads, "connection", None)
        if database_file.inode(self.path) != self._inode:
            raise StorageError(f"The provider's database {self.path} was removed or replaced; its administrator must {RESTART}")
        if connection is None:
            connection = self._threads.connection = self._connect()
        return connection

    def _connect(self) -> "Connection":
        return Connection(self.path)

    @property
    def rows_written(self) -> int:
        """How many rows this thread has changed since it has a connection."""
        with _storage_errors(self.path):
            return self._connection().conn.total_changes

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
                self.refuse_elsewhere()
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

    def checkpoint(self) -> None:
        """Cuts the write-ahead log, if it is long and no reader needs it now. It waits for nobody; a later call may succeed."""
        if database_file.size(f"{self.path}-wal") <= LOG_BYTES:
            return
        with _storage_errors(self.path):
            conn = self._connection().conn
            conn.execute("pragma busy_timeout = 0")
            with suppress(sqlite3.OperationalError):  # the disk is full
                conn.execute("pragma wal_checkpoint(truncate)").fetchall()
            conn.execute(f"pragma busy_timeout = {BUSY_SECONDS * 1000:.0f}")

    def change(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = (), *, durable: bool = True) -> int:
        """One statement that writes; returns how many rows it changed. See :meth:`writing`."""
        with self.writing(durable=durable) as db:
            return db.conn.execute(sql, parameters).rowcount


class Connection:
    """The connection of one thread. It is closed when there is no reference to it any more."""

    def __init__(self, path: Path) -> None:
        where = f"{path.absolute().as_uri()}?mode=rw"  # never makes another file
        self.conn = sqlite3.connect(where, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, uri=True)
        self.conn.execute("pragma journal_mode = wal")
        self.conn.execute("pragma synchronous = full")
        self.conn.execute("pragma foreign_keys = on")
        self.conn.execute(f"pragma journal_size_limit = {LOG_BYTES}")
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
    except sqlite3.DatabaseError as error:
        if _is_busy(error):
            raise StorageBusyError(BUSY) from error
        if problem := database_file.problem(path, error):
            raise problem from error
        raise


def _is_busy(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
