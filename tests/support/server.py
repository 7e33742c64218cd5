"""gunicorn as it is shipped, with an application of the tests, on a unix socket."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.sandbox.processes import wait_until

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Server:
    """One that runs.

    :ivar address: path of its socket, or host and port
    """

    address: str | tuple[str, int]
    log: Path
    process: "subprocess.Popen[bytes]"

    def connect(self, seconds: float = 30.0) -> socket.socket:
        """A connection that has sent nothing."""
        sock = socket.socket(socket.AF_UNIX if isinstance(self.address, str) else socket.AF_INET)
        sock.settimeout(seconds)
        try:
            sock.connect(self.address)
        except OSError:
            sock.close()
            raise
        return sock

    def ask(self, path: str, token: str = "", body: bytes = b"", headers: str = "", verb: str = "GET") -> tuple[int, str]:
        """Status and text of an answer after which the connection is closed."""
        with self.connect() as sock:
            sock.sendall(head(path, token, len(body), headers, verb) + body)
            return read(sock)


def head(path: str, token: str = "", length: int = 0, headers: str = "", verb: str = "GET", connection: str = "close") -> bytes:
    """The head of a request."""
    more = (f"Authorization: {token}\r\n" if token else "") + (f"Content-Length: {length}\r\n" if length else "") + headers
    return f"{verb} {path} HTTP/1.1\r\nHost: x\r\nConnection: {connection}\r\n{more}\r\n".encode()


def read(sock: socket.socket) -> tuple[int, str]:
    """An answer, to the end of the connection; status 0 where there is none."""
    data = b""
    while piece := sock.recv(65536):
        data += piece
    text = data.decode()
    return (int(text.split(" ", 2)[1]), text) if text else (0, "")


@contextmanager
def running(
    folder: Path,
    *options: str,
    workers: int = 1,
    threads: int = 16,
    files: str | None = None,
    app: str = "tests.support.served_app:app",
    **variables: str,
) -> Iterator[Server]:
    """Starts one with ``etc/gunicorn.conf.py``.

    :param variables: of its environment
    :param files: soft and hard limit on open files, with a colon between them
    """
    path, log = folder / "web.sock", folder / "gunicorn.log"
    command = [sys.executable, "-m", "gunicorn", "-c", str(ROOT / "etc/gunicorn.conf.py"), f"--bind=unix:{path}"]
    command += [f"--workers={workers}", f"--threads={threads}", *options, app]
    if files is not None:
        command[:0] = ["/usr/bin/prlimit", f"--nofile={files}"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=out, stderr=out, env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"} | variables
        )
    server = Server(str(path), log, process)
    try:
        wait_until("the server answers", lambda: _answers(server), seconds=30)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    assert "Traceback" not in log.read_text()


def _answers(server: Server) -> bool:
    try:
        return server.ask("/healthz")[0] == 200
    except OSError:
        return False
