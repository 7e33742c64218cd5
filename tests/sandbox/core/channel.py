"""Many calls over one WebSocket (contract: WebSockets, framing)."""

import json
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol

from tests.sandbox.core.errors import ProtocolError
from tests.sandbox.core.frames import CLOSED_EARLY, UNREACHABLE, MessageFrame, ResponseFrame, read_frame
from tests.sandbox.core.websocket import Socket, SocketClosedError

Json = dict[str, Any]


class Listener(Protocol):
    """Who opened a stream. Called in the thread of the channel, one call at a time."""

    def message(self, at: float, payload: Json) -> None:
        """A message came.

        :param at: seconds by the monotonic clock
        """

    def response(self, frame: ResponseFrame) -> None:
        """The response came, or 499 in its stead when the connection ended. Nothing follows."""

    def ping(self) -> None:
        """The server keeps the connection, while the stream is open."""


class Channel:
    """A connection that carries calls. Safe for several threads."""

    def __init__(
        self, socket: Socket, stream_ids: Iterator[int], complain: Callable[[str], None], crashed: Callable[[str], None]
    ) -> None:
        """Begin to listen.

        :param stream_ids: where the ids of streams come from
        :param complain: takes a sentence about a frame that the contract does not allow
        :param crashed: takes the trace of a listener that failed
        """
        self._socket = socket
        self._stream_ids = stream_ids
        self._complain = complain
        self._crashed = crashed
        self._lock = threading.Lock()
        self._open: dict[str, Listener] = {}
        self._ended: set[str] = set()
        self._over = False
        self._thread = threading.Thread(target=self._listen, name="simulated-core-channel")
        self._thread.start()

    @property
    def closed(self) -> bool:
        """Whether the connection is over."""
        return self._over or self._socket.closed

    @property
    def idle(self) -> bool:
        """Whether its threads have ended."""
        return not self._thread.is_alive()

    def open(self, call: str, payload: Json, listener: Listener, **more: Any) -> str:
        """Send a request on a new stream.

        :param call: full name
        :param more: further fields of the frame, such as ``bearer``
        :return: the stream's id
        :raises SocketClosedError: when the connection is over; the listener hears nothing then
        """
        with self._lock:
            stream_id = str(next(self._stream_ids))
            if self._over:
                raise SocketClosedError(CLOSED_EARLY, None)
            self._open[stream_id] = listener
        frame = {"call": call, "streamId": stream_id, "payload": payload} | more
        try:
            self._socket.send(json.dumps(frame))
        except SocketClosedError:
            with self._lock:
                mine = self._open.pop(stream_id, None)
            if mine is not None:
                raise
        return stream_id

    def call(self, call: str, payload: Json, timeout: float, **more: Any) -> ResponseFrame:
        """Send a request that has a response and no messages.

        :param timeout: seconds
        :return: the response; its status is 499 when the connection ended meanwhile, and 502 when it had before
        :raises TimeoutError: when there is none in time
        """
        waiting = _OneResponse(lambda sentence: self._complain(f"{call}: {sentence}"))
        try:
            stream_id = self.open(call, payload, waiting, **more)
        except SocketClosedError:
            return ResponseFrame("", UNREACHABLE, {})
        if not waiting.came.wait(timeout) or waiting.frame is None:
            raise TimeoutError(f"In {timeout} s no response came on stream {stream_id}.")
        return waiting.frame

    def close(self) -> None:
        """End the connection. The streams that are still open get their 499."""
        self._socket.close()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _listen(self) -> None:
        try:
            while True:
                data = self._socket.frame()
                if data is not None:
                    self._take(time.monotonic(), data)
        except SocketClosedError:
            pass
        # Before the socket is closed: a thread that is just sending on it gets a 499 and no error.
        with self._lock:
            self._over = True
            left, self._open = self._open, {}
        self._socket.close()
        for stream_id, listener in left.items():
            self._tell(partial(listener.response, ResponseFrame(stream_id, CLOSED_EARLY, {})))

    def _take(self, at: float, data: str | bytes) -> None:
        try:
            frame = read_frame(data)
        except ProtocolError as error:
            for sentence in error.sentences:
                self._complain(f"WebSocket: {sentence}")
            return
        if frame == "ping":
            with self._lock:
                listeners = list(self._open.values())
            for listener in listeners:
                self._tell(listener.ping)
            return
        with self._lock:
            found = self._open.get(frame.stream_id)
            if isinstance(frame, ResponseFrame) and found is not None:
                del self._open[frame.stream_id]
                self._ended.add(frame.stream_id)
            ended = frame.stream_id in self._ended
        if found is None:
            what = "message" if isinstance(frame, MessageFrame) else "response"
            why = "has had its response" if ended else "is not open"
            self._complain(f"WebSocket: a {what} came on stream {frame.stream_id!r}, which {why}")
        elif isinstance(frame, MessageFrame):
            self._tell(partial(found.message, at, frame.payload))
        else:
            self._tell(partial(found.response, frame))

    def _tell(self, what: Callable[[], None]) -> None:
        try:
            what()
        except BaseException:  # noqa: BLE001  a failure in a listener must reach the test, and end no other stream
            self._crashed(traceback.format_exc())


class _OneResponse:
    """Waits for a response."""

    def __init__(self, complain: Callable[[str], None]) -> None:
        self.came = threading.Event()
        self.frame: ResponseFrame | None = None
        self._complain = complain

    def message(self, at: float, payload: Json) -> None:
        self._complain("a message came where only a response may")

    def response(self, frame: ResponseFrame) -> None:
        self.frame = frame
        self.came.set()

    def ping(self) -> None:
        pass
