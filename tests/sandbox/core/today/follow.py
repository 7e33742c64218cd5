"""A user who looks at the log of a job, at a Core that has a WebSocket for each look (contract: follow of today)."""

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from tests.sandbox.core.checks import MAYBE_TEXT, WHOLE, Check
from tests.sandbox.core.errors import CoreError
from tests.sandbox.core.follow import LOOK_AGAIN, Followed
from tests.sandbox.core.frames import UNREACHABLE, ResponseFrame
from tests.sandbox.core.websocket import Socket, SocketClosedError

Json = dict[str, Any]
COME_BACK = 0.5
"""Seconds after which a browser asks again, whatever the state of the job: with the connection its whole page ended."""
ENTRY: Mapping[str, tuple[Any, Check]] = {
    "rank": (0, WHOLE),
    "stdout": (None, MAYBE_TEXT),
    "stderr": (None, MAYBE_TEXT),
    "channel": (None, MAYBE_TEXT),
}
"""Fields of a piece of log: what they are when they are missing, and what they must be."""


class FollowedSockets(Followed):
    """One WebSocket after the other, in any state of the job. There is no session. Core passes a response on as any other
    frame; here it says that nothing more will come, while the connection stays.

    ``pings`` counts the entries without a text, which Core needs to notice that a browser has gone.
    """

    @property
    def ended(self) -> bool:
        """See :meth:`Followed.wait_end`. As long as somebody looks, a connection that ends is followed by another."""
        goes_on = self._while_running and not self._context.job(self._job_id).final
        with self._changed:
            return self._over or (self._response is not None and not goes_on)

    def _follow_running(self) -> None:
        while not self._closing.is_set():
            self._subscribe()
            self._closing.wait(COME_BACK)

    def _subscribe(self) -> None:
        context = self._context
        payload = {"type": "init", "job": context.render(context.job(self._job_id))}
        exchange = context.exchanges.begin("core->provider", context.call, payload, self._user)
        try:
            socket = context.dial(self._user)
        except CoreError as error:
            with self._changed:
                self._response = ResponseFrame("", error.status, {"why": error.why})
            context.exchanges.end(exchange, error.status, {"why": error.why}, delivered=error.status != UNREACHABLE)
            return
        frame = {"call": context.call, "streamId": "ignored", "payload": payload, "bearer": "", "project": None}
        with self._changed:
            self._inits += 1
        try:
            with suppress(SocketClosedError):  # what came before the end is there all the same
                socket.send(json.dumps(frame))
            self._read(socket)
        except SocketClosedError:
            socket.close()
        context.exchanges.end(exchange, 200, None, delivered=True)

    def _read(self, socket: Socket) -> None:
        """Take what comes to the end of the connection, or until nobody looks any more.

        :raises SocketClosedError: at the end
        """
        while not self._closing.is_set():
            data = socket.frame(LOOK_AGAIN)
            if data is not None:
                self._hear(data)
        # Core notices with the next thing that it would have to pass on.
        threading.Thread(target=leave, args=(socket,), name="simulated-core-leaving").start()

    def _hear(self, data: str | bytes) -> None:
        try:
            frame = json.loads(data) if isinstance(data, str) else None
        except (ValueError, RecursionError):
            frame = None
        if not isinstance(frame, dict) or not isinstance(frame.get("payload"), dict | None):
            self._context.complain(f"{self._context.call}: a frame is not a JSON object with a payload")
            return
        payload = frame.get("payload") or {}
        entry = {name: payload.get(name, missing) for name, (missing, _) in ENTRY.items()}
        for sentence in wrong_entry(entry, self._replicas):
            self._context.complain(f"{self._context.call}: {sentence}")
        if not (entry["stdout"] or entry["stderr"]):
            self._count_ping()
        self._take(time.monotonic(), entry)
        if frame.get("type") == "response":
            with self._changed:
                self._response = ResponseFrame(str(frame.get("streamId")), int(frame.get("status", 0)), entry)
            self._log.touch()


def wrong_entry(entry: Json, replicas: int) -> Iterator[str]:
    """What is wrong with a piece of log."""
    wrong = [f"{name} is not {what}" for name, (_, (what, suits)) in ENTRY.items() if not suits(entry[name])]
    if wrong:
        yield from wrong
    elif not 0 <= entry["rank"] < replicas:
        yield f"an entry is of rank {entry['rank']}, but the job has {replicas} replicas"


def leave(socket: Socket) -> None:
    """Close a connection when the next frame comes."""
    with suppress(SocketClosedError):
        socket.frame()
    socket.close()
