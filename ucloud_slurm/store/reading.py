"""The database as it is, for those who only look: nothing is made, migrated, claimed or written."""

import os
from contextlib import suppress

from ucloud_slurm.errors import Misconfigured, StorageError
from ucloud_slurm.store import database_file, migrations
from ucloud_slurm.store.generation import Generation
from ucloud_slurm.store.sqlite import Connection, Store
from ucloud_slurm.system.filelock import IN_USE, MIGRATION, SharedLock, is_locked

REPLACED_SECONDS = 1.0  # to wait for the end of a restore


class ReadOnlyStore(Store):
    """The database file, of which every statement that writes is refused by SQLite.

    A migration is not waited for, and a file of another release is refused: an upgrade is not begun by a look at it.

    :raises Misconfigured: the file cannot be read, with one sentence that says why
    """

    def _open(self) -> SharedLock:
        try:
            in_use = SharedLock(self.path, IN_USE, REPLACED_SECONDS)
        except BlockingIOError:
            raise StorageError(f"{self.path} is being replaced by a restore; try again when that has ended") from None
        with suppress(FileNotFoundError):
            os.close(os.open(self.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW))  # SQLite would not say why
        if damage := database_file.damage_of(self.path):
            raise Misconfigured([f"database.path: {self.path} cannot be used: it {damage}; {database_file.RESTORE}"])
        if is_locked(self.path, MIGRATION):
            raise StorageError(f"{self.path} is being migrated to this release; try again in a few minutes")
        self._inode = database_file.inode(self.path)
        if self._inode is None:
            raise StorageError(f"{self.path} is not there yet; the service makes it: systemctl start ucloud-slurm")
        known, done = migrations.names(), migrations.applied(self._connection().conn)
        if done - known:
            raise Misconfigured([f"database.path: {database_file.newer(self.path, done - known)}"])
        if known - done:
            why = f"is of an older release ({min(known - done)} is missing)" if done else "has no tables yet"
            raise StorageError(f"{self.path} {why}; the service migrates it: systemctl restart ucloud-slurm")
        Generation(self).refuse_foreign()
        return in_use

    def _connect(self) -> Connection:
        connection = super()._connect()
        connection.conn.execute("pragma query_only = on")
        return connection
