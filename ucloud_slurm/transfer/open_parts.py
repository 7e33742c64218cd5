"""Descriptors of uploads between two of their chunks: opening a part again starts a program as its user."""

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from ucloud_slurm.system.bulkhead import Bulkhead, StuckError

KEEP_SECONDS = 75.0
MOST_KEPT = 256  # the oldest of more are closed
WAIT_SECONDS = 30.0  # for another chunk of the same upload


@dataclass(slots=True)
class _Kept:
    descriptor: int
    user: str
    since: float


class OpenParts:
    """The parts of this process. Only one thread at a time writes to an upload. Safe for several threads.

    :param beside: threads that close: that may wait for the file system of a user
    """

    def __init__(self, beside: Bulkhead, clock: Callable[[], float] = time.monotonic) -> None:
        self._beside = beside
        self._clock = clock
        self._changed = threading.Condition()
        self._kept: dict[str, _Kept] = {}
        self._busy: set[str] = set()

    def enter(self, token: str) -> bool:
        """Waits until no other thread writes to that upload. False where one does for too long."""
        with self._changed:
            if not self._changed.wait_for(lambda: token not in self._busy, WAIT_SECONDS):
                return False
            self._busy.add(token)
            return True

    def leave(self, token: str) -> None:
        """The thread has written."""
        with self._changed:
            self._busy.discard(token)
            self._changed.notify_all()

    def take(self, token: str) -> int | None:
        """The descriptor that was kept; the caller has it now."""
        with self._changed:
            kept = self._kept.pop(token, None)
            return None if kept is None else kept.descriptor

    def keep(self, token: str, descriptor: int, user: str) -> None:
        """Keeps a descriptor for the next chunk."""
        with self._changed:
            oldest = self._kept.pop(next(iter(self._kept))) if len(self._kept) >= MOST_KEPT else None
            self._kept[token] = _Kept(descriptor, user, self._clock())
        if oldest is not None:
            self.close(oldest.descriptor, oldest.user)

    def close(self, descriptor: int, user: str) -> None:
        """Closes a descriptor without waiting for it."""
        with suppress(StuckError):  # the descriptor is lost until the process ends
            self._beside.submit(user, partial(os.close, descriptor), cleanup=True)

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._kept)

    def close_silent(self, seconds: float = KEEP_SECONDS) -> None:
        """Closes what nobody has used for so long."""
        before = self._clock() - seconds
        with self._changed:
            silent = [token for token, kept in self._kept.items() if kept.since <= before]
            closing = [self._kept.pop(token) for token in silent]
        for kept in closing:
            self.close(kept.descriptor, kept.user)
