"""Serving the page: a few requests at a time, each within seconds, as long as it is wanted."""

import socket
import threading
from collections.abc import Callable
from typing import Any

from flask import Flask
from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

SLOTS = 8  # requests at a time; a browser asks for a page and its style
REQUEST_SECONDS = 10.0  # in which the next bytes of a request must come, and those of an answer must be taken
POLL_SECONDS = 1.0  # between two looks at the clock


class Handler(WSGIRequestHandler):
    """One connection, which carries one request. Writes no log: the address of the link is a secret."""

    timeout = REQUEST_SECONDS

    def log(self, *_: object, **__: object) -> None:
        """See :class:`WSGIRequestHandler`."""

    def version_string(self) -> str:
        """The header Server, without the release of anything."""
        return "ucloud-slurm"

    def address_string(self) -> str:
        """See :class:`WSGIRequestHandler`; a Unix socket has no address."""
        return "local"


class Server(ThreadedWSGIServer):
    """The server of one page."""

    daemon_threads = True

    def __init__(self, listening: socket.socket, app: Flask) -> None:
        """Serves nothing yet.

        :param listening: on a port of 127.0.0.1, or a Unix socket
        """
        local = listening.family == socket.AF_UNIX
        host, port = (f"unix://{listening.getsockname()}", 0) if local else listening.getsockname()
        super().__init__(host, port, app, Handler, fd=listening.fileno())
        self._slots = threading.BoundedSemaphore(SLOTS)

    def serve_while(self, wanted: Callable[[], bool], every: float = POLL_SECONDS) -> None:
        """Serves as long as that is wanted.

        :param every: it is asked after each request, and when none has come for so many seconds
        """
        self.timeout = every
        while wanted():
            self.handle_request()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serves a connection in a thread; closes one that is too many."""
        if not self._slots.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """See :class:`ThreadedWSGIServer`."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """See :class:`ThreadedWSGIServer`. A browser that has gone away is no error."""
