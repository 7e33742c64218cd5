"""A program that sends requests, as one client or as many at once, and says how long each answer took.

A process of its own that imports little: what it costs is not part of the service. A question is a line of JSON, and
so is its answer. Each client has one connection, which is made before the clock starts, and stays open.
"""

import json
import re
import socket
import sys
import threading
import time
from typing import Any

PATIENCE = 60.0


class Client:
    """One connection, and what came over it."""

    def __init__(self, host: str, port: int, bodies: list[bytes]) -> None:
        self._bodies = bodies
        self._socket = socket.create_connection((host, port), PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.took: list[float] = []
        self.wrong: list[str] = []
        self.begun = self.ended = 0.0

    def run(self) -> None:
        """Sends the requests one after the other."""
        self.begun = time.perf_counter()
        for request in self._bodies:
            begun = time.perf_counter()
            try:
                status, body = self._ask(request)
            except OSError as error:
                self.wrong.append(f"no answer: {error}")
                break
            self.took.append((time.perf_counter() - begun) * 1000)
            if status != 200:
                self.wrong.append(f"{status}: {body[:300].decode(errors='replace')}")
        self.ended = time.perf_counter()
        self._socket.close()

    def _ask(self, request: bytes) -> tuple[int, bytes]:
        self._socket.sendall(request)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self._more()
        head, _, body = answer.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        while length is not None and len(body) < int(length[1]):
            body += self._more()
        return int(head.split(b" ", 2)[1]), body

    def _more(self) -> bytes:
        part = self._socket.recv(65536)
        if not part:
            raise ConnectionError("the connection was closed")
        return part


def measured(host: str, port: int, path: str, headers: dict[str, str], bodies: list[str], clients: int) -> Any:
    """Shares the bodies among the clients, and lets them begin together.

    :returns: begin and end by the clock of the machine in seconds, the time of each answer in ms, what was wrong, and
        the seconds of a processor that all of this took here
    """
    raw = [_request(host, path, headers, body.encode()) for body in bodies]
    all_ = [Client(host, port, raw[number::clients]) for number in range(clients)]
    spent = time.process_time()
    if clients == 1:
        all_[0].run()
    else:
        start = threading.Barrier(clients)
        threads = [threading.Thread(target=_together, args=(start, client)) for client in all_]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return {
        "begun": min(client.begun for client in all_),
        "ended": max(client.ended for client in all_),
        "took": [took for client in all_ for took in client.took],
        "wrong": [text for client in all_ for text in client.wrong],
        "spent": time.process_time() - spent,
    }


def _together(start: threading.Barrier, client: Client) -> None:
    start.wait()
    client.run()


def _request(host: str, path: str, headers: dict[str, str], body: bytes) -> bytes:
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def main() -> None:
    """Answers until there is no further question."""
    for question in sys.stdin:
        print(json.dumps(measured(**json.loads(question))), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
