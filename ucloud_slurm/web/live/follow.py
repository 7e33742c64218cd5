"""jobs.provider.follow: the log of a job as it grows (contract: follow)."""

import asyncio
import logging
import uuid
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ucloud_slurm.bridge.naming import JobPaths
from ucloud_slurm.errors import Forbidden, NotFound, NotNow, Refused, TooMany
from ucloud_slurm.store.job_rows import JobRow
from ucloud_slurm.store.job_state import JobPhase
from ucloud_slurm.store.sessions import Access
from ucloud_slurm.store.sqlite import SHARED, filesystem
from ucloud_slurm.system.files import NotARegularFileError
from ucloud_slurm.ucloud.streams import Cancel, FollowRequest, Init
from ucloud_slurm.ucloud.wire import from_data
from ucloud_slurm.web.access import check
from ucloud_slurm.web.live.hub import Hub
from ucloud_slurm.web.live.inotify import FILE_GROWS, NEW_ENTRIES, InotifyWatch, RemoteWatch
from ucloud_slurm.web.live.tail import Tail
from ucloud_slurm.web.live.websocket import CallFrame, WebSocketClosedError, WebSocketConnection

log = logging.getLogger(__name__)

STREAMS = ("stdout", "stderr")
BATCH_SECONDS = 0.02  # new text of so long goes into one message; files that change more often are read no more often
POLL_LEAST_SECONDS, POLL_MOST_SECONDS = 0.25, 2.0  # between two reads where inotify does not work
POLL_WATCHED_SECONDS = 5.0  # between two reads where it should
LINGER_SECONDS = 5.0  # that a log which has ended stays open where its reader would reconnect at once


@dataclass(slots=True, eq=False)
class _LogFile:
    """One file of a job's log.

    :ivar reported: whether the peer has been sent why it cannot be read
    """

    rank: int
    stream: str
    path: str
    tail: Tail
    watch: InotifyWatch | None = None
    reported: bool = False


class LogFollower:
    """One stream, which sends the log of one job."""

    token: str | None = None

    def __init__(self, hub: Hub, connection: WebSocketConnection, stream_id: str, row: JobRow, access: Access) -> None:
        provider = hub.provider
        self.session = str(uuid.uuid4())
        self.job_id = row.id
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
        # inotify reports no changes that other hosts make; behind FUSE may be any file system.
        kind = filesystem(Path(self._folder))
        self._has_inotify = kind not in SHARED and not kind.startswith("fuse")
        self._pause = POLL_LEAST_SECONDS

    def on_access_change(self, access: Access | None) -> None:
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
                if ended:
                    break
                await self._wait(news=news)
            if self.connection.log_only:
                await asyncio.sleep(LINGER_SECONDS)
                self.connection.finish()
            else:
                await self.connection.response(self.stream_id, 200, self._payload(-1))
        finally:
            hub.watchers.discard(self)
            for each in self._logs:
                if each.watch is not None:
                    hub.inotify.forget(each.watch)
            hub.spawn(hub.read(self._close))
            if self._watch is not None:
                hub.inotify.forget(self._watch)
            if self._remote is not None:
                self._remote.close()

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
                    text = await self._hub.read(partial(each.tail.read, look_again=again, last=last))
                except (NotARegularFileError, NotNow, Forbidden, OSError) as error:
                    text = None
                    await self._report(each, error)
                if text is None:
                    waiting.remove(each)
                elif text:
                    news = True
                    await self.connection.message(self.stream_id, self._payload(each.rank, each.stream, text))
        return news

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
            self._remote.close()
            self._remote = None  # another is made after a pause
            return
        if not self._has_inotify or self._remote is not None:
            return
        if not self._is_own:  # this process never looks up a path of another user's itself
            channel = None
            with suppress(NotNow, Forbidden):
                channel = await self._hub.read(partial(self._files.listen, self._folder)) if self._again else None
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
        if self._remote is not None or self._watch is not None:
            self._pause = POLL_WATCHED_SECONDS
        else:
            self._pause = POLL_LEAST_SECONDS if news else min(self._pause * 1.5, POLL_MOST_SECONDS)
        try:
            async with asyncio.timeout(self._pause):
                await self._wake.wait()
        except TimeoutError:
            self._again = self._remote is None
        self._wake.clear()

    def _payload(self, rank: int, stream: str = "", text: str = "") -> dict[str, Any]:
        return {
            "streamId": self.session,
            "rank": rank,
            "stdout": text if stream == "stdout" else None,
            "stderr": text if stream == "stderr" else None,
        }


class LogStreams:
    """The log streams of one connection."""

    def __init__(self, hub: Hub, connection: WebSocketConnection) -> None:
        self._hub = hub
        self._connection = connection
        self._streams: dict[str, LogFollower] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def call(self, frame: CallFrame) -> None:
        """Answers a call of follow.

        :raises Problem: it is refused
        """
        provider = self._hub.provider
        if not self._connection.log_only:
            provider.tokens.verify(f"Bearer {frame.bearer or ''}", provider.now())
            self._connection.authenticated = True
        request = from_data(FollowRequest, {"request": frame.payload}).request
        if isinstance(request, Cancel):
            await self._cancel(frame.stream_id, request)
        else:
            await self._init(frame.stream_id, request)

    async def _init(self, stream_id: str, request: Init) -> None:
        hub, provider = self._hub, self._hub.provider
        job = request.job
        if job.specification.product.provider != provider.config.provider.id:
            raise Refused(f"job.specification.product.provider: {job.specification.product.provider} is not this provider.")
        row, access = await hub.ask(lambda: (provider.jobs.get(job.id), provider.sessions.access([job.id])))
        if row is None or row.phase is JobPhase.REFUSED or job.id not in access:
            raise NotFound(f"This provider does not know job {job.id}.")
        if access[job.id].refused(self._connection.username):
            raise Forbidden("You have no access to this job any more.")
        followers = [watcher for watcher in hub.watchers if isinstance(watcher, LogFollower)]
        limits = provider.config.sessions
        if sum(follower.job_id == job.id for follower in followers) >= limits.most_per_job:
            raise TooMany("Too many people follow the log of this job at the moment.")
        if len(followers) >= limits.most:
            raise TooMany("The provider shows as many logs as it can at the moment.")
        check(provider, row, self._connection.username, job)
        follower = LogFollower(hub, self._connection, stream_id, row, access[job.id])
        self._streams[follower.session] = follower
        self._tasks.append(hub.spawn(self._run(follower)))

    async def _run(self, follower: LogFollower) -> None:
        try:
            with suppress(WebSocketClosedError):
                async with self._connection.answering(follower.stream_id):
                    await follower.run()
        finally:
            self._streams.pop(follower.session, None)

    async def _cancel(self, stream_id: str, request: Cancel) -> None:
        follower = self._streams.get(request.stream_id)
        if follower is None:
            raise Refused("streamId: there is no such stream on this connection.")
        follower.cancel()
        await self._connection.response(
            stream_id, 200, {"streamId": request.stream_id, "rank": -1, "stdout": None, "stderr": None}
        )

    def close(self) -> None:
        """Ends the streams, because the connection is closed."""
        for task in self._tasks:
            task.cancel()
