"""One WebSocket with frames of UCloud's protocol (contract: framing); wsproto implements the WebSocket itself.

A frame that is too large gets an error as its answer, and one that is no JSON object none. The connection and its other
streams go on.
"""

import asyncio
import json
import logging
import re
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple, Self

from pydantic_core import from_json
from wsproto.connection import Connection as Protocol
from wsproto.connection import ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from ucloud_slurm.errors import NotNow, Problem, one_line, place
from ucloud_slurm.web.live.entrance import Visit

log = logging.getLogger(__name__)

LARGEST_FRAME_BYTES = 1024 * 1024  # a Job with its application and all its updates fits in
OWN_BYTES = 16 * 1024  # of an incomplete frame, that every connection has; the rest is taken from a budget
HIGH_WATER_BYTES = 128 * 1024  # so much is buffered for a slow reader before its sender waits
DRAIN_SECONDS = 60.0  # that a slow reader has to take what is buffered
PING_SECONDS = 30.0
STRANGER_FRAMES = 20  # that are read before the first valid token or session
READ_BYTES = 4 * 1024  # that are taken apart at a time: they may hold hundreds of frames
FRAME_WORK_BYTES = 512  # the work that a frame makes, whatever its size, as bytes
PREFIX_BYTES = 4096  # of a frame that is too large; its stream is searched in them
TOO_LARGE = 413

_STREAM_ID = re.compile(rb'"streamId"\s*:\s*"([^"\\]{1,200})"')


class CallFrame(NamedTuple):
    """A call that the peer makes."""

    call: str
    stream_id: str
    payload: Any
    bearer: str | None


class WebSocketClosedError(Exception):
    """The peer has closed the connection, or does not read what is sent to it."""


