"""One WebSocket to UCloud, with this process as its client; wsproto implements the protocol."""

import base64
import socket
import ssl
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from wsproto import ConnectionType, WSConnection, events
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from ucloud_slurm.errors import Misconfigured, NotNow, one_line
from ucloud_slurm.listener.settings import Settings
from ucloud_slurm.system.credentials import read_credentials
from ucloud_slurm.ucloud.channel import MAX_MESSAGE_BYTES, ProtocolError
from ucloud_slurm.ucloud.pauses import is_unavailable

READ_BYTES = 64 * 1024


class ChannelUnavailableError(NotNow):
    """The channel cannot be reached, or no access token can be had.

    :ivar retry_after: the header of that name in UCloud's answer
    """

    def __init__(self, why: str, retry_after: str | None = None) -> None:
        super().__init__(why)
        self.retry_after = retry_after


class ChannelEndedError(ChannelUnavailableError):
    """UCloud has ended the connection."""


class ChannelConnection:
    """The connection.

    :raises ChannelUnavailableError: from every method, when the connection is broken
    """

    def __init__(self, settings: Settings) -> None:
        """Connects and opens the WebSocket.

        No Origin is sent: UCloud refuses all but its own.
        """
        self._timeout = settings.timeout
        self._protocol = WSConnection(ConnectionType.CLIENT)
        self._message = bytearray()
        self._received: list[bytes | events.Pong] = []
        self._open = self._ended = False
        try:
            self._socket = _connected(settings)
        except (OSError, ValueError) as error:
            raise ChannelUnavailableError(f"UCloud's channel cannot be reached ({_reason(error)})") from None
        try:
            self._send(events.Request(host=settings.host, target=settings.target))
            until = time.monotonic() + settings.timeout
            while not self._open:
                self._read(until - time.monotonic())
                if time.monotonic() >= until:
                    raise ChannelUnavailableError("UCloud does not open the channel in time")
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if not self._ended and error is None:
            with suppress(ChannelUnavailableError, LocalProtocolError):
                self._send(events.CloseConnection(1000))
        self._socket.close()

    def send(self, message: bytes) -> None:
        """Sends a binary message."""
        self._send(events.BytesMessage(message))

    def ping(self) -> None:
        """Sends a ping, which UCloud answers with a pong."""
        self._send(events.Ping())

    def receive(self, within: float) -> list[bytes | events.Pong]:
        """The messages and pongs that have arrived, in their order; none when none arrives in time.

        :param within: seconds
        :raises ProtocolError: a message is not binary, or too large
        :raises ChannelEndedError: UCloud has ended the connection, and everything before was returned
        """
        if not self._received:
            self._read(within)
        received, self._received = self._received, []
        return received

    def _read(self, within: float) -> None:
        if self._ended:
            raise ChannelEndedError("UCloud has ended the connection")
        try:
            self._socket.settimeout(max(within, 0.001))
            data = self._socket.recv(READ_BYTES)
        except TimeoutError:
            return
        except OSError as error:
            raise ChannelUnavailableError(f"The connection to UCloud's channel is broken ({_reason(error)})") from None
        if not data:
            self._ended = True
            raise ChannelEndedError("UCloud has ended the connection without a Close frame")
        try:
            self._protocol.receive_data(data)
            for event in self._protocol.events():
                self._event(event)
        except RemoteProtocolError:
            raise ProtocolError("UCloud's channel does not speak the WebSocket protocol.") from None

    def _event(self, event: events.Event) -> None:
        match event:
            case events.AcceptConnection():
                self._open = True
            case events.RejectConnection():
                asks = is_unavailable(event.status_code)
                header = next((value for name, value in event.headers if asks and name.lower() == b"retry-after"), b"")
                why = f"UCloud answered {event.status_code} instead of opening the channel"
                raise ChannelUnavailableError(why, header.decode("latin-1"))
            case events.Ping():
                self._send(event.response())
            case events.Pong():
                self._received.append(event)
            case events.CloseConnection():
                self._ended = True
                with suppress(ChannelUnavailableError, LocalProtocolError):
                    self._send(event.response())
            case events.TextMessage():
                raise ProtocolError("A message on UCloud's channel is text; only binary ones are known.")
            case events.BytesMessage():
                if len(self._message) + len(event.data) > MAX_MESSAGE_BYTES:
                    raise ProtocolError(f"A message on UCloud's channel has more than {MAX_MESSAGE_BYTES} bytes.")
                self._message += event.data
                if event.message_finished:
                    self._received.append(bytes(self._message))
                    self._message = bytearray()

    def _send(self, event: events.Event) -> None:
        try:
            self._socket.settimeout(self._timeout)
            self._socket.sendall(self._protocol.send(event))
        except OSError as error:
            raise ChannelUnavailableError(f"Sending on UCloud's channel failed ({_reason(error)})") from None


def _connected(settings: Settings) -> socket.socket:
    plain = _tunnel(settings) if settings.proxy else socket.create_connection(settings.address, settings.timeout)
    if not settings.secure:
        return plain
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
        return context.wrap_socket(plain, server_hostname=settings.address[0])
    except BaseException:
        plain.close()
        raise


def _tunnel(settings: Settings) -> socket.socket:
    """A connection to UCloud through the proxy.

    :raises ChannelUnavailableError: there is none
    """
    from http.client import HTTPConnection, HTTPException  # needs memory, where there is a proxy only

    proxy, headers = urlsplit(settings.proxy or ""), {}
    connection = HTTPConnection(proxy.hostname or "", proxy.port, timeout=settings.timeout)
    try:
        if settings.proxy_credentials_file is not None:
            pair = ":".join(read_credentials("ucloud.proxy_credentials_file", Path(settings.proxy_credentials_file)))
            headers["Proxy-Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        connection.set_tunnel(*settings.address, headers)
        connection.connect()
    except (OSError, HTTPException, Misconfigured) as error:
        connection.close()
        why = f"UCloud's channel cannot be reached through ucloud.proxy ({one_line(str(error), 200)})"
        raise ChannelUnavailableError(why) from None
    return connection.sock


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}; see ucloud.ca_file"
    return getattr(error, "strerror", None) or type(error).__name__
