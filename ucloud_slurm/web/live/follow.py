"""jobs.provider.follow: the log of a job as it grows (contract: follow)."""

import asyncio
import logging
import socket
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ucloud_slurm.bridge.naming import JobPaths
from ucloud_slurm.errors import Forbidden, NotNow
from ucloud_slurm.store.database_file import SHARED, filesystem
from ucloud_slurm.store.job_rows import JobRow
from ucloud_slurm.store.people import UserLink
from ucloud_slurm.store.sessions import Access
from ucloud_slurm.system.bulkhead import StuckError
from ucloud_slurm.system.files import NotARegularFileError
from ucloud_slurm.web.access import file_account
from ucloud_slurm.web.live.hub import Hub, NoAnswerError
from ucloud_slurm.web.live.inotify import FILE_GROWS, NEW_ENTRIES, InotifyWatch, RemoteWatch
from ucloud_slurm.web.live.tail import Tail
from ucloud_slurm.web.live.websocket import WebSocketConnection

log = logging.getLogger(__name__)

STREAMS = ("stdout", "stderr")
BATCH_SECONDS = 0.02  # new text of so long goes into one message; files that change more often are read no more often
POLL_LEAST_SECONDS, POLL_MOST_SECONDS = 0.25, 2.0  # between two reads where inotify does not work
POLL_WATCHED_SECONDS = 5.0  # between two reads where it should
STALL_LEAST_SECONDS, STALL_MOST_SECONDS = 2.0, 60.0  # between two tries where the file system does not answer
STALLS_AFTER_END = 5  # tries to read the rest of a log whose job has ended


@dataclass(slots=True, eq=False)
class _LogFile:
    """One file of a job's log.

    :ivar reading: a read that has not returned; what it gives must not be lost
    :ivar reported: whether the peer has been sent why it cannot be read
    """

    rank: int
    stream: str
    path: str
    tail: Tail
    watch: InotifyWatch | None = None
    reading: "asyncio.Future[str | None] | None" = None
    reported: bool = False


