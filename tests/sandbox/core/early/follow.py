"""A user who looks at the log of a job, at a Core that has one WebSocket for all logs of a user (contract: follow)."""

import threading
from typing import Any

from tests.sandbox.core.channel import Channel
from tests.sandbox.core.early.subscription import Subscription, wrong_end
from tests.sandbox.core.errors import CoreError
from tests.sandbox.core.follow import LOOK_AGAIN, FollowContext, Followed
from tests.sandbox.core.frames import UNREACHABLE, ResponseFrame
from tests.sandbox.core.jobs import CoreJob
from tests.sandbox.core.log import Hook
from tests.sandbox.core.provider import ASK_AGAIN
from tests.sandbox.core.websocket import SocketClosedError

Json = dict[str, Any]
ATTEMPTS = 5
"""How often a log is asked for in all while the provider says 449 or 503."""


class FollowedStreams(Followed):
    """Streams of a shared connection: Core has one while it takes the job for RUNNING."""

    def __init__(
        self, context: FollowContext, job: CoreJob, user: str, *, while_running: bool, on_message: Hook | None = None
    ) -> None:
        """Begin."""
        self._current: tuple[Channel, Subscription] | None = None
        self._last = False  # whether no subscription may come after the current one
        super().__init__(context, job, user, while_running=while_running, on_message=on_message)

    @property
    def session(self) -> str | None:
        """The id that the provider announced in the first message of the newest stream; None while it has not."""
        with self._changed:
            return None if self._current is None else self._current[1].session

    def cancel(self, session: str | None = None, timeout: float = 10.0) -> ResponseFrame:
        """See :meth:`Followed.cancel`."""
        with self._changed:
            current = self._current
        mine = None if current is None else current[1].session
        session = session or mine
        if current is None or session is None:
            return super().cancel()
        with self._changed:
            self._last = True
        payload = {"type": "cancel", "streamId": session}
        exchange = self._context.exchanges.begin("core->provider", self._context.call, payload, self._user)
        frame = current[0].call(self._context.call, payload, timeout, **self._context.frame())
        self._context.said(exchange, frame)
        for sentence in wrong_end(frame, session):
            self._context.complain(f"{self._context.call}: {sentence}")
        return frame

    def _follow_running(self) -> None:
        while not (self._closing.is_set() or self._last):
            job = self._context.job(self._job_id)
            if job.final:
                return
            if job.state == "RUNNING":
                self._subscribe()
            self._closing.wait(LOOK_AGAIN)

    def _subscribe(self) -> None:
        for attempt in range(ATTEMPTS):
            if attempt:
                self._context.introduce(self._user)
            status = self._one_stream()
            if status not in ASK_AGAIN or self._closing.is_set():
                return
        raise CoreError(502, f"The provider does not know {self._user}, also after {ATTEMPTS - 1} calls of init")

    def _one_stream(self) -> int:
        context, ended = self._context, threading.Event()

        def respond(frame: ResponseFrame) -> None:
            context.said(exchange, frame)
            with self._changed:
                if not self._closing.is_set():
                    self._response = frame
            ended.set()
            self._log.touch()

        subscription = Subscription(
            self._replicas,
            lambda sentence: context.complain(f"{context.call}: {sentence}"),
            on_message=self._take,
            on_response=respond,
            on_ping=self._count_ping,
        )
        payload = {"type": "init", "job": context.render(context.job(self._job_id))}
        exchange = context.exchanges.begin("core->provider", context.call, payload, self._user)
        try:
            channel = context.channel(self._user)
            self._begin(channel, subscription, payload)
        except (CoreError, SocketClosedError) as error:
            respond(ResponseFrame("", UNREACHABLE, {"why": str(error)}))
        with self._changed:
            self._changed.wait_for(lambda: ended.is_set() or self._closing.is_set())
            return 0 if self._response is None else self._response.status

    def _begin(self, channel: Channel, subscription: Subscription, payload: Json) -> None:
        with self._changed:
            self._current = (channel, subscription)
            self._inits += 1
        try:
            channel.open(self._context.call, payload, subscription, **self._context.frame())
        except SocketClosedError:
            with self._changed:
                self._inits -= 1
            raise
