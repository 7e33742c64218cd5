"""A proxy between UCloud and the provider that loses, spoils and repeats what it carries. One request a connection."""

import random
import re
import select
import socket
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass

PATIENCE = 30.0
BUFFER = 65536
HTML = b"<!DOCTYPE html><html><body>Please sign in.</body></html>"
LENGTH = re.compile(rb"(?im)^content-length:\s*(\d+)\s*$")
CONNECTION = re.compile(rb"(?im)^(connection|keep-alive):[^\r\n]*\r\n")
ID = re.compile(rb'"id":\s*"(\d+)"')
TO_UCLOUD = ("unsent", "answer lost", "half an answer", "twice", "HTML", "429", "503", "502", "slow")
TO_PROVIDER = ("unsent", "answer lost", "twice", "twice at once", "slow")
ONCE = "/approveConnection"
"""UCloud ends at the second of two; a provider sends it once after each clearing, whatever a network makes of that."""
CANNED = {
    "HTML": b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b"
    % (len(HTML), HTML),
    "429": b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    "503": b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    "502": b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    "400": b'HTTP/1.1 400 Bad Request\r\nContent-Length: 21\r\nConnection: close\r\n\r\n{"why":"Bad request"}',
}


@dataclass(frozen=True, slots=True)
class Request:
    """A request as bytes. ``Connection: close`` is in its head."""

    head: bytes
    body: bytes

    @property
    def line(self) -> str:
        """Verb and path."""
        return " ".join(self.head.partition(b"\r\n")[0].decode(errors="replace").split()[:2])


class Wire:
    """The proxy in front of one server.

    :ivar url: where it is reached
    :ivar part: of the requests that meet a fault
    :ivar met: how often each fault was met
    """

    def __init__(self, target: str, faults: tuple[str, ...], chance: random.Random) -> None:
        """Listens.

        :param target: URL of the server, without a path
        :param faults: what requests may meet
        :param chance: says which does
        """
        self._chance = chance
        host, _, port = target.removeprefix("http://").partition(":")
        self._target = (host, int(port))
        self._faults = faults
        self._armed: list[tuple[str, str]] = []
        self._refused: set[str] = set()
        self._lock = threading.Lock()
        self._over = threading.Event()
        self.part = 0.0
        self.met: Counter[str] = Counter()
        self._door = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.url = f"http://127.0.0.1:{self._door.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Takes no connection any more."""
        self._over.set()
        with suppress(OSError):
            self._door.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE)
        self._door.close()

    def arm(self, fault: str, path: str = "") -> None:
        """The next request whose line ends with this meets the fault."""
        with self._lock:
            self._armed.append((fault, path))

    def refuse(self, job_id: str) -> None:
        """Every bulk with an update of this job is refused."""
        with self._lock:
            self._refused.add(job_id)

    def clear(self) -> None:
        """No fault any more."""
        self.part = 0.0
        with self._lock:
            self._armed.clear()
            self._refused.clear()

    def _take(self, request: Request) -> str | None:
        with self._lock:
            if request.line.endswith("/jobs/control/update") and self._refused & {
                each.decode() for each in ID.findall(request.body)
            }:
                self.met["item refused"] += 1
                return "400"
            for place, (fault, path) in enumerate(self._armed):
                if request.line.endswith(path):
                    del self._armed[place]
                    self.met[fault] += 1
                    return fault
            if self._chance.random() < self.part:
                fault = self._chance.choice(self._faults)
                if fault == "twice" and request.line.endswith(ONCE):
                    fault = "answer lost"
                self.met[fault] += 1
                return fault
        return None

    def _serve(self) -> None:
        while not self._over.is_set():
            try:
                client, _ = self._door.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            client.settimeout(PATIENCE)
            head = _until(client, b"\r\n\r\n")
            if head is None:
                return
            start, _, rest = head.partition(b"\r\n\r\n")
            if b"upgrade: websocket" in start.lower():
                self._splice(client, head)
                return
            request = _whole(client, start, rest)
            if request is not None:
                self._answer(client, request)

    def _answer(self, client: socket.socket, request: Request) -> None:
        fault = self._take(request)
        if fault == "unsent":
            return
        if fault in CANNED:
            client.sendall(CANNED[fault])
            return
        if fault == "twice at once":
            threading.Thread(target=self._ask, args=(request,), daemon=True).start()
        elif fault == "twice":
            self._ask(request)
        answer = self._ask(request)
        if fault == "slow":
            self._over.wait(3.0)
        if fault == "half an answer":
            answer = answer[: len(answer) * 2 // 3]
        if fault != "answer lost":
            client.sendall(answer)

    def _ask(self, request: Request) -> bytes:
        """The whole answer; nothing where there is none."""
        pieces = []
        with suppress(OSError), socket.create_connection(self._target, timeout=PATIENCE) as server:
            server.sendall(request.head + request.body)
            while piece := server.recv(BUFFER):
                pieces.append(piece)
        return b"".join(pieces)

    def _splice(self, client: socket.socket, first: bytes) -> None:
        with socket.create_connection(self._target, timeout=PATIENCE) as server:
            server.sendall(first)
            while not self._over.is_set():
                for source in select.select([client, server], [], [], 1.0)[0]:
                    data = source.recv(BUFFER)
                    if not data:
                        return
                    (server if source is client else client).sendall(data)


def _until(source: socket.socket, mark: bytes) -> bytes | None:
    data = b""
    while mark not in data:
        piece = source.recv(BUFFER)
        if not piece:
            return None
        data += piece
    return data


def _whole(source: socket.socket, start: bytes, body: bytes) -> Request | None:
    length = LENGTH.search(start + b"\r\n")
    wanted = int(length[1]) if length else 0
    while len(body) < wanted:
        piece = source.recv(BUFFER)
        if not piece:
            return None
        body += piece
    return Request(CONNECTION.sub(b"", start + b"\r\n") + b"Connection: close\r\n\r\n", body)
