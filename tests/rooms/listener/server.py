"""UCloud's side of the channel, as small as can be: a WebSocket server that says what a test has it say."""

import queue
import socket
import ssl
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass, field

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Event, Ping, RejectConnection, Request, TextMessage
from wsproto.utilities import LocalProtocolError

PATIENCE = 20.0  # seconds


@dataclass
class Peer:
    """A connection of the listener's."""

    socket: socket.socket
    protocol: WSConnection
    silent: bool = False  # do not answer pings
    request: Request | None = None
    messages: queue.Queue[bytes] = field(default_factory=queue.Queue)
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def replay_from(self) -> int:
        """What the listener's first message asks for, in milliseconds."""
        return int(struct.unpack(">BqQ", self.first[:17])[1])

    @property
    def token(self) -> str:
        return self.first[21:].decode()

    @property
    def first(self) -> bytes:
        if not hasattr(self, "_first"):
            self._first = self.messages.get(timeout=PATIENCE)
        return self._first

    def send(self, *events: Event) -> None:
        """Several events leave as one piece."""
        self.socket.sendall(b"".join(self.protocol.send(event) for event in events))

    def say(self, *messages: bytes) -> None:
        self.send(*(BytesMessage(message) for message in messages))

    def say_text(self, text: str) -> None:
        self.send(TextMessage(text))

    def say_goodbye(self) -> None:
        self.send(CloseConnection(1000))

    def drop(self) -> None:
        """Ends the connection without a word."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


class ChannelServer:
    """Listens on a port of this host."""

    def __init__(
        self, *, reject: int | None = None, context: ssl.SSLContext | None = None, retry_after: str | None = None
    ) -> None:
        self._reject = reject
        self._headers = [] if retry_after is None else [(b"retry-after", retry_after.encode())]
        self._context = context
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._peers: queue.Queue[Peer] = queue.Queue()
        self._all: list[Peer] = []
        self._lock = threading.Lock()
        self._closed = False
        self.silent = False
        scheme = "https" if context else "http"
        self.url = f"{scheme}://localhost:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def accept(self) -> Peer:
        """The next connection, which has sent its first message."""
        peer = self._peers.get(timeout=PATIENCE)
        assert peer.first
        return peer

    @property
    def attempts(self) -> int:
        """How many connections have come, refused ones too."""
        return len(self._all)

    def close(self) -> None:
        with self._lock:
            self._closed = True
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for peer in self._all:
            peer.drop()

    def _serve(self) -> None:
        with suppress(OSError):  # it is closed
            while True:
                connection, _ = self._listening.accept()
                with suppress(ConnectionError, ssl.SSLError):
                    self._take(self._context.wrap_socket(connection, server_side=True) if self._context else connection)

    def _take(self, connection: socket.socket) -> None:
        peer = Peer(connection, WSConnection(ConnectionType.SERVER), self.silent)
        with self._lock:
            if self._closed:
                peer.drop()
                return
            self._all.append(peer)
        threading.Thread(target=self._hear, args=(peer,), daemon=True).start()

    def _hear(self, peer: Peer) -> None:
        with suppress(OSError, LocalProtocolError):
            while data := peer.socket.recv(65536):
                peer.protocol.receive_data(data)
                for event in peer.protocol.events():
                    self._event(peer, event)
        peer.ended.set()

    def _event(self, peer: Peer, event: Event) -> None:
        match event:
            case Request():
                peer.request = event
                if self._reject is not None:
                    peer.send(RejectConnection(status_code=self._reject, headers=self._headers))
                    return
                peer.send(AcceptConnection())
                self._peers.put(peer)
            case Ping() if not peer.silent:
                peer.send(event.response())
            case BytesMessage():
                peer.messages.put(bytes(event.data))
            case CloseConnection():
                peer.send(event.response())
