"""A program that sends many requests in the same instant, each over a connection of its own, and has patience as UCloud has.

A process of its own with one thread, so that it does not wait for itself. Question and answer are lines of JSON.
"""

import json
import re
import selectors
import socket
import sys
import time
from typing import Any


class Call:
    """One request, from the connection to the answer."""

    def __init__(self, request: bytes) -> None:
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.rest = request
        self.answer = b""
        self.seconds: float | None = None

    @property
    def whole(self) -> bool:
        """Whether the answer is there."""
        head, end, body = self.answer.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        return bool(end) and (length is None or len(body) >= int(length[1]))

    def result(self) -> dict[str, Any]:
        """Status (0: no answer in time), text, and the seconds from the connection to the answer."""
        if self.seconds is None:
            return {"status": 0, "text": "", "seconds": None}
        head, _, body = self.answer.partition(b"\r\n\r\n")
        return {"status": int(head.split(b" ", 2)[1]), "text": body.decode(), "seconds": self.seconds}


def crowd(host: str, port: int, path: str, headers: dict[str, str], bodies: list[str], patience: float) -> list[dict[str, Any]]:
    """Sends all bodies at once.

    :param patience: seconds from the beginning, after which those without an answer are given up
    """
    headers |= {"X-Request-Start": f"{time.time():.3f}"}  # as a proxy says it
    calls = [Call(_request(host, path, headers, body.encode())) for body in bodies]
    begun = time.monotonic()
    with selectors.DefaultSelector() as waiting:
        for call in calls:
            call.sock.connect_ex((host, port))
            waiting.register(call.sock, selectors.EVENT_WRITE, call)
        while waiting.get_map() and (left := begun + patience - time.monotonic()) > 0:
            for key, _ in waiting.select(left):
                if not _advance(key.data, waiting, begun):
                    waiting.unregister(key.data.sock)
                    key.data.sock.close()
        for key in list(waiting.get_map().values()):
            key.data.sock.close()
    return [call.result() for call in calls]


def _advance(call: Call, waiting: selectors.BaseSelector, begun: float) -> bool:
    """Writes or reads what can be; False when the call is over."""
    try:
        if call.rest:
            call.rest = call.rest[call.sock.send(call.rest) :]
            if not call.rest:
                waiting.modify(call.sock, selectors.EVENT_READ, call)
            return True
        data = call.sock.recv(65536)
    except OSError:
        return False
    call.answer += data
    if call.whole:
        call.seconds = time.monotonic() - begun
        return False
    return bool(data)


def _request(host: str, path: str, headers: dict[str, str], body: bytes) -> bytes:
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def main() -> None:
    """Answers until there is no further question."""
    for question in sys.stdin:
        sys.stdout.write(json.dumps(crowd(**json.loads(question))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
