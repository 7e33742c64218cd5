"""One WebSocket to the provider (contract: WebSockets)."""

import json
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import simple_websocket
from simple_websocket.ws import Base, ConnectionType, LocalProtocolError

from tests.sandbox.core.errors import CoreError, ProviderAwayError

Json = dict[str, Any]
PIECE = 1 << 18
"""Bytes that are read at once."""
GOODBYE = 1.0
"""Seconds that the provider has to answer the end of a connection."""


class SocketClosedError(ConnectionError):
    """The connection is over.

    :ivar code: of the WebSocket protocol, such as 1000 for a proper end, or 1005 without one
    """

    def __init__(self, code: int, reason: str | None) -> None:
        super().__init__(f"The WebSocket is closed ({code}{f': {reason}' if reason else ''}).")
        self.code = code


class Socket:
    """A connection, without any check of what is said. Safe for several threads."""

    def __init__(self, base: str, path: str, headers: Mapping[str, bytes], timeout: float) -> None:
        """Connect.

        :param base: the provider's address; whatever its scheme, ``ws`` is spoken, as Core does
        :param path: from the root, with the query if any
        :param timeout: seconds for the handshake
        :raises ProviderAwayError: when nobody is there, or it takes too long
        :raises CoreError: with the provider's status when it answers, but not with a WebSocket
        """
        self._sending = threading.Lock()
        self._closing = threading.Lock()
        self._closed = False
        try:
            self._client = _Client(base, path, headers, timeout)
        except simple_websocket.ConnectionError as error:
            if error.status_code is None:
                raise ProviderAwayError("The provider did not open a WebSocket") from error
            why = f"The provider answered {error.status_code} instead of opening a WebSocket"
            raise CoreError(error.status_code, why) from error
        except OSError as error:
            raise ProviderAwayError(f"The provider could not be reached ({type(error).__name__})") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        """Whether either side has ended the connection."""
        return self._closed or not self._client.connected

    @property
    def idle(self) -> bool:
        """Whether its thread has ended."""
        return not self._client.thread.is_alive()

    def send(self, data: str | bytes) -> None:
        """Send a text frame, or a binary one.

        :raises SocketClosedError: when the connection is over
        """
        with self._sending:
            if self._closed:
                raise self._over()
            try:
                self._client.send(data)
            except (OSError, LocalProtocolError, simple_websocket.ConnectionClosed) as error:
                raise self._over() from error
            if self._closed:  # meanwhile: perhaps only a part has left
                raise self._over()

    def frame(self, timeout: float | None = None) -> str | bytes | None:
        """The next frame as it came.

        :param timeout: seconds; None for ever
        :return: None when nothing came in time
        :raises SocketClosedError: when the connection is over and everything was read
        """
        try:
            data: str | bytes | None = self._client.receive(timeout)
        except simple_websocket.ConnectionClosed as error:
            raise self._over() from error
        if data is None and timeout is None:  # closed by this side meanwhile
            raise self._over()
        return data

    def receive(self, timeout: float = 5.0) -> Json | str | bytes | None:
        """The next frame, as a JSON object if it is one.

        :param timeout: seconds
        :return: text or bytes that are no JSON object as they are; None when nothing came in time
        :raises SocketClosedError: when the connection is over and everything was read
        """
        data = self.frame(timeout)
        if not isinstance(data, str):
            return data
        try:
            found = json.loads(data)
        except (ValueError, RecursionError):
            return data
        return found if isinstance(found, dict) else data

    def close(self) -> None:
        """End the connection, properly if the provider takes part. A second time does nothing."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
        # A thread that is stuck in sending is freed by the end of the connection.
        polite = self._sending.acquire(timeout=GOODBYE)
        try:
            self._client.end(polite=polite)
        finally:
            if polite:
                self._sending.release()

    def _over(self) -> SocketClosedError:
        return SocketClosedError(int(self._client.close_reason or 0), self._client.close_message)


class _Client(simple_websocket.Client):  # type: ignore[misc]
    """The library's client with an end to each wait, and without a socket or a thread that stays behind."""

    def __init__(self, base: str, path: str, headers: Mapping[str, bytes], timeout: float) -> None:
        parts = urlsplit(base)
        self.host = parts.netloc
        self.path = parts.path.rstrip("/") + path
        self.subprotocols: list[str] = []
        self.extra_headeers = [(name.encode(), value) for name, value in headers.items()]  # so it is called
        where = (parts.hostname or "", parts.port or 80)
        Base.__init__(
            self, socket.create_connection(where, timeout), connection_type=ConnectionType.CLIENT, receive_bytes=PIECE
        )

    def handshake(self) -> None:
        try:
            super().handshake()
            # What came together with the answer.
            self.connected = self._handle_events()
            self.sock.settimeout(None)
        except (OSError, simple_websocket.ConnectionError):
            self.sock.close()
            raise
        except Exception as error:
            self.sock.close()
            raise simple_websocket.ConnectionError from error

    def end(self, *, polite: bool) -> None:
        """Say goodbye if that is possible, and leave whatever the other side does."""
        if polite and self.connected:
            with suppress(OSError, LocalProtocolError, simple_websocket.ConnectionClosed):
                Base.close(self)
                self.thread.join(GOODBYE)
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.sock.close()
        # The library's thread need not have woken who waits, when it found this side closed.
        self.event.set()
