"""Locks on files beside the database (flock(2)), for what only one process may do at a time.

The kernel releases a lock when its process ends, however it ends.
"""

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

WORKER = "worker"  # a pass
LISTENER = "listener"
MIGRATION = "migration"
CONNECTIONS = "connections"  # one connection is reported at a time
IN_USE = "in-use"  # shared by all that have the database open
BACKUP = "backup"
COPY = "copy"  # for the host that stands by; it waits for no backup, and no backup for it
HOOKS = "hooks"  # events are delivered
ALONE_SECONDS = 10.0  # that a process has the database alone, to put another one in its place
MIGRATION_SECONDS = 1800.0  # that a process has to make or migrate the database
POLL_SECONDS = 0.2
_ALL = (WORKER, LISTENER, MIGRATION, CONNECTIONS, IN_USE, BACKUP, COPY, HOOKS)


class SharedLock:
    """A lock that several processes have at a time, until it is released or the object is deleted.

    :param wait: seconds to wait for the process that has it alone
    :raises BlockingIOError: that one has not released it
    """

    def __init__(self, database: Path, what: str, wait: float) -> None:
        until = time.monotonic() + wait
        self._descriptor = os.open(_path(database, what), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        while not _lock(self._descriptor, fcntl.LOCK_SH):
            if time.monotonic() >= until:
                self.release()
                raise BlockingIOError(errno.EAGAIN, "another process has locked it", _path(database, what))
            time.sleep(POLL_SECONDS)

    def release(self) -> None:
        """Lets others have it alone."""
        if (descriptor := self.__dict__.pop("_descriptor", None)) is not None:
            os.close(descriptor)

    __del__ = release


@contextmanager
def exclusive_lock(database: Path, what: str, wait: float = 0.0) -> Iterator[bool]:
    """Takes the lock; yields False when another process has it.

    :param wait: seconds to wait for the other process to release it
    """
    until = time.monotonic() + wait
    descriptor = os.open(_path(database, what), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        while not (mine := _lock(descriptor, fcntl.LOCK_EX)) and time.monotonic() < until:
            time.sleep(POLL_SECONDS)
        yield mine
    finally:
        os.close(descriptor)


def try_locks(database: Path) -> None:
    """Opens each lock file that there is: one of another account would stop, much later, what needs it.

    :raises OSError: one cannot be opened; the error has its name
    """
    for what in _ALL:
        with suppress(FileNotFoundError):
            os.close(os.open(_path(database, what), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW))


def is_locked(database: Path, what: str) -> bool:
    """Whether any process has the lock."""
    try:
        descriptor = os.open(_path(database, what), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        return not _lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def wait_until_free(database: Path, what: str, wait: float) -> bool:
    """Waits until no process has the lock; returns False when one still has it.

    :param wait: seconds
    """
    until = time.monotonic() + wait
    while (locked := is_locked(database, what)) and time.monotonic() < until:
        time.sleep(POLL_SECONDS)
    return not locked


def record_release(database: Path, what: str, now: float) -> None:
    """Records, as the modification time of the lock file, that the work under the lock has ended.

    :param now: seconds since the epoch
    """
    os.utime(_path(database, what), (now, now), follow_symlinks=False)


def last_released(database: Path, what: str) -> float | None:
    """When the work under the lock ended last, in seconds since the epoch; None before the lock was ever taken."""
    try:
        return os.stat(_path(database, what), follow_symlinks=False).st_mtime
    except OSError:
        return None


def _path(database: Path, what: str) -> str:
    return f"{database}.{what}"


def _lock(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
