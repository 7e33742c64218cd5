"""HTTP over a unix socket, as a proxy speaks it with the service."""

import http.client
import socket
from pathlib import Path


class UnixConnection(http.client.HTTPConnection):
    """A connection to the service that listens at a path."""

    def __init__(self, path: Path | str, timeout: float = 30.0) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def get(path: Path | str, url: str, timeout: float = 30.0) -> tuple[int, str]:
    """Status and text of an answer.

    :raises OSError: nobody answers
    """
    connection = UnixConnection(path, timeout)
    try:
        connection.request("GET", url)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()
