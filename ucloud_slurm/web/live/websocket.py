"""One WebSocket: frames of UCloud's protocol in and out (contract: framing). The WebSocket itself is wsproto's.

A frame that is too large, or that is no JSON object, costs its sender an answer at most; the connection and its
other streams live on.
"""

import asyncio
import json
import logging
import re
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Self

from pydantic_core import from_json
from wsproto.connection import Connection as Protocol
from wsproto.connection import ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from ucloud_slurm.errors import NotNow, Problem, one_line, place

log = logging.getLogger(__name__)

LARGEST = 1024 * 1024  # bytes of a frame: a Job with its application and all its updates
MOST_UNFINISHED = 64 * 1024 * 1024  # bytes of all frames of this process that have not come to their end
HIGH_WATER = 128 * 1024  # bytes that may wait for a slow reader before its sender does
SLOWEST = 60.0  # seconds in which a reader must take something
PING_SECONDS = 30.0
STRANGERS = 200  # frames, and pieces of frames, that one may send who has not shown who it is
BEGINNING = 4096  # bytes of a frame that is too large in which its stream is looked for
TOO_LARGE = 413

_STREAM_ID = re.compile(rb'"streamId"\s*:\s*"([^"\\]{1,200})"')


@dataclass(frozen=True, slots=True)
class Frame:
    """A call of the other side."""

    call: str
    stream_id: str
    payload: Any
    bearer: str | None


class ConnectionClosedError(Exception):
    """The other side is gone, or does not take what it is sent."""


class Connection:
    """A WebSocket whose opening handshake has been answered.

    :cvar unfinished: bytes of frames, of all connections, that have not come to their end
    """

    unfinished = 0

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, username: str | None) -> None:
        self.username = username
        self._reader = reader
        self._writer = writer
        self._protocol = Protocol(ConnectionType.SERVER)
        self._open = True
        self._unfinished = bytearray()
        self._too_large = False
        self._events = 0
        self.authenticated = False  # whether it has shown a token of UCloud or a session's identifier
        self.log_only = False  # whether the other side takes every frame for a piece of a log

    @classmethod
    async def accept(cls, sock: socket.socket, handshake: bytes, username: str | None) -> Self:
        """Takes over a socket and answers the handshake."""
        sock.setblocking(False)
        with suppress(OSError):  # a socket of another family
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        reader, writer = await asyncio.open_connection(sock=sock)
        writer.transport.set_write_buffer_limits(high=HIGH_WATER)
        writer.write(handshake)
        return cls(reader, writer, username)

    # -- sending --------------------------------------------------------------------------------------------

    async def message(self, stream_id: str, payload: Mapping[str, Any]) -> None:
        """Says something on a stream.

        :raises ConnectionClosedError: see there
        """
        await self._send({"type": "message", "streamId": stream_id, "payload": payload})

    async def response(self, stream_id: str, status: int, payload: Mapping[str, Any]) -> None:
        """Says the last thing on a stream.

        :raises ConnectionClosedError: see there
        """
        await self._send({"type": "response", "streamId": stream_id, "status": status, "payload": payload})

    async def refuse(self, stream_id: str, problem: Problem) -> None:
        """Ends a stream with an error. Where only logs are read it is a line of one."""
        if self.log_only:
            text = f"[The log is not shown: {problem.why}]\n"
            await self.message(stream_id, {"rank": 0, "stdout": None, "stderr": text})
            return
        await self.response(stream_id, problem.status, {"why": problem.why, "errorCode": problem.error_code})

    @asynccontextmanager
    async def answering(self, stream_id: str) -> AsyncIterator[None]:
        """Answers on a stream with an error for whatever is raised inside; other streams do not notice.

        :raises ConnectionClosedError: see there
        """
        try:
            yield
        except ConnectionClosedError:
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
        """Shows that the connection lives, as UCloud's own servers do."""
        await self._send({"ping": "pong"})

    async def _send(self, frame: Mapping[str, Any]) -> None:
        if not self._open:
            raise ConnectionClosedError
        self._writer.write(self._protocol.send(TextMessage(json.dumps(frame))))
        await self._drain()

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(SLOWEST):
                await self._writer.drain()
        except (OSError, TimeoutError):
            self.abort()
            raise ConnectionClosedError from None

    # -- receiving ------------------------------------------------------------------------------------------

    async def frames(self) -> AsyncIterator[Frame]:
        """The calls of the other side, until it is gone.

        :raises ConnectionClosedError: it does not take what it is sent
        """
        while self._open and (data := await self._read()):
            try:
                self._protocol.receive_data(data)
                events = list(self._protocol.events())
            except RemoteProtocolError:
                return
            self._events += len(events)
            if self._events > STRANGERS and not self.authenticated:
                return
            for event in events:
                if isinstance(event, CloseConnection):
                    self._say_goodbye(event)
                    return
                if isinstance(event, Ping):
                    self._writer.write(self._protocol.send(event.response()))
                    await self._drain()
                elif isinstance(event, TextMessage | BytesMessage):
                    self._gather(event.data.encode() if isinstance(event.data, str) else bytes(event.data))
                    if event.message_finished:
                        whole, too_large = bytes(self._unfinished), self._too_large
                        self._forget()
                        if too_large:
                            await self._say_too_large(whole)
                        elif (frame := read_frame(whole)) is not None:
                            yield frame

    async def _read(self) -> bytes:
        try:
            return await self._reader.read(64 * 1024)
        except OSError:
            return b""

    def _gather(self, piece: bytes) -> None:
        """Keeps a piece of a frame, unless the frame, or all of the process together, would be too large."""
        others = Connection.unfinished
        if self._too_large or len(self._unfinished) + len(piece) > LARGEST or others + len(piece) > MOST_UNFINISHED:
            self._too_large = True
            piece = piece[: max(0, BEGINNING - len(self._unfinished))]
        self._unfinished += piece
        Connection.unfinished += len(piece)

    def _forget(self) -> None:
        Connection.unfinished -= len(self._unfinished)
        self._unfinished = bytearray()
        self._too_large = False

    async def _say_too_large(self, beginning: bytes) -> None:
        if match := _STREAM_ID.search(beginning[:BEGINNING]):
            why = f"A frame may have at most {LARGEST} bytes."
            await self.response(match[1].decode(errors="replace"), TOO_LARGE, {"why": why, "errorCode": None})

    def _say_goodbye(self, event: CloseConnection) -> None:
        with suppress(LocalProtocolError):
            self._writer.write(self._protocol.send(event.response()))

    # -- ending ---------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Says goodbye; what follows is up to the other side."""
        with suppress(LocalProtocolError):
            self._writer.write(self._protocol.send(CloseConnection(code=1000)))

    def abort(self) -> None:
        """Ends the connection at once."""
        self._open = False
        self._writer.transport.abort()

    async def close(self) -> None:
        """Ends the connection when what was said has been sent."""
        self._open = False
        self._forget()
        self._writer.close()
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(SLOWEST):
                await self._writer.wait_closed()


def read_frame(text: bytes) -> Frame | None:
    """A frame, or None for what is none; the contract wants no answer to that."""
    try:
        data = from_json(text, allow_inf_nan=False)
    except ValueError:
        return None
    if not isinstance(data, dict):
        return None
    call, stream_id, bearer = data.get("call"), data.get("streamId"), data.get("bearer")
    if not isinstance(call, str) or not isinstance(stream_id, str) or not isinstance(data.get("payload"), dict):
        return None
    return Frame(call, stream_id, data["payload"], bearer if isinstance(bearer, str) else None)
