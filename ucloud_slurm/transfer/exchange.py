"""One request and its answer, as the file unit sees them (PEP 3333): no framework, because bytes are all it moves.

Bodies and files pass gunicorn by: they are read from the connection and sent to it directly.
"""

import html
import os
import select
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from ucloud_slurm.errors import Forbidden

STALL_SECONDS = 120.0  # for which a client may take nothing; the proxy gives up earlier
SEND_BYTES = 1024 * 1024  # that are handed to the kernel at a time
RECEIVE_BYTES = 128 * 1024  # that a request has in memory: with twice as much a hundred of them come close to 80 MiB
LARGEST_DRAINED_BYTES = 32 * 1024 * 1024

Header = tuple[str, str]
Write = Callable[[bytes], object]
StartResponse = Callable[[str, list[Header]], Write]

_SAFE: Sequence[Header] = (
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Content-Security-Policy", "sandbox; default-src 'none'; style-src 'unsafe-inline'"),
)
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><meta name="viewport" content="width=device-width">
<style>body{{font:18px/1.5 sans-serif;margin:15vh auto;max-width:34em;padding:0 1em;color:#222}}</style>
</head><body><h1>{title}</h1><p>{text}</p></body></html>
"""


class ClientGoneError(Exception):
    """The client has closed the connection, or does not read; there is nobody to answer."""


class Origins(NamedTuple):
    """The pages that may use what is here.

    :ivar known: origins of UCloud's web pages
    """

    known: frozenset[str]

    @classmethod
    def of(cls, urls: Iterable[str]) -> "Origins":
        """Those of these URLs."""
        return cls(frozenset(origin for url in urls if (origin := _origin(url)) is not None))

    def allowed(self, origin: str | None) -> str | None:
        """The origin, if it is one of them."""
        return origin if origin is not None and _origin(origin) in self.known else None


def _origin(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return None
    return f"{parts.scheme}://{parts.hostname or ''}:{port}"


class Exchange:
    """A request, and its answer, which is given once."""

    def __init__(self, environ: Mapping[str, Any], start_response: StartResponse, origins: Origins) -> None:
        self._environ = environ
        self._start = start_response
        self._unread = number(environ.get("CONTENT_LENGTH")) or 0
        self.origin: str | None = environ.get("HTTP_ORIGIN")
        self.allowed_origin = origins.allowed(self.origin)
        self.verb: str = environ["REQUEST_METHOD"]
        self.path: str = environ.get("PATH_INFO", "")
        self.length = number(environ.get("CONTENT_LENGTH"))
        self.answered = False

    def header(self, name: str) -> str | None:
        """A header of the request."""
        value = self._environ.get(f"HTTP_{name.upper().replace('-', '_')}")
        return None if value is None else str(value)

    def check_origin(self) -> None:
        """Refuses pages of other sites than UCloud; programs send no origin.

        :raises Forbidden: the origin is not known
        """
        if self.origin is not None and self.allowed_origin is None:
            raise Forbidden("This page may not send files to the provider (see ucloud.origins).")

    @property
    def token(self) -> str:
        """The token in the address."""
        return parse_qs(str(self._environ.get("QUERY_STRING", ""))).get("token", [""])[0]

    @property
    def socket(self) -> socket.socket | None:
        """The connection of the client."""
        found = self._environ.get("gunicorn.socket")
        return found if isinstance(found, socket.socket) else None

    def body(self) -> Iterator[memoryview]:
        """The body of the request, in pieces, each of which is valid until the next is asked for.

        It may end early, where the client has gone. Through ``wsgi.input`` each byte would be copied several times.
        """
        if self._unread:
            held = memoryview(self._environ["wsgi.input"].reader.unreader.take_buffered())[: self._unread]
            self._unread -= len(held)
            yield held
        room = memoryview(bytearray(min(self._unread, RECEIVE_BYTES)))
        while self._unread:
            size = self._receive(room[: self._unread])
            self._unread = self._unread - size if size else 0
            yield room[:size]

    def _receive(self, room: memoryview) -> int:
        """How many bytes came; 0 where the client has gone."""
        try:
            return self.socket.recv_into(room) if self.socket is not None else 0
        except OSError:
            return 0

    def _drain(self) -> None:
        """Reads what is left of the body: a connection that is closed before loses its answer."""
        if self._unread <= LARGEST_DRAINED_BYTES:
            for _ in self.body():
                pass

    def head(self, status: int, headers: Sequence[Header]) -> None:
        """Sends the head of the answer."""
        self._begin(status, headers)(b"")

    def _begin(self, status: int, headers: Sequence[Header]) -> Write:
        allowed = [("Access-Control-Allow-Origin", self.allowed_origin)] if self.allowed_origin is not None else []
        self.answered = True
        every = [*_SAFE, ("Vary", "Origin"), *allowed, *headers]
        return self._start(f"{status} {HTTPStatus(status).phrase}", every)

    def answer(self, status: int, content_type: str, text: str, headers: Sequence[Header] = ()) -> list[bytes]:
        """A whole answer, also for a client that is still sending."""
        self._drain()
        body = text.encode()
        self._begin(status, [("Content-Type", content_type), ("Content-Length", str(len(body))), *headers])
        return [] if self.verb == "HEAD" else [body]

    def page(self, status: int, title: str, text: str) -> list[bytes]:
        """A small page for somebody whose browser has left UCloud."""
        page = _PAGE.format(title=html.escape(title), text=html.escape(text))
        again = [("Retry-After", "60")] if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE) else []
        return self.answer(status, "text/html; charset=utf-8", page, again)

    def send_file(self, descriptor: int, offset: int, length: int, progress: Callable[[int], object]) -> int:
        """Sends a part of a file after the head.

        :param progress: is called with how many bytes have been sent, after each piece
        :returns: how many bytes were sent: fewer where the file has become shorter
        :raises ClientGoneError: the client has closed the connection, or takes nothing
        """
        sock = self.socket
        if sock is None:
            raise ClientGoneError("the server has no socket")
        sock.setblocking(False)
        poll = select.poll()
        poll.register(sock, select.POLLOUT)
        sent = 0
        while sent < length:
            until = time.monotonic() + STALL_SECONDS
            try:
                piece = os.sendfile(sock.fileno(), descriptor, offset + sent, min(length - sent, SEND_BYTES))
            except BlockingIOError:
                if not poll.poll((until - time.monotonic()) * 1000):
                    raise ClientGoneError("the client takes nothing") from None
                continue
            except (BrokenPipeError, ConnectionResetError):
                raise ClientGoneError("the client has closed the connection") from None
            if piece == 0:
                break
            sent += piece
            progress(sent)
        return sent


def number(text: object) -> int | None:
    """A number of bytes in a header; None where there is none, or none that is possible."""
    return int(text) if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 19 else None
