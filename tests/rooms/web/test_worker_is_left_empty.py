"""Whatever connections do, the process that answers them goes on, and holds nothing of them afterwards."""

import os
import random
import signal
import socket
import struct
import threading
from contextlib import suppress
from pathlib import Path

from tests.rooms.web.test_server import CALL, hurried
from tests.sandbox.processes import wait_until
from tests.support.served_app import TOKEN
from tests.support.server import Server, head, read, running
from ucloud_slurm.web.server import budgets

CONNECTIONS = 600
THREADS = 16
LIMITS = {"HEAD_SECONDS": 0.4, "BODY_SECONDS": 0.4, "CLOSE_SECONDS": 0.2, "SEND_SECONDS": 0.3}
FEW = {"MOST_HEADS": 12, "MOST_IDLE": 6, "MOST_CLOSING": 4}
EMPTY = ["1", "1", "0", "1", "0"]  # the request that asks, and nothing else
RESET = struct.pack("ii", 1, 0)
CALLERS = (
    ("/x", "", "X-Real-IP: 192.0.2.1\r\n"),
    ("/x", "", "X-Real-IP: 192.0.2.2\r\n"),
    (CALL, TOKEN, ""),
    ("/_ucloud/authorize", "", "Cookie: a=b\r\nX-UCloud-Session: s\r\n"),
    ("/metrics", "", ""),
    ("/taken", "", ""),
)
NO_REQUESTS = (b"GET / HTTP/1.1\nHost: x\n\n", b"\r\n\r\n", b"\0" * 50, b"a" * 70_000, b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n")


def request(chance: random.Random) -> bytes:
    """A request of any class, or something like one."""
    if chance.random() < 0.1:
        return chance.choice(NO_REQUESTS)
    path, token, headers = chance.choice(CALLERS)
    size, more = chance.choice((0, 0, 0, 5, 70_000, 3_000_000)), chance.choice((0, 0, 0, 1000))
    headers += chance.choice(("", "", "", "Expect: 100-continue\r\n"))
    query, verb = chance.choice(("", "", "?fail=1", "?long=3000000")), chance.choice(("GET", "POST", "HEAD"))
    return head(path + query, token, size + more, headers, verb, chance.choice(("close", "keep-alive"))) + bytes(size)


def visit(server: Server, chance: random.Random) -> None:
    """Sends one or several requests at once, whole or in part, reads of the answers what it likes, and goes."""
    sent = b"".join(request(chance) for _ in range(chance.choice((1, 1, 2, 3))))
    with server.connect(2.0) as sock, suppress(OSError):
        half = chance.randrange(len(sent) + 1)
        sock.sendall(sent[:half])
        if chance.random() < 0.7:
            sock.sendall(sent[half:])
        match chance.randrange(5):
            case 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            case 1:
                sock.shutdown(socket.SHUT_WR)
            case 2:
                sock.recv(100)
            case 3:
                while sock.recv(65536):
                    pass


def held(server: Server) -> list[str]:
    """See :func:`tests.support.served_app.held`."""
    return server.ask("/held")[1].rpartition("\r\n")[2].split()


def test_random_connections_leave_nothing_behind(tmp_path: Path) -> None:
    with running(tmp_path, *hurried(tmp_path, **LIMITS, **FEW), "--keep-alive=1") as server:
        *_, descriptors = held(server)
        chances = iter([random.Random(seed) for seed in range(CONNECTIONS)])

        def visit_all() -> None:
            for chance in chances:
                visit(server, chance)

        threads = [threading.Thread(target=visit_all) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_until("all of it is given back", lambda: held(server) == [*EMPTY, descriptors], seconds=30)
        assert server.log.read_text().count("Booting worker") == 1


def test_a_connection_that_has_to_go_while_it_sends_does_not_end_the_process(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        (pid,) = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
        half = [server.connect() for _ in range(budgets.MOST_HEADS + 1)]
        assert half[0].recv(1) == b"", "all others wait"
        os.kill(int(pid), signal.SIGSTOP)  # both events are there when it looks again
        stopped = Path(f"/proc/{pid}/stat")
        wait_until("it has stopped", lambda: stopped.read_text().rpartition(") ")[2][0] == "T", seconds=20)
        half.append(server.connect())
        half[1].sendall(b"G")
        os.kill(int(pid), signal.SIGCONT)
        half[-1].sendall(head(CALL, TOKEN))
        assert read(half[-1])[0] == 200
        for sock in half:
            sock.close()
        assert server.log.read_text().count("Booting worker") == 1


def test_a_host_that_gives_no_thread_costs_the_request_and_not_the_process(tmp_path: Path) -> None:
    options = hurried(tmp_path, MOST_HEADS=100)
    with (tmp_path / "hurried.py").open("a") as more:
        more.write(
            "\nfrom ucloud_slurm.system import executor\nbefore = executor.threading.Thread.start\n"
            "def start(self):\n"
            "    from pathlib import Path\n"
            f'    if Path({str(tmp_path / "none")!r}).exists():\n        raise RuntimeError("can\'t start new thread")\n'
            "    before(self)\n"
            "executor.threading.Thread.start = start\n"
        )
    with running(tmp_path, *options) as server:
        (tmp_path / "none").touch()
        for _ in range(3):
            status, text = server.ask(CALL, TOKEN, b"abc", verb="POST")
            assert (status, "Retry-After" in text) == (500, True)
        (tmp_path / "none").unlink()
        assert server.ask(CALL, TOKEN)[0] == 200
        assert held(server)[:5] == EMPTY
        assert server.log.read_text().count("Booting worker") == 1
