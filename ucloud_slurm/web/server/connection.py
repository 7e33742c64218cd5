"""A connection of a caller, and gunicorn's parser of the head of a request."""

import ipaddress
import socket
import threading
from enum import Enum, auto
from typing import Any

from gunicorn.http import errors
from gunicorn.http.body import ChunkedReader
from gunicorn.http.message import Request
from gunicorn.http.unreader import IterUnreader
from werkzeug.exceptions import RequestEntityTooLarge

from ucloud_slurm.web.server.requests import MOST_HEAD_BYTES, Caller, RequestClass, refusal

STATUSES: tuple[tuple[type[Exception], int], ...] = (
    (errors.LimitRequestLine, 414),
    (errors.LimitRequestHeaders, 431),
    (errors.UnsupportedTransferCoding, 501),
    (errors.ExpectationFailed, 417),
)


class Phase(Enum):
    """What the event loop waits for on a connection."""

    HEAD = auto()
    BODY = auto()
    IDLE = auto()  # the next request
    CLOSING = auto()  # the other side's end
    ANSWERING = auto()  # nothing: a thread has it, or will have it


class Connection:
    """A connection of a caller. Only the event loop changes it, except for ``sock`` while it is being answered."""

    def __init__(self, sock: socket.socket, client: Any, server: Any) -> None:
        self.sock = sock
        self.is_local = sock.family == socket.AF_UNIX
        self.is_of_this_host = self.is_local or is_loopback(client[0])
        # An address that gunicorn trusts with nothing (forwarded_allow_ips), as it would a unix socket's.
        self.client = ("", 0) if self.is_local else client
        self.server = server
        self.phase = Phase.HEAD
        self.buffer = bytearray()
        self.searched = 0
        self.requests = 0
        self.arrived = 0.0  # the first byte of the request, by the monotonic clock
        self.request: Any = None
        self.body_bytes = 0
        self.caller = Caller(RequestClass.STRANGER, "")
        self.claim = threading.Lock()  # who acquires it answers the request, and nobody else: it is not released

    def parse(self, cfg: Any) -> Any:
        """gunicorn's request of the head in the buffer; its body is not read. The answer, where it is refused.

        :param cfg: gunicorn's configuration
        """
        if len(self.buffer) > MOST_HEAD_BYTES and b"\r\n\r\n" not in self.buffer:
            return refusal(431, "The head of the request is too long.")
        try:
            request = Request(cfg, IterUnreader([bytes(self.buffer)]), self.client, self.requests)
        except (errors.ParseException, errors.NoMoreData, StopIteration, ValueError) as error:
            status = next((status for kind, status in STATUSES if isinstance(error, kind)), 400)
            return refusal(status, "The request is not HTTP that the provider reads.")
        if isinstance(request.body.reader, ChunkedReader):
            return refusal(411, "The request has no Content-Length; the proxy before the provider should send one.")
        # Nobody vouches for what others say, and the clock of another host may be wrong.
        others = {"X-REAL-IP"} if self.is_of_this_host else {"X-REAL-IP", "X-REQUEST-START"}
        if not self.is_local:
            request.headers = [header for header in request.headers if header[0] not in others]
        return request


class Answering:
    """A connection as the thread has it that answers its request, and its socket too: the first byte claims the answer."""

    def __init__(self, conn: Connection) -> None:
        self.sock = self
        self.client, self.server = conn.client, conn.server
        self._sock, self._claim = conn.sock, conn.claim
        self._is_claimed = False

    def sendall(self, data: bytes) -> None:
        """Sends a piece of the answer.

        :raises ConnectionAbortedError: the request is answered already
        """
        if not self._is_claimed and not self._claim.acquire(blocking=False):
            raise ConnectionAbortedError
        self._is_claimed = True
        self._sock.sendall(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


def is_loopback(address: str) -> bool:
    """Whether a TCP connection from there comes from this host."""
    found = ipaddress.ip_address(address.partition("%")[0])
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


class UnreadBody:
    """A body that is not read: of a caller without a token, or longer than any request may be."""

    def read(self, *_size: int) -> bytes:
        """Refuses.

        :raises RequestEntityTooLarge: always
        """
        raise RequestEntityTooLarge

    readline = read
