"""Whether the database is older than what UCloud knows of us: it was restored, copied back, or lost.

A number in the database and in a small file beside it counts up while the worker reports. The database is committed
first: the file never has the higher number, unless the database was replaced by an older one. The row has also the host
and the inode of the file, so that copies of both are noticed.
"""

import hashlib
import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ucloud_slurm.errors import Misconfigured

if TYPE_CHECKING:
    from ucloud_slurm.store.sqlite import Store

log = logging.getLogger(__name__)

ADVANCE_SECONDS = 600.0  # after which it counts up though the pass has written nothing: others may have
MACHINE_ID = Path("/etc/machine-id")
LARGEST = 2**63 - 1  # number in SQLite


class Generation:
    """How old the database is, compared with what was reported from it."""

    def __init__(self, store: "Store") -> None:
        self._store = store
        self._path = Path(f"{store.path}.generation")
        self._written = store.rows_written

    def advance(self, now: float) -> None:
        """Counts up at the end of a pass, if something was written since this object was made, or it is long ago.

        A database that is behind stays so. Without a change it asks the file only.

        :param now: seconds since the epoch
        """
        with suppress(OSError):
            if self._store.rows_written == self._written and 0 <= now - self._path.stat().st_mtime < ADVANCE_SECONDS:
                return
        if not self.is_behind():
            self.count_up(now)

    def count_up(self, now: float) -> None:
        """Counts up, before something is reported: what comes after it may never come to its end.

        :param now: seconds since the epoch
        """
        if not self._has_file(now):
            return
        self._store.change("update generation set number = number + 1")
        record(self._store.path, self._row()["number"], now)
        self._written = self._store.rows_written

    def is_behind(self) -> bool:
        """Whether UCloud may know more than this database, until :meth:`confirm`: nothing may be reported from it."""
        return self.why_behind() is not None

    def why_behind(self) -> str | None:
        """What has happened to the database, in one clause; None while it is the one that was reported from."""
        row, number = self._row(), recorded(self._store.path)
        if row["restored_at"] is not None:
            return "the database was restored or moved"
        if (number is None and row["number"] > 0) or (number or 0) > row["number"]:
            return "the database is older than the last reports to UCloud" if row["number"] else "the database was lost"
        if row["inode"] != self._inode():
            return "the database was copied to where it is"
        return None

    def confirm(self, now: float) -> None:
        """The database, Slurm and UCloud have been reconciled: it is not behind any more.

        Where there is no file and none can be made, the count begins anew as soon as one can.

        :param now: seconds since the epoch
        """
        counts = self._has_file(now)
        self._store.change(
            "update generation set number = case when ? then max(number, ?) + 1 else 0 end, restored_at = null, inode = ?",
            [counts, recorded(self._store.path) or 0, self._inode()],
        )
        if counts:
            record(self._store.path, self._row()["number"], now)

    def claim(self) -> None:
        """A database without a host becomes that of this one.

        It is another host's if neither the machine's id nor the name is this one's: an id can be new at every boot, where
        the system comes from the network, and a host may be renamed.

        :raises Misconfigured: it is another host's
        """
        self.refuse_foreign()
        row, host, name = self._row(), host_key(), os.uname().nodename
        known = (row["host"], row["host_name"])
        if row["inode"] is None or known != (host or row["host"], name):
            self._store.change(
                "update generation set host = coalesce(?, host), host_name = ?, inode = coalesce(inode, ?)",
                [host, name, self._inode()],
            )

    def refuse_foreign(self) -> None:
        """Refuses a database that is another host's. See :meth:`claim`.

        :raises Misconfigured: it is
        """
        row, host = self._row(), host_key()
        known = (host, row["host"], row["host_name"])
        if None not in known and host != row["host"] and os.uname().nodename != row["host_name"]:
            raise Misconfigured(
                [
                    f"database.path: {self._store.path} belongs to the host {row['host_name']}; if that one does not use it "
                    "any more, run on this one: ucloud-slurm database adopt"
                ]
            )

    def _row(self) -> Any:
        return self._store.rows("select number, restored_at, host, host_name, inode from generation")[0]

    def _has_file(self, now: float) -> bool:
        """Whether there is a file with a number; it is made if there is none.

        The database does not count up without it: it would be taken for one that has lost its file.
        """
        return recorded(self._store.path) is not None or record(self._store.path, 0, now)

    def _inode(self) -> int:
        return self._store.path.stat().st_ino & LARGEST  # some file systems use all 64 bits


def recorded(database: Path) -> int | None:
    """The number in the file beside a database; None where there is no such file, or no number in it."""
    try:
        return int(Path(f"{database}.generation").read_bytes()[:20])
    except (OSError, ValueError):
        return None


def record(database: Path, number: int, now: float) -> bool:
    """Writes the file. Where that fails it stays lower than the database, which is harmless.

    :param now: seconds since the epoch
    :returns: whether it is written
    """
    path = Path(f"{database}.generation")
    new = Path(f"{path}.new")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(new, flags, 0o600), "wb") as file:
            file.write(b"%d\n" % number)
            file.flush()
            os.fsync(file.fileno())
        os.utime(new, (now, now))
        new.replace(path)
    except OSError as error:
        log.warning("%s cannot be written (%s)", path, error.strerror)
        return False
    return True


def host_key() -> str | None:
    """A name of this host that says nothing else about it (machine-id(5)); None where it has none."""
    try:
        machine = MACHINE_ID.read_bytes().strip()
    except OSError:
        return None
    if machine in (b"", b"uninitialized"):
        return None
    return hashlib.sha256(b"ucloud-slurm " + machine).hexdigest()[:32]
