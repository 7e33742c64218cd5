"""jobs.provider.follow: the log of a job as it grows (contract: follow)."""

import asyncio
import logging
import uuid
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ucloud_slurm.bridge.script.text import log as log_file
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
from ucloud_slurm.web.live.inotify import ENTRIES, GROWS, Watch
from ucloud_slurm.web.live.tail import Tail
from ucloud_slurm.web.live.websocket import Connection, ConnectionClosedError, Frame

log = logging.getLogger(__name__)

STREAMS = ("stdout", "stderr")
GATHER = 0.02  # seconds in which new text is gathered into one message
QUICK, SLOW = 0.25, 2.0  # seconds between two looks where the kernel does not tell of changes
LINGER = 5.0  # seconds that the end of a log stays open for those who would come again and see all of it once more
SURE = 5.0  # seconds between two looks where it should


@dataclass(slots=True, eq=False)
class _Log:
    """One file of a job's log."""

    rank: int
    stream: str
    path: str
    tail: Tail
    watch: Watch | None = None
    told: bool = False


class Follower:
    """One stream: somebody follows the log of one job."""

    token: str | None = None

    def __init__(self, hub: Hub, connection: Connection, stream_id: str, row: JobRow, access: Access) -> None:
        provider = hub.provider
        self.session = str(uuid.uuid4())
        self.job_id = row.id
        self.connection = connection
        self._hub = hub
        self.stream_id = stream_id
        self._since = provider.now()
        self._access: Access | None = access
        self._wake = asyncio.Event()
        self._again = True  # look for files that are new
        self._cancelled = False
        self._folder = "/" if row.external else provider.job_folder(row)
        self._files = provider.impersonation(row.local_user)
        self._inotify_fd: int | None = None
        most = provider.config.sessions.tail * 1024
        self._logs = []
        if not row.external:  # where Slurm puts the log of a job from outside its user decided
            for rank in range(row.job.replicas):
                for stream in STREAMS:
                    path = log_file(self._folder, stream, rank)
                    self._logs.append(_Log(rank, stream, path, Tail(partial(self._files.open, path), most)))
        self._watch: Watch | None = None
        # An unknown network file system is not heard of either; those of FUSE may be anything.
        kind = filesystem(Path(self._folder))
        self._heard = kind not in SHARED and not kind.startswith("fuse")
        self._pause = QUICK

    def on_access_change(self, access: Access | None) -> None:
        """See :class:`Watcher`."""
        before, self._access = self._access, access
        if access is None or access != before:
            self._wake.set()

    def cancel(self) -> None:
        """The other side wants no more."""
        self._cancelled = True
        self._wake.set()

    async def run(self) -> None:
        """Follows until the job has ended and all is sent, or until nobody may or wants to see more."""
        hub = self._hub
        hub.watchers.add(self)
        try:
            if not self.connection.log_only:
                await self.connection.message(self.stream_id, self._payload(-1))
            while not self._cancelled:
                access = self._access
                if access is not None and access.lost(self.connection.username, self._since):
                    raise Forbidden("You have no access to this job any more.")
                # What was written before the end is there by now; read it all once more.
                ended = access is None or access.ended
                self._again |= ended
                news = await self._send_news()
                if ended:
                    break
                await self._wait(news=news)
            if self.connection.log_only:
                # Whoever still looks would come again at once, and see all of it once more.
                await asyncio.sleep(LINGER)
                self.connection.finish()
            else:
                await self.connection.response(self.stream_id, 200, self._payload(-1))
        finally:
            hub.watchers.discard(self)
            for each in self._logs:
                if each.watch is not None:
                    hub.notices.forget(each.watch)
            hub.spawn(hub.read(self._close))
            if self._watch is not None:
                hub.notices.forget(self._watch)
            if self._inotify_fd is not None:
                hub.notices.close_fd(self._inotify_fd)

    def _close(self) -> None:
        for each in self._logs:
            each.tail.close()

    async def _send_news(self) -> bool:
        """Sends what is new, a piece of each file in turn, until there is no more."""
        await self._listen()
        again, self._again = self._again, False
        waiting = list(self._logs)
        news = False
        while waiting and not self._cancelled:
            for each in list(waiting):
                try:
                    text = await self._hub.read(partial(each.tail.read, look_again=again))
                except (NotARegularFileError, NotNow, Forbidden, OSError) as error:
                    text = None
                    await self._tell(each, error)
                if text is None:
                    waiting.remove(each)
                elif text:
                    news = True
                    await self.connection.message(self.stream_id, self._payload(each.rank, each.stream, text))
        return news

    async def _tell(self, each: _Log, error: Exception) -> None:
        """Says once why a file is not shown."""
        if not each.told:
            each.told = True
            why = f"{each.stream} cannot be read ({error})" if isinstance(error, OSError) else str(error)
            log.warning("job %s: its log is not shown: %s", self.job_id, why)
            text = f"[The log is not shown: {why}.]\n"
            await self.connection.message(self.stream_id, self._payload(each.rank, "stderr", text))

    async def _listen(self) -> None:
        """Has the kernel tell of changes. What cannot be listened at yet is tried again at the next look."""
        if not self._heard or self._inotify_fd is not None:
            return
        if self._watch is None and self._again:
            with suppress(NotNow, Forbidden):
                self._inotify_fd = await self._hub.read(partial(self._files.listen, self._folder))
            if self._inotify_fd is not None:
                self._hub.notices.adopt(self._inotify_fd, self._wake.set, self._new_file)
                self._again = True
                return
        if self._watch is None:
            self._watch = self._hub.notices.watch(self._folder, ENTRIES, self._new_file)
        for each in self._logs:
            if self._again and each.watch is not None:
                self._hub.notices.forget(each.watch)
                each.watch = None
            if each.watch is None:
                each.watch = self._hub.notices.watch(each.path, GROWS, self._wake.set)

    def _new_file(self) -> None:
        self._again = True
        self._wake.set()

    async def _wait(self, *, news: bool) -> None:
        if news:
            await asyncio.sleep(GATHER)
        told = self._inotify_fd is not None or self._watch is not None
        self._pause = SURE if told else QUICK if news else min(self._pause * 1.5, SLOW)
        try:
            async with asyncio.timeout(self._pause):
                await self._wake.wait()
        except TimeoutError:
            self._again = self._inotify_fd is None
        self._wake.clear()

    def _payload(self, rank: int, stream: str = "", text: str = "") -> dict[str, Any]:
        return {
            "streamId": self.session,
            "rank": rank,
            "stdout": text if stream == "stdout" else None,
            "stderr": text if stream == "stderr" else None,
        }