class WebSocketConnection:
    """A WebSocket whose opening handshake has been answered.

    :ivar visit: what it may have; a stranger's ends by the first valid token of UCloud, or identifier of a session
    :ivar log_only: whether the peer reads every frame as a piece of a log
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, username: str | None, visit: Visit, first_bytes: int
    ) -> None:
        self.username = username
        self.visit = visit
        self._first_bytes = first_bytes
        self._reader = reader
        self._writer = writer
        self._protocol = Protocol(ConnectionType.SERVER)
        self._open = True
        self._incomplete = bytearray()
        self._too_large = False
        self._counted_bytes = 0  # of the incomplete frame, in the budget
        self._received_bytes = 0
        self._frames = 0
        self.log_only = False

    @classmethod
    async def accept(cls, sock: socket.socket, handshake: bytes, username: str | None, visit: Visit, first_bytes: int) -> Self:
        """Takes over a socket and answers the opening handshake.

        :param first_bytes: that are read before the first valid token or session
        """
        sock.setblocking(False)
        with suppress(OSError):  # a socket of another family
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        reader, writer = await asyncio.open_connection(sock=sock, limit=4 * READ_BYTES)
        writer.transport.set_write_buffer_limits(high=HIGH_WATER_BYTES)
        writer.write(handshake)
        return cls(reader, writer, username, visit, first_bytes)

    async def message(self, stream_id: str, payload: Mapping[str, Any]) -> None:
        """Sends a message on a stream.

        :raises WebSocketClosedError: the connection is closed
        """
        await self._send({"type": "message", "streamId": stream_id, "payload": payload})

    async def response(self, stream_id: str, status: int, payload: Mapping[str, Any]) -> None:
        """Sends the last frame of a stream.

        :raises WebSocketClosedError: the connection is closed
        """
        await self._send({"type": "response", "streamId": stream_id, "status": status, "payload": payload})

    async def refuse(self, stream_id: str, problem: Problem) -> None:
        """Ends a stream with an error; where the peer reads only logs, the error is a line of the log."""
        if self.log_only:
            text = f"[The log is not shown: {problem.why}]\n"
            await self.message(stream_id, {"rank": 0, "stdout": None, "stderr": text})
            return
        await self.response(stream_id, problem.status, {"why": problem.why, "errorCode": problem.error_code})

    @asynccontextmanager
    async def answering(self, stream_id: str) -> AsyncIterator[None]:
        """Converts every exception inside into an error on the stream, so that other streams go on.

        :raises WebSocketClosedError: the connection is closed
        """
        try:
            yield
        except WebSocketClosedError:
            raise
        except Problem as problem:
            await self.refuse(stream_id, problem)
        except NotNow as error:
            log.warning("%s", one_line(str(error)))
            await self.refuse(stream_id, Problem("The provider cannot do this at the moment; please try again."))
        except Exception as error:  # noqa: BLE001
            log.error("unexpected %s at %s; please report it", type(error).__name__, place(error))
            await self.refuse(stream_id, Problem("Internal error of the provider"))

    async def ping(self) -> None:
        """Sends a keepalive, in the form that UCloud's own servers use."""
        await self._send({"ping": "pong"})

    async def _send(self, frame: Mapping[str, Any]) -> None:
        if not self._open:
            raise WebSocketClosedError
        try:
            data = self._protocol.send(TextMessage(json.dumps(frame)))
        except LocalProtocolError:  # the peer's Close frame has been read
            raise WebSocketClosedError from None
        self._writer.write(data)
        await self._drain()
        await asyncio.sleep(self.visit.pause(len(data)))

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await self._writer.drain()
        except (OSError, TimeoutError):
            self.abort()
            raise WebSocketClosedError from None

    async def frames(self) -> AsyncIterator[CallFrame]:
        """The calls of the peer, until it closes the connection.

        :raises WebSocketClosedError: the peer does not read
        """
        while self._open and (data := await self._read()):
            try:
                self._protocol.receive_data(data)
                events = list(self._protocol.events())
            except RemoteProtocolError:
                return
            self._received_bytes += len(data)
            self._frames += sum(getattr(event, "frame_finished", True) for event in events)
            is_over = self._frames > STRANGER_FRAMES or self._received_bytes > self._first_bytes
            if is_over and self.visit.stranger is not None:
                return
            for event in events:
                if isinstance(event, CloseConnection):
                    self._answer_close(event)
                    return
                if isinstance(event, Ping):
                    with suppress(LocalProtocolError):  # a Close frame has come with it
                        self._writer.write(self._protocol.send(event.response()))
                    await self._drain()
                elif isinstance(event, TextMessage | BytesMessage):
                    self._keep(event.data.encode() if isinstance(event.data, str) else bytes(event.data))
                    if event.message_finished:
                        whole, too_large = bytes(self._incomplete), self._too_large
                        self._discard()
                        if too_large:
                            await self._answer_too_large(whole)
                        elif (frame := read_frame(whole)) is not None:
                            yield frame
            await asyncio.sleep(self.visit.pause(len(data) + FRAME_WORK_BYTES * len(events)))

    async def _read(self) -> bytes:
        try:
            return await self._reader.read(READ_BYTES)
        except OSError:
            return b""

    def _keep(self, piece: bytes) -> None:
        """Keeps a fragment of a frame; of a frame that is too large only the beginning."""
        size = len(self._incomplete) + len(piece)
        counted = max(size - OWN_BYTES, 0) - self._counted_bytes
        if self._too_large or size > LARGEST_FRAME_BYTES or not self.visit.memory.take(self.visit.account, counted):
            self._too_large = True
            piece = piece[: max(0, PREFIX_BYTES - len(self._incomplete))]
        else:
            self._counted_bytes += counted
        self._incomplete += piece

    def _discard(self) -> None:
        self.visit.memory.release(self.visit.account, self._counted_bytes)
        self._counted_bytes = 0
        self._incomplete = bytearray()
        self._too_large = False

    async def _answer_too_large(self, beginning: bytes) -> None:
        if match := _STREAM_ID.search(beginning[:PREFIX_BYTES]):
            why = f"A frame may have at most {LARGEST_FRAME_BYTES} bytes."
            await self.response(match[1].decode(errors="replace"), TOO_LARGE, {"why": why, "errorCode": None})

    def _answer_close(self, event: CloseConnection) -> None:
        with suppress(LocalProtocolError):
            self._writer.write(self._protocol.send(event.response()))

    def finish(self) -> None:
        """Sends a Close frame, and leaves it to the peer to close the connection."""
        with suppress(LocalProtocolError):
            self._writer.write(self._protocol.send(CloseConnection(code=1000)))

    def abort(self) -> None:
        """Closes the connection without sending what is buffered."""
        self._open = False
        self._writer.transport.abort()

    async def close(self) -> None:
        """Closes the connection after sending what is buffered."""
        self._open = False
        self._discard()
        self._writer.close()
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                await self._writer.wait_closed()


def read_frame(text: bytes) -> CallFrame | None:
    """The call in a frame; None where it is not one, to which the contract wants no answer."""
    try:
        data = from_json(text, allow_inf_nan=False)
    except ValueError:
        return None
    if not isinstance(data, dict):
        return None
    call, stream_id, bearer = data.get("call"), data.get("streamId"), data.get("bearer")
    if not isinstance(call, str) or not isinstance(stream_id, str) or not isinstance(data.get("payload"), dict):
        return None
    return CallFrame(call, stream_id, data["payload"], bearer if isinstance(bearer, str) else None)
