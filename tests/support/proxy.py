"""An HTTP proxy on a port of this host: CONNECT, and requests with a whole URL."""

import base64
import re
import select
import socket
import threading
from contextlib import suppress

PATIENCE = 20.0  # seconds
REQUEST = re.compile(rb"([A-Z]+) (?:http://)?([^/: ]+):([0-9]+)(\S*) (HTTP/1\.[01]\r\n)")


class Proxy:
    """A proxy that counts.

    :ivar asked: method and destination of each request
    """

    def __init__(self, credentials: str | None = None) -> None:
        """Listens.

        :param credentials: user:password without which it answers 407
        """
        self._wanted = f"Basic {base64.b64encode(credentials.encode()).decode()}".encode() if credentials else None
        self.asked: list[tuple[str, str]] = []
        self._taken: list[tuple[socket.socket, threading.Thread]] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._serving = threading.Thread(target=self._serve, daemon=True)
        self._serving.start()

    def close(self) -> None:
        """Ends all connections. Each socket is closed by the thread that reads it, and by no other."""
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._serving.join(PATIENCE)
        for client, thread in self._taken:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE)

    def _serve(self) -> None:
        with self._listening, suppress(OSError):  # it is shut down
            while True:
                client, _ = self._listening.accept()
                client.settimeout(PATIENCE)
                thread = threading.Thread(target=self._take, args=(client,), daemon=True)
                self._taken.append((client, thread))
                thread.start()

    def _take(self, client: socket.socket) -> None:
        """Serves the first request of a connection; what follows goes where that went."""
        with client, suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                data = client.recv(65536)
                if not data:
                    return
                head += data
            match = REQUEST.match(head)
            assert match is not None, head
            method, host, port, path, version = match.groups()
            self.asked.append((method.decode(), f"{host.decode()}:{port.decode()}"))
            given = re.search(rb"\r\nProxy-Authorization: (\S+ \S+)\r\n", head)
            if self._wanted is not None and (given is None or given[1] != self._wanted):
                client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                client.shutdown(socket.SHUT_WR)
                return
            with socket.create_connection((host.decode(), int(port)), timeout=PATIENCE) as server:
                if method == b"CONNECT":
                    client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                else:
                    server.sendall(method + b" " + path + b" " + version + head[match.end() :])
                _copy(client, server)


def _copy(client: socket.socket, server: socket.socket) -> None:
    while True:
        for source in select.select([client, server], [], [], PATIENCE)[0]:
            data = source.recv(65536)
            if not data:
                return
            (server if source is client else client).sendall(data)