class LogFollower:
    """One stream, which sends the log of one job."""

    token: str | None = None

    def __init__(self, hub: Hub, connection: WebSocketConnection, stream_id: str, row: JobRow, access: Access) -> None:
        """Asks the name service for the user's home."""
        provider = hub.provider
        self.session = str(uuid.uuid4())
        self.job_id = row.id
        self.username = None
        self.connection = connection
        self._hub = hub
        self.stream_id = stream_id
        self._since = provider.now()
        self._access: Access | None = access
        self._wake = asyncio.Event()
        self._again = True  # check for new and replaced files
        self._cancelled = False
        paths = JobPaths("/") if row.external else provider.job_paths(row)
        self._folder = paths.folder
        self._files = provider.impersonation(row.local_user)
        self._account = file_account(provider, row)
        self._stalls = 0  # tries in a row that the file system did not answer
        self._stall_reported = False
        self._may_be_open = False  # while the file system does not answer, nothing is queued for those who come and go
        self._is_own = row.local_user == provider.account
        self._remote: RemoteWatch | None = None
        most = provider.config.sessions.tail * 1024
        self._logs = []
        if not row.external:  # the user of an external job decides where its log is
            for rank in range(row.job.replicas):
                for stream in STREAMS:
                    path = paths.log(stream, rank)
                    self._logs.append(_LogFile(rank, stream, path, Tail(partial(self._files.open, path), most)))
        self._watch: InotifyWatch | None = None
        self._has_inotify = False
        self._pause = POLL_LEAST_SECONDS

    def on_access_change(self, access: Access | None, _link: UserLink | None = None) -> None:
        before, self._access = self._access, access
        if access is None or access != before:
            self._wake.set()

    def cancel(self) -> None:
        """Ends the stream at the wish of the peer."""
        self._cancelled = True
        self._wake.set()

    async def run(self) -> None:
        """Sends the log until the job has ended and all of it is sent, or the peer cancels or loses access.

        :raises Forbidden: the user has lost access
        """
        hub = self._hub
        hub.watchers.add(self)
        try:
            with suppress(NoAnswerError, StuckError):
                self._has_inotify = await hub.read(self._account, partial(_reports_changes, self._folder))
            if not self.connection.log_only:
                await self.connection.message(self.stream_id, self._payload(-1))
            while not self._cancelled:
                access = self._access
                if access is not None and access.lost(self.connection.username, self._since):
                    raise Forbidden("You have no access to this job any more.")
                # All that the job has written is there now: read the files once more.
                ended = access is None or access.ended
                self._again |= ended
                news = await self._send_new_text(last=ended)
                if ended and not 0 < self._stalls <= STALLS_AFTER_END:
                    break
                await self._wait(news=news)
            # A peer that reads logs only takes it for an entry without a text. The connection stays open.
            await self.connection.response(self.stream_id, 200, self._payload(0 if self.connection.log_only else -1))
        finally:
            hub.watchers.discard(self)
            for each in self._logs:
                if each.watch is not None:
                    hub.inotify.forget(each.watch)
            if self._may_be_open:
                hub.files().submit(self._account, self._close, cleanup=True)
            if self._watch is not None:
                hub.inotify.forget(self._watch)
            self._stop_remote()

    def _close(self) -> None:
        for each in self._logs:
            each.tail.close()

    async def _send_new_text(self, *, last: bool) -> bool:
        """Sends what is new, one chunk of each file after the other, to the end of all.

        :param last: the job has ended
        :returns: whether there was anything
        """
        await self._listen()
        again, self._again = self._again, False
        waiting = list(self._logs)
        news = False
        while waiting and not self._cancelled:
            for each in list(waiting):
                try:
                    text = await self._read(each, partial(each.tail.read, look_again=again, last=last))
                except (NoAnswerError, StuckError):
                    await self._report_stall()
                    return news
                except (NotARegularFileError, NotNow, Forbidden, OSError) as error:
                    text = None
                    await self._report(each, error)
                if text is None:
                    waiting.remove(each)
                elif text:
                    news = True
                    await self.connection.message(self.stream_id, self._payload(each.rank, each.stream, text))
        self._stalls = 0
        return news

    async def _read(self, each: _LogFile, action: Callable[[], str | None]) -> str | None:
        """What a read gives, or the one before that has not returned yet."""
        if each.reading is None:
            each.reading = self._hub.future(self._hub.files().submit(self._account, action))
            self._may_be_open = True
        try:
            return await self._hub.within(each.reading)
        finally:
            if each.reading.done():
                each.reading = None

    async def _report_stall(self) -> None:
        """Sends once that the file system does not answer; the next tries come later and later."""
        self._stalls += 1
        self._again = True
        if not self._stall_reported:
            self._stall_reported = True
            self._hub.entrance().complain(f"job {self.job_id}: its log is not shown: its file system does not answer")
            text = "[The log is not shown: its file system does not answer.]\n"
            await self.connection.message(self.stream_id, self._payload(0, "stderr", text))

    async def _report(self, each: _LogFile, error: Exception) -> None:
        """Sends once why a file cannot be read."""
        if not each.reported:
            each.reported = True
            why = f"{each.stream} cannot be read ({error})" if isinstance(error, OSError) else str(error)
            log.warning("job %s: its log is not shown: %s", self.job_id, why)
            text = f"[The log is not shown: {why}.]\n"
            await self.connection.message(self.stream_id, self._payload(each.rank, "stderr", text))

    async def _listen(self) -> None:
        """Sets up inotify. What cannot be watched yet is tried again at the next read."""
        if self._remote is not None and self._remote.ended:
            self._stop_remote()  # another is made after a pause
            return
        if not self._has_inotify or self._remote is not None:
            return
        if not self._is_own:  # this process never looks up a path of another user's itself
            channel = None
            with suppress(NotNow, Forbidden):
                listen = partial(self._files.listen, self._folder)
                channel = await self._hub.read(self._account, listen, _close_channel) if self._again else None
            self._remote = None if channel is None else RemoteWatch(channel, self._on_remote_change)
            return
        if self._watch is None:
            self._watch = self._hub.inotify.watch(self._folder, NEW_ENTRIES, self._new_file)
        for each in self._logs:
            if self._again and each.watch is not None:
                self._hub.inotify.forget(each.watch)
                each.watch = None
            if each.watch is None:
                each.watch = self._hub.inotify.watch(each.path, FILE_GROWS, self._wake.set)

    def _stop_remote(self) -> None:
        if self._remote is not None:
            self._hub.files().submit(self._account, self._remote.stop(), cleanup=True)
            self._remote = None

    def _on_remote_change(self, entries: bool) -> None:
        self._again |= entries
        self._wake.set()

    def _new_file(self) -> None:
        self._again = True
        self._wake.set()

    async def _wait(self, *, news: bool) -> None:
        await asyncio.sleep(BATCH_SECONDS)
        if self._remote is not None:
            self._remote.arm()
        if self._stalls:
            self._pause = min(STALL_LEAST_SECONDS * 2 ** min(self._stalls - 1, 10), STALL_MOST_SECONDS)
        elif self._remote is not None or self._watch is not None:
            self._pause = POLL_WATCHED_SECONDS
        else:
            self._pause = POLL_LEAST_SECONDS if news else min(self._pause * 1.5, POLL_MOST_SECONDS)
        try:
            async with asyncio.timeout(self._pause):
                await self._wake.wait()
        except TimeoutError:
            self._again = self._remote is None
        self._wake.clear()

    @property
    def descriptors(self) -> int:
        """How many it may have open: of its files, and of the notifications."""
        return len(self._logs) + 1

    def _payload(self, rank: int, stream: str = "", text: str = "") -> dict[str, Any]:
        return {
            "streamId": self.session,
            "rank": rank,
            "stdout": text if stream == "stdout" else None,
            "stderr": text if stream == "stderr" else None,
        }


def _reports_changes(folder: str) -> bool:
    """Whether inotify works there: it reports no changes that other hosts make, and behind FUSE may be anything."""
    kind = filesystem(Path(folder))
    return kind not in SHARED and not kind.startswith("fuse")


def _close_channel(channel: socket.socket | None) -> None:
    if channel is not None:
        channel.close()
