"""Ports that applications announce: each in a file of the job's user, which is never waited for longer than a moment."""

import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from ucloud_slurm.errors import NotNow
from ucloud_slurm.provider.context import Lazy, Provider
from ucloud_slurm.store.job_rows import JobRow
from ucloud_slurm.store.sessions import Session
from ucloud_slurm.system.bulkhead import Bulkhead, StuckError
from ucloud_slurm.system.files import read_small
from ucloud_slurm.web.access import file_account

WAIT_SECONDS = 2.0  # that the thread of a request waits for the file: the program that acts as its user may have to start
FRESH_SECONDS = 2.0  # an announced port is used for so long before its file is read again
AGAIN_SECONDS = 0.2  # while none is announced
STALE_SECONDS = 60.0  # it is used for so long while the file does not open
ENTRIES = 1000  # of the cache of a process
FILE_BYTES = 4096
# A path that begins with two slashes would be the address of another host.
ANNOUNCEMENT = re.compile(rb"([0-9]{4,5})(?:[ \t]+(/(?![/\\])[\x21-\x7e]{0,2000}))?\s*")
LEAST_PORT = 1024  # lower ports are services of the node


class Announcement(NamedTuple):
    """Where an application listens, and the first path of a browser."""

    port: int
    path: str

    @classmethod
    def read(cls, text: bytes) -> "Announcement | None":
        """The announcement in a file; None if there is none."""
        match = ANNOUNCEMENT.fullmatch(text)
        port = int(match[1]) if match else 0
        path = (match[2] or b"/").decode() if match else "/"
        return cls(port, path) if LEAST_PORT <= port <= 65535 else None


class _Known(NamedTuple):
    """What a file said.

    :ivar read_at: when
    :ivar tried_at: when it was opened last, or could not be
    """

    announcement: Announcement | None
    read_at: float
    tried_at: float


class _PortFile(NamedTuple):
    job_id: str
    rank: int
    run: int | None


class _Read(NamedTuple):
    call: Future[None]
    began_at: float


class Announcements:
    """The announced ports of jobs. Of each file there is one read at a time; meanwhile what it said last is used.

    :param files: the threads that call the file systems of users
    """

    def __init__(self, provider: Provider, files: Lazy[Bulkhead], clock: Callable[[], float] = time.monotonic) -> None:
        self._provider = provider
        self._files = files
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[_PortFile, _Known] = {}
        self._reads: dict[_PortFile, _Read] = {}  # that are under way

    def of(self, session: Session, row: JobRow) -> Announcement | None:
        """What the file of a session's job and rank says, or said a moment ago."""
        key = _PortFile(row.id, session.rank, session.run)
        read, began = self._begin(key, row)
        known = self._lasting(key)
        if read is not None and (began or known is None):
            with suppress(TimeoutError):  # the read goes on; what it finds is for those who ask later
                read.call.result(max(read.began_at + WAIT_SECONDS - self._clock(), 0.0))
            known = self._lasting(key)
        return known

    def _begin(self, key: _PortFile, row: JobRow) -> tuple[_Read | None, bool]:
        """The read that is under way, if one is needed, and whether it has begun here."""
        with self._lock:
            if (read := self._reads.get(key)) is not None:
                return read, False
            known, now = self._known.get(key), self._clock()
            if known is not None and now - known.tried_at <= (FRESH_SECONDS if known.announcement else AGAIN_SECONDS):
                return None, False
            try:
                call = self._files().submit(file_account(self._provider, row), partial(self._read, key, row))
            except StuckError:
                return None, False
            read = self._reads[key] = _Read(call, now)
        call.add_done_callback(lambda _: self._reads.pop(key, None))
        return read, True

    def _lasting(self, key: _PortFile) -> Announcement | None:
        with self._lock:
            known, read = self._known.get(key), self._reads.get(key)
            if known is None:
                return None
            since = known.read_at if read is None else max(known.read_at, read.began_at)
            return known.announcement if self._clock() - since <= STALE_SECONDS else None

    def _read(self, key: _PortFile, row: JobRow) -> None:
        path = self._provider.job_paths(row).port_file(key.rank)
        try:
            text = read_small(partial(self._provider.impersonation(row.local_user).open, path), FILE_BYTES)
        except NotNow:
            answers, said = False, None
        else:
            answers, said = True, Announcement.read(text or b"")
        with self._lock:
            now, before = self._clock(), self._known.get(key)
            if len(self._known) >= ENTRIES:
                self._known.clear()
            self._known[key] = _Known(said, now, now) if answers or before is None else before._replace(tried_at=now)
