"""Which process of ours is at something that only one may do: locks on files beside the database.

The kernel lets go of a lock when its process ends, however it ends.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WORKER = "worker"  # a pass
LISTENER = "listener"
MIGRATION = "migration"
LOOK_AGAIN = 0.2  # seconds


@contextmanager
def exclusive_lock(database: Path, what: str, wait: float = 0.0) -> Iterator[bool]:
    """Takes the turn; False when another process has it.

    :param wait: seconds that the other one has to let go of it
    """
    until = time.monotonic() + wait
    descriptor = os.open(_path(database, what), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        while not (mine := _lock(descriptor, fcntl.LOCK_EX)) and time.monotonic() < until:
            time.sleep(LOOK_AGAIN)
        yield mine
    finally:
        os.close(descriptor)


def is_locked(database: Path, what: str) -> bool:
    """Whether some process has the turn."""
    try:
        descriptor = os.open(_path(database, what), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        return not _lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


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