class Following:
    """The streams of one connection."""

    def __init__(self, hub: Hub, connection: Connection) -> None:
        self._hub = hub
        self._connection = connection
        self._streams: dict[str, Follower] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def call(self, frame: Frame) -> None:
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
            raise Refused(
                f"job.specification.product.provider: {job.specification.product.provider} is not this provider."
            )
        row, access = await hub.ask(lambda: (provider.jobs.get(job.id), provider.sessions.access([job.id])))
        if row is None or row.phase is JobPhase.REFUSED or job.id not in access:
            raise NotFound(f"This provider does not know job {job.id}.")
        if access[job.id].refused(self._connection.username):
            raise Forbidden("You have no access to this job any more.")
        followers = [watcher for watcher in hub.watchers if isinstance(watcher, Follower)]
        limits = provider.config.sessions
        if sum(follower.job_id == job.id for follower in followers) >= limits.most_per_job:
            raise TooMany("Too many people follow the log of this job at the moment.")
        if len(followers) >= limits.most:
            raise TooMany("The provider shows as many logs as it can at the moment.")
        check(provider, row, self._connection.username, job)
        follower = Follower(hub, self._connection, stream_id, row, access[job.id])
        self._streams[follower.session] = follower
        self._tasks.append(hub.spawn(self._run(follower)))

    async def _run(self, follower: Follower) -> None:
        try:
            with suppress(ConnectionClosedError):
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
        """The connection is gone, and so are its streams."""
        for task in self._tasks:
            task.cancel()
