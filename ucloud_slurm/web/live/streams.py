"""The calls of jobs.provider.follow on one connection: begin a log, and cancel it."""

import asyncio
from contextlib import ExitStack, suppress
from functools import partial

from ucloud_slurm.errors import Forbidden, NotFound, Refused
from ucloud_slurm.store.job_state import JobPhase
from ucloud_slurm.ucloud.streams import Cancel, FollowRequest, Init
from ucloud_slurm.ucloud.wire import from_data
from ucloud_slurm.web.access import check
from ucloud_slurm.web.live.follow import LogFollower
from ucloud_slurm.web.live.hub import Hub
from ucloud_slurm.web.live.websocket import CallFrame, WebSocketClosedError, WebSocketConnection


class LogStreams:
    """The log streams of one connection."""

    def __init__(self, hub: Hub, connection: WebSocketConnection) -> None:
        self._hub = hub
        self._connection = connection
        self._streams: dict[str, LogFollower] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def call(self, frame: CallFrame) -> None:
        """Answers a call of follow.

        :raises Problem: it is refused
        """
        provider = self._hub.provider
        if not self._connection.log_only:
            provider.tokens.verify(f"Bearer {frame.bearer or ''}", provider.now())
            self._connection.visit.identify(self._connection.username)
        try:
            request = from_data(FollowRequest, {"request": frame.payload}).request
            if isinstance(request, Cancel):
                await self._cancel(frame.stream_id, request)
            else:
                await self._init(frame.stream_id, request)
        finally:
            self._update_lingering()

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
        check(provider, row, self._connection.username, job)
        follower = await hub.ask_site(partial(LogFollower, hub, self._connection, stream_id, row, access[job.id]))
        with ExitStack() as taken:
            taken.enter_context(hub.entrance().log(job.id, self._connection.username, follower.descriptors))
            self._streams[follower.session] = follower
            task = hub.spawn(self._run(follower))
            self._tasks.add(task)
            held = taken.pop_all()
            task.add_done_callback(lambda _: held.close())
            task.add_done_callback(self._tasks.discard)

    async def _run(self, follower: LogFollower) -> None:
        try:
            with suppress(WebSocketClosedError):
                async with self._connection.answering(follower.stream_id):
                    await follower.run()
        finally:
            self._streams.pop(follower.session, None)
            self._update_lingering()

    def _update_lingering(self) -> None:
        if self._connection.log_only:
            self._connection.visit.linger(not self._streams)

    @property
    def has_streams(self) -> bool:
        """Whether there is a stream."""
        return bool(self._streams)

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
