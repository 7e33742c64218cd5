"""The way back: a backup in the place of the database, and the database of another host as that of this one."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from ucloud_slurm.errors import Conflict
from ucloud_slurm.store import database_file, migrations
from ucloud_slurm.store.acts import DATABASE, Acts
from ucloud_slurm.store.backup import copy, sync, verify
from ucloud_slurm.store.generation import record, recorded
from ucloud_slurm.store.sqlite import Store
from ucloud_slurm.system.filelock import IN_USE, exclusive_lock

STOP = (
    "systemctl stop ucloud-slurm.socket ucloud-slurm.service ucloud-slurm-worker.timer ucloud-slurm-worker.service "
    "ucloud-slurm-listener.service ucloud-slurm-link.socket ucloud-slurm-link.service ucloud-slurm-backup.timer "
    "ucloud-slurm-backup.service ucloud-slurm-files.socket ucloud-slurm-files.service "
    "ucloud-slurm-hooks.timer ucloud-slurm-hooks.service"
)


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
    new = Path(f"{database}.restoring")
    database_file.refuse_shared(database)
    with _alone(database):
        verify(source)
        names = (Path(f"{database}.replaced-{stamp}{f'-{number}' if number > 1 else ''}") for number in count(1))
        replaced = next(name for name in names if not name.exists())
        try:
            copy(source, new, database.parent)
            if not _unclaim(new, now):  # it is from before the mark: a file with a higher number says the same
                record(database, max(1, recorded(database) or 0), now)
            there = database.exists()
            if there:
                database.rename(replaced)
            # The log belongs to the replaced file: beside another one it would damage that.
            with suppress(FileNotFoundError):
                Path(f"{database}-wal").rename(f"{replaced}-wal")
            Path(f"{database}-shm").unlink(missing_ok=True)
            sync(database.parent)
            new.rename(database)
            sync(database.parent)
        finally:
            new.unlink(missing_ok=True)
    _record(database, backups, f"restored {database} from {source}", now)
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
    _record(database, backups, f"made {database} the database of this host", now)


def _record(database: Path, backups: Path, what: str, now: float) -> None:
    """Brings the database up to date, and records the act in it."""
    with closing(Store(database, backups)) as store:
        Acts(store).record(DATABASE, what, now)


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
