"""A WebSocket in a thread of its own: frames are passed on as they come, and the other side is asked for signs of life."""

import select
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

PING_SECONDS = 30.0
SILENCE_SECONDS = 100.0  # after which the other side is gone: it answers pings
SEND_SECONDS = 60.0  # that the other side may take to read
TICK_SECONDS = 1.0
READ_BYTES = 256 * 1024
LARGEST_FRAME_BYTES = 17 * 1000 * 1000  # browsers send 16 000 005
NORMAL, TOO_LARGE, FAILED = 1000, 1009, 1011


class SocketClosedError(Exception):
    """The other side has closed the connection, is gone, or does not keep to the protocol."""


class Piece(NamedTuple):
    """A piece of a binary message.

    :ivar last: the message ends with it
    """

    data: bytes
    last: bool


class WebSocket:
    """A WebSocket whose handshake has been answered, for one thread."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(SEND_SECONDS)
        self._sock = sock
        self._protocol = Connection(ConnectionType.SERVER)
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._frame_bytes = 0

    def pieces(self) -> Iterator[Piece | None]:
        """What comes, in pieces; None at least every second or so, so that the caller can look at the time.

        :raises SocketClosedError: see there
        """
        last = pinged = time.monotonic()
        while True:
            if self._poll.poll(TICK_SECONDS * 1000):
                yield from self._received(self._read())
                last = time.monotonic()
            now = time.monotonic()
            if now - last > SILENCE_SECONDS:
                raise SocketClosedError("the browser is silent")
            if now - max(pinged, last) > PING_SECONDS:
                pinged = now
                self._send(Ping())
            yield None

    def _read(self) -> bytes:
        try:
            data = self._sock.recv(READ_BYTES)
        except OSError as error:
            raise SocketClosedError(f"the connection is lost ({error.strerror})") from None
        if not data:
            raise SocketClosedError("the browser has closed the connection")
        return data

    def _received(self, data: bytes) -> Iterator[Piece]:
        try:
            self._protocol.receive_data(data)
            for event in self._protocol.events():
                if isinstance(event, CloseConnection):
                    with suppress(SocketClosedError):
                        self._send(event.response())
                    raise SocketClosedError("the browser has closed the connection")
                if isinstance(event, Ping):
                    self._send(event.response())
                elif isinstance(event, TextMessage):
                    if event.data == "ping":
                        self._send(TextMessage("pong"))
                elif isinstance(event, BytesMessage):
                    self._frame_bytes += len(event.data)
                    if self._frame_bytes > LARGEST_FRAME_BYTES:
                        self.close(TOO_LARGE)
                        raise SocketClosedError("a message is too long")
                    yield Piece(bytes(event.data), event.message_finished)
                    if event.message_finished:
                        self._frame_bytes = 0
        except RemoteProtocolError:
            raise SocketClosedError("it is no WebSocket any more") from None

    def send(self, data: bytes) -> None:
        """Sends a binary message.

        :raises SocketClosedError: the other side does not read
        """
        self._send(BytesMessage(data))

    def _send(self, event: BytesMessage | TextMessage | Ping | Pong | CloseConnection) -> None:
        try:
            self._sock.sendall(self._protocol.send(event))
        except (OSError, LocalProtocolError):
            raise SocketClosedError("the browser does not read") from None

    def close(self, code: int) -> None:
        """Says goodbye; the server closes the connection."""
        with suppress(SocketClosedError):
            self._send(CloseConnection(code=code))
