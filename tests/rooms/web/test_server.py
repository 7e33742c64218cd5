"""Nobody who may connect to the web service stops the others: half requests, floods, drips, and who may not connect."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
from gunicorn.config import Config

from tests.sandbox.processes import wait_until
from tests.support.served_app import TOKEN
from tests.support.server import Server, head, read, running
from ucloud_slurm.web.server import budgets
from ucloud_slurm.web.server.budgets import Budgets, Waiting, shares
from ucloud_slurm.web.server.connection import Answering, Connection
from ucloud_slurm.web.server.peers import is_allowed
from ucloud_slurm.web.server.pool import Overdue
from ucloud_slurm.web.server.requests import Caller, RequestClass, arrival, caller, head_ends, refusal

CALL = "/ucloud/example/jobs"
QUICK = 5.0  # generous: a call takes milliseconds


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("server")) as server:
        yield server


def quick_call(server: Server) -> None:
    begun = time.monotonic()
    assert server.ask(CALL, TOKEN)[0] == 200
    assert time.monotonic() - begun < QUICK


# ---- what is not whole costs no thread


@pytest.mark.parametrize("sent", [b"", b"GET ", head(CALL, TOKEN, 100, verb="POST"), head(CALL, TOKEN)[:-2]], ids=repr)
def test_half_open_connections_do_not_stop_calls(server: Server, sent: bytes) -> None:
    half = [server.connect() for _ in range(200)]
    for sock in half:
        sock.sendall(sent)
    quick_call(server)
    for sock in half:
        sock.close()
    quick_call(server)


def test_of_too_many_half_requests_the_oldest_go(server: Server) -> None:
    half = [server.connect() for _ in range(budgets.MOST_HEADS + 1)]
    assert half[0].recv(1) == b""
    half[-1].sendall(head(CALL, TOKEN))
    assert read(half[-1])[0] == 200
    for sock in half:
        sock.close()


def test_a_request_in_small_pieces_is_one_request(server: Server) -> None:
    with server.connect() as sock:
        for byte in head(CALL, TOKEN, 3, verb="POST") + b"abc":
            sock.sendall(bytes([byte]))
        status, text = read(sock)
    assert (status, text[-1]) == (200, "3")


def test_requests_that_come_at_once_are_answered_one_after_the_other(server: Server) -> None:
    with server.connect() as sock:
        first = head(CALL, TOKEN, 5, verb="POST", connection="keep-alive") + b"12345"
        sock.sendall(first + head(CALL, TOKEN, 2, verb="POST") + b"12")
        text = read(sock)[1]
    assert text.count("200 OK") == 2
    assert text.index("\r\n\r\n5") < text.index("\r\n\r\n2")


def test_who_sends_slowly_is_told_and_who_sends_nothing_is_not(tmp_path: Path) -> None:
    with running(tmp_path, *hurried(tmp_path, HEAD_SECONDS=0.2, BODY_SECONDS=0.2)) as server:
        answers = []
        for sent in (b"", b"GET ", head(CALL, TOKEN, 5, verb="POST") + b"a"):
            with server.connect() as sock:
                sock.sendall(sent)
                answers.append(read(sock))
        assert [status for status, _ in answers] == [0, 408, 408]
        assert '"why": "The request was sent too slowly."' in answers[2][1]
        quick_call(server)


def processor_seconds(server: Server) -> float:
    """What the only process that answers has used."""
    (pid,) = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_process_without_descriptors_is_not_replaced(tmp_path: Path) -> None:
    with running(tmp_path, files="100:100") as server:
        socks = [server.connect() for _ in range(200)]
        wait_until("it notices", lambda: "no connection can be accepted" in server.log.read_text(), seconds=20)
        before = processor_seconds(server)
        socks[0].settimeout(2.0)
        with pytest.raises(TimeoutError):
            socks[0].recv(1)
        assert processor_seconds(server) - before < 0.5, "meanwhile it does not try again and again"
        for sock in socks:
            sock.close()
        assert server.ask(CALL, TOKEN)[0] == 200
        assert server.log.read_text().count("Booting worker") == 1


def test_a_process_may_have_as_many_descriptors_as_the_site_allows(tmp_path: Path) -> None:
    with running(tmp_path, files="200:5000") as server:
        assert server.ask(f"{CALL}?files=1", TOKEN)[1].endswith("\r\n\r\n5000")
        limits = Path(f"/proc/{server.process.pid}/limits").read_text()
        assert "Max open files            200 " in limits, "what starts the processes keeps its own"


# ---- each class has its own threads and room


def occupy(server: Server, tmp_path: Path, number: int, path: str, token: str, headers: str = "") -> list[socket.socket]:
    """Requests that are answered when the file appears."""
    socks = [server.connect() for _ in range(number)]
    for sock in socks:
        sock.sendall(head(f"{path}?wait={tmp_path}/go&begun={tmp_path}/begun", token, headers=headers))
    wait_until("one is being answered", (tmp_path / "begun").exists, seconds=20)
    return socks


def test_strangers_who_take_all_they_may_do_not_stop_calls_and_get_429(server: Server, tmp_path: Path) -> None:
    most = shares(16, 1)[RequestClass.STRANGER].waiting_each
    socks = occupy(server, tmp_path, most, CALL, "Bearer bad", "X-Real-IP: 192.0.2.1\r\n")
    status, text = server.ask(CALL, "Bearer bad", headers="X-Real-IP: 192.0.2.1\r\n")
    assert (status, "Retry-After: 2" in text, '"why": "The provider has as many' in text) == (429, True, True)
    for path in (CALL, "/healthz", "/_ucloud/authorize"):
        assert server.ask(path, TOKEN if path == CALL else "", headers="Cookie: a=b\r\n")[0] == 200
    another = server.connect()  # has a thread of the strangers for itself
    another.sendall(head(CALL, headers="X-Real-IP: 192.0.2.2\r\n"))
    assert read(another)[0] == 200
    (tmp_path / "go").touch()
    assert {read(sock)[0] for sock in socks} == {200}
    for sock in (*socks, another):
        sock.close()
    assert server.ask(CALL, "Bearer bad", headers="X-Real-IP: 192.0.2.1\r\n")[0] == 200, "the room is given back"


def test_browsers_who_take_all_they_may_do_not_stop_calls(server: Server, tmp_path: Path) -> None:
    headers = [f"Cookie: a=b\r\nX-UCloud-Session: s{number}\r\n" for number in range(8)]
    socks = [sock for each in headers for sock in occupy(server, tmp_path, 4, "/_ucloud/authorize", "", each)]
    quick_call(server)
    assert server.ask("/healthz")[0] == 200
    (tmp_path / "go").touch()
    assert {read(sock)[0] for sock in socks} == {200}
    for sock in socks:
        sock.close()


def test_browsers_at_one_address_leave_room_for_others_whatever_sessions_they_name(server: Server, tmp_path: Path) -> None:
    def headers(session: str, address: str) -> str:
        return f"Cookie: a=b\r\nX-UCloud-Session: {session}\r\nX-Real-IP: {address}\r\n"

    half = shares(16, 1)[RequestClass.BROWSER].waiting // 2
    attacks = [headers(f"s{number}", f"2001:db8::{number:x}") for number in range(half)]
    socks = [sock for each in attacks for sock in occupy(server, tmp_path, 1, "/_ucloud/authorize", "", each)]
    assert server.ask("/_ucloud/authorize", headers=headers("another", "2001:db8::1"))[0] == 429
    another = server.connect()
    another.sendall(head("/_ucloud/authorize", headers=headers("own", "2001:db8:1::1")))
    (tmp_path / "go").touch()
    assert {read(sock)[0] for sock in (*socks, another)} == {200}
    for sock in (*socks, another):
        sock.close()


def test_a_request_has_arrived_when_its_first_byte_came_not_when_a_thread_is_free(server: Server, tmp_path: Path) -> None:
    socks = occupy(server, tmp_path, shares(16, 1)[RequestClass.UCLOUD].threads, CALL, TOKEN)
    before, waiting = time.monotonic(), server.connect()
    waiting.sendall(head(f"{CALL}?arrived=", TOKEN, 3, verb="POST"))
    for _ in range(2):  # the event loop has looked at the other one meanwhile
        assert server.ask("/healthz")[0] == 200
    after = time.monotonic()
    waiting.sendall(b"abc")
    (tmp_path / "go").touch()
    assert before <= float(read(waiting)[1].rpartition("\r\n")[2]) <= after
    for sock in (*socks, waiting):
        sock.close()


def test_a_request_has_arrived_when_the_proxy_sent_it(server: Server) -> None:
    sent = f"X-Request-Start: {time.time() - 1.5:.3f}\r\n"
    before = time.monotonic()
    arrived = float(server.ask(f"{CALL}?arrived=", TOKEN, headers=sent)[1].rpartition("\r\n")[2])
    assert before - 1.6 < arrived <= time.monotonic() - 1.4


@pytest.mark.parametrize("sent", [None, "", "soon", "nan", "1000.5", "5000", "t=999"])
def test_what_a_proxy_says_of_the_time_and_cannot_be_is_not_believed(sent: str | None) -> None:
    assert arrival(sent, seen=50.0, now=1000.0, monotonic=50.2) == 50.0


@pytest.mark.parametrize(
    ("address", "believed"),
    [("127.0.0.1", True), ("::1", True), ("::ffff:127.0.0.1", True), ("192.0.2.1", False), ("fe80::1%eth0", False)],
)
def test_only_a_proxy_on_this_host_is_believed_about_the_time(address: str, believed: bool) -> None:
    with socket.socket() as sock:
        conn = Connection(sock, (address, 5), ("127.0.0.1", 80))
        conn.buffer += b"GET / HTTP/1.1\r\nHost: x\r\nX-Request-Start: 1.5\r\nX-Real-IP: 192.0.2.9\r\n\r\n"
        names = [name for name, _ in conn.parse(Config()).headers]
    assert names == ["HOST", *(["X-REQUEST-START"] if believed else [])]


def hurried(folder: Path, **seconds: float) -> list[str]:
    """Options with which gunicorn has other time limits."""
    lines = [f"budgets.{name} = {value}" for name, value in seconds.items()]
    text = ["from ucloud_slurm.web.server import budgets", *lines, "from ucloud_slurm.web.server.worker import Worker"]
    (folder / "hurried.py").write_text("\n".join(text))
    return [f"--pythonpath={folder}", "--worker-class=hurried.Worker"]


def test_who_does_not_read_an_answer_loses_the_connection_and_holds_no_thread_of_others(tmp_path: Path) -> None:
    with running(tmp_path, *hurried(tmp_path, SEND_SECONDS=0.2)) as server:
        socks = [server.connect() for _ in range(20)]
        for sock in socks:
            sock.sendall(head("/link?long=20000000", headers="X-Real-IP: 192.0.2.1\r\n"))
        quick_call(server)
        assert server.ask("/link", headers="X-Real-IP: 192.0.2.1\r\n")[0] == 200, "its other requests are answered as well"
        for sock in socks:
            sock.close()


def test_a_body_of_a_stranger_is_not_read(server: Server) -> None:
    size = 3 * 1024 * 1024
    with server.connect() as sock:
        sock.sendall(head(CALL, "Bearer bad", size, verb="POST"))
        assert read(sock)[0] == 413
    assert server.ask(CALL, TOKEN, b"x" * size, verb="POST")[1].endswith(str(size))


def test_a_refused_request_does_not_become_the_next_one(server: Server) -> None:
    with server.connect() as sock:
        inner = head("/healthz")
        sock.sendall(head(CALL, "", 100_000, verb="POST", connection="keep-alive") + inner * 1000)
        assert read(sock)[1].count("HTTP/1.1") == 1


# ---- calls that are overdue


@pytest.fixture
def hurry(tmp_path: Path) -> Iterator[Server]:
    """One that answers each call of UCloud within 0.3 s, whatever its thread waits for."""
    with running(tmp_path, ANSWER_WITHIN="0.3") as server:
        yield server
        (tmp_path / "go").touch()  # a stop waits for threads


def ask_stuck(server: Server, tmp_path: Path, number: int) -> list[tuple[int, str]]:
    """The answers to calls whose threads wait until the file appears."""
    socks = occupy(server, tmp_path, number, CALL, TOKEN)
    answers = [read(sock) for sock in socks]
    for sock in socks:
        sock.close()
    return answers


def test_a_call_whose_thread_does_not_come_back_is_answered_in_time(hurry: Server, tmp_path: Path) -> None:
    begun = time.monotonic()
    ((status, text),) = ask_stuck(hurry, tmp_path, 1)
    assert status == 500
    assert '"why": "The provider waits for something that does not answer' in text
    assert text.count("HTTP/1.1") == 1
    assert 0.3 <= time.monotonic() - begun < QUICK
    quick_call(hurry)


def test_calls_that_wait_for_a_thread_are_answered_in_time_and_then_nobody_waits(hurry: Server, tmp_path: Path) -> None:
    threads = shares(16, 1)[RequestClass.UCLOUD].threads
    assert {status for status, _ in ask_stuck(hurry, tmp_path, 4 * threads)} == {500}
    before = time.monotonic()
    assert hurry.ask(CALL, TOKEN)[0] == 500
    assert time.monotonic() - before < 0.3, "no thread would take it"
    assert hurry.ask("/healthz")[0] == 200
    (tmp_path / "go").touch()
    wait_until("the threads are back", lambda: hurry.ask(CALL, TOKEN)[0] == 200, seconds=20)
    held = "{} {} {}".format(*hurry.ask("/held")[1].rpartition("\r\n")[2].split()[:3])
    assert held == "1 1 0", "all room is given back"


def test_what_a_thread_says_too_late_is_sent_to_nobody(hurry: Server, tmp_path: Path) -> None:
    with hurry.connect() as sock:
        sock.sendall(head(f"{CALL}?wait={tmp_path}/go", TOKEN, connection="keep-alive"))
        answer = sock.recv(65536)
        assert answer.startswith(b"HTTP/1.1 500 ")
        (tmp_path / "go").touch()
        assert b"HTTP/1.1 200" not in answer + b"".join(iter(lambda: sock.recv(65536), b""))
    quick_call(hurry)
    assert "unexpected" not in hurry.log.read_text()


def test_either_the_thread_answers_or_the_event_loop() -> None:
    left, right = socket.socketpair()
    with left, right:
        conn = Connection(left, ("127.0.0.1", 5), ("127.0.0.1", 80))
        conn.caller = Caller(RequestClass.UCLOUD, "")
        overdue, late, early = Overdue(1.0, 1), Answering(conn), Future[bool]()
        overdue.add(conn, early, now=0.0)
        assert (overdue.left(0.25), list(overdue.take(0.9))) == (0.75, [])
        assert list(overdue.take(1.0)) == [conn]
        with pytest.raises(ConnectionAbortedError):
            late.sendall(b"too late")
        assert overdue.remove(conn)
        conn.claim = threading.Lock()
        overdue.add(conn, early, now=0.0)
        Answering(conn).sendall(b"in time")
        assert list(overdue.take(9.0)) == []
        assert right.recv(99) == b"in time"
        assert not overdue.remove(conn)


def test_a_call_that_waited_for_a_restart_has_a_second() -> None:
    left, right = socket.socketpair()
    with left, right:
        conn = Connection(left, ("127.0.0.1", 5), ("127.0.0.1", 80))
        conn.caller = Caller(RequestClass.UCLOUD, "")
        overdue = Overdue(2.9, 1)
        overdue.add(conn, Future[bool](), now=4.0)
        assert (overdue.left(4.0), list(overdue.take(4.9)), list(overdue.take(5.0))) == (1.0, [], [conn])


def test_who_is_not_ucloud_waits_as_long_as_it_takes(hurry: Server, tmp_path: Path) -> None:
    socks = occupy(hurry, tmp_path, 1, "/_ucloud/authorize", "", "Cookie: a=b\r\n")
    assert ask_stuck(hurry, tmp_path, 1)[0][0] == 500
    (tmp_path / "go").touch()
    assert read(socks[0])[0] == 200
    socks[0].close()


# ---- what no request is


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\nHost: x\n\n", 400),
        (b"\r\n\r\n", 400),
        (b"GET " + b"a" * 5000, 414),
        (b"GET / HTTP/1.1\r\nA: " + b"a" * 70_000, 431),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 60 + b"\r\n", 431),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: odd\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: \xb2\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nSCRIPT_NAME: /a\r\n\r\n", 200),
    ],
    ids=range(11),
)
def test_what_is_no_request_is_answered_and_costs_nothing(server: Server, sent: bytes, status: int) -> None:
    with server.connect() as sock:
        sock.sendall(sent.replace(b" / ", b" /x "))
        if status == 200:
            sock.shutdown(socket.SHUT_WR)
        answer = read(sock)
    assert answer[0] == status
    assert "Traceback" not in answer[1]
    quick_call(server)


def test_a_mistake_of_the_application_is_one_line_of_the_journal(server: Server) -> None:
    status, text = server.ask(f"{CALL}?fail=1", TOKEN)
    assert (status, '"why": "Internal error' in text) == (500, True)
    assert "unexpected ZeroDivisionError at" in server.log.read_text()


def test_a_body_is_sent_after_100_continue(server: Server) -> None:
    with server.connect() as sock:
        sock.sendall(head(CALL, TOKEN, 3, "Expect: 100-continue\r\n", verb="POST"))
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"abc")
        assert read(sock)[1][-1] == "3"


# ---- who may connect


def connect_as(server: Server, uid: int, groups: list[int]) -> int:
    """The status that a process with another account gets; 0 where it is refused."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 99
        try:
            os.setgroups(groups)
            os.setgid(uid)
            os.setuid(uid)
            status = server.ask("/healthz")[0]
        except OSError:
            status = 0
        finally:
            os.write(writing, bytes([status % 256]))
            os._exit(0)
    os.waitpid(child, 0)
    answer = os.read(reading, 1)[0]
    os.close(reading)
    os.close(writing)
    return answer


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes other accounts")
def test_only_the_group_of_the_socket_may_connect_and_others_are_one_line_a_minute(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        group = 61_001
        path = Path(str(server.address))
        path.chmod(0o777)
        for folder in path.parents:
            folder.chmod(folder.stat().st_mode | 0o011)
        os.chown(path, 0, group)
        server.process.send_signal(1)  # HUP: the new processes see the group
        wait_until("they are new", lambda: server.log.read_text().count("Booting worker") == 2, seconds=20)
        wait_until("the old one is gone", lambda: "exiting" in server.log.read_text(), seconds=20)
        assert connect_as(server, 61_002, [group]) == 200
        assert [connect_as(server, 61_003, []) for _ in range(5)] == [0] * 5
        assert server.log.read_text().count("a process of the uid 61003 connected to") == 1


def test_root_the_service_and_the_group_may_connect() -> None:
    assert is_allowed(0, (), 7, 5)
    assert is_allowed(7, (), 7, 5)
    assert is_allowed(8, (4, 5), 7, 5)
    assert not is_allowed(8, (4, 8), 7, 5)
    assert not is_allowed(8, (4, 8), 7, None)


# ---- reload


def test_a_reload_loses_no_request_and_leaves_the_socket(tmp_path: Path) -> None:
    with running(tmp_path, workers=2) as server:
        inode = Path(str(server.address)).stat().st_ino
        stop, statuses = threading.Event(), list[int]()

        def ask() -> None:
            while not stop.is_set():
                statuses.append(server.ask(CALL, TOKEN)[0])

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        slow = server.connect()
        slow.sendall(head(f"{CALL}?begun={tmp_path}/begun&wait={tmp_path}/go", TOKEN))
        wait_until("a request is under way", (tmp_path / "begun").exists, seconds=20)
        server.process.send_signal(1)
        wait_until("others took over", lambda: server.log.read_text().count("Booting worker") == 4, seconds=20)
        (tmp_path / "go").touch()
        assert read(slow)[0] == 200
        wait_until("the old ones are gone", lambda: server.log.read_text().count("Worker exiting") == 2, seconds=30)
        stop.set()
        for thread in threads:
            thread.join()
        slow.close()
        assert set(statuses) == {200}
        assert Path(str(server.address)).stat().st_ino == inode


def test_processes_start_while_the_socket_has_been_deleted_and_what_is_connected_stays(tmp_path: Path) -> None:
    with running(tmp_path) as server, server.connect() as sock:
        sock.sendall(head(f"{CALL}?begun={tmp_path}/begun&wait={tmp_path}/go", TOKEN))
        wait_until("a request is under way", (tmp_path / "begun").exists, seconds=20)
        Path(str(server.address)).unlink()
        server.process.send_signal(1)
        wait_until("another took over", lambda: server.log.read_text().count("Booting worker") == 2, seconds=20)
        (tmp_path / "go").touch()
        assert read(sock)[0] == 200
        wait_until("the old one is gone", lambda: "Worker exiting" in server.log.read_text(), seconds=30)
        assert "failed to boot" not in server.log.read_text()
        Path(str(server.address)).touch()  # gunicorn deletes what it has made


# ---- decisions


def test_a_head_ends_with_an_empty_line_or_where_no_rest_could_make_it_valid() -> None:
    whole = b"GET / HTTP/1.1\r\nA: b\r\n\r\n"
    for size in range(len(whole)):
        assert not head_ends(whole[:size], 0, 100)
        assert head_ends(whole, size, 100)
    assert not head_ends(b"GET / HTTP/1.1\r", 0, 100)
    assert head_ends(b"GET / HTTP/1.1\nA", 0, 100)
    assert head_ends(b"GET / HTTP/1.1\r\nA: b\nC", 20, 100)
    assert head_ends(b"a" * 105, 0, 100)
    assert not head_ends(b"a" * 50 + b"\r\n" + b"a" * 100, 0, 100)
    assert head_ends(b"a" * 50 + b"\r\n" + b"a" * 100_000, 0, 100)


@pytest.mark.parametrize(
    ("path", "headers", "authenticated", "kind", "key"),
    [
        (CALL, {}, True, RequestClass.UCLOUD, ""),
        ("/ucloud/jobs.provider.example/websocket", {}, True, RequestClass.UCLOUD, ""),
        (CALL, {"X-REAL-IP": "192.0.2.1"}, False, RequestClass.STRANGER, "192.0.2.1"),
        ("/ucloud/example/websocket", {}, False, RequestClass.STRANGER, ""),
        ("/ucloud/example/link/abc", {"COOKIE": "a=b"}, False, RequestClass.STRANGER, ""),
        ("/metrics", {"X-REAL-IP": "192.0.2.1"}, False, RequestClass.OPERATOR, ""),
        ("/metrics/", {}, False, RequestClass.STRANGER, ""),
        ("/_ucloud/authorize", {"COOKIE": "a=b", "X-UCLOUD-SESSION": "s1"}, False, RequestClass.BROWSER, "s1"),
        ("/_ucloud/authorize", {"X-ORIGINAL-URI": "/_ucloud/vnc?token=t"}, False, RequestClass.BROWSER, ""),
        ("/_ucloud/authorize", {"X-ORIGINAL-URI": "/", "X-REAL-IP": "192.0.2.1"}, False, RequestClass.STRANGER, "192.0.2.1"),
        (CALL, {"X-REAL-IP": "2001:db8::1:2:3:4"}, False, RequestClass.STRANGER, "2001:db8::/64"),
        (CALL, {"X-REAL-IP": "none"}, False, RequestClass.STRANGER, ""),
        ("/healthz", {}, True, RequestClass.OPERATOR, ""),
        ("/else", {}, True, RequestClass.STRANGER, ""),
    ],
)
def test_a_request_belongs_to_one_class(
    path: str, headers: dict[str, str], authenticated: bool, kind: RequestClass, key: str
) -> None:
    assert caller(path, headers, is_authenticated=authenticated) == Caller(kind, key)


@pytest.mark.parametrize("threads", [1, 2, 4, 16, 32, 100])
def test_ucloud_has_the_largest_share_and_everybody_has_one(threads: int) -> None:
    split = shares(threads, 1000)
    assert set(split) == set(RequestClass)
    assert all(1 <= share.each <= share.threads for share in split.values())
    assert split[RequestClass.UCLOUD].threads == max(share.threads for share in split.values())
    assert sum(share.threads for share in split.values()) <= max(threads, 4)
    assert split[RequestClass.UCLOUD].body_bytes == 1000


def test_a_budget_is_given_back_to_the_last_byte() -> None:
    split = shares(16, 1000)
    taken, one, other = Budgets(split), Caller(RequestClass.STRANGER, "a"), Caller(RequestClass.STRANGER, "b")
    most = split[one.kind].waiting_each
    for _ in range(3):
        assert [taken.take(one, 10) for _ in range(most + 1)] == [True] * most + [False]
        assert taken.take(other, 0)
        taken.give_back(other, 0)
        for _ in range(most):
            taken.give_back(one, 10)
    ucloud = Caller(RequestClass.UCLOUD, "")
    assert [taken.take(ucloud, 1000) for _ in range(5)] == [True] * 4 + [False]
    assert taken.take(ucloud, 0), "what has no body is answered"
    assert taken.take(one, 10), "the bytes of others do not count"


def test_what_waits_goes_when_its_time_is_over_and_the_oldest_when_there_are_too_many() -> None:
    waiting = Waiting[str](10.0, 2)
    assert [waiting.add(name, now) for name, now in (("a", 0.0), ("b", 1.0), ("c", 2.0))] == [None, None, "a"]
    assert waiting.expired(10.9) == []
    assert waiting.expired(11.0) == ["b"]
    waiting.hurry(5.0)
    assert waiting.expired(5.0) == ["c"]
    assert len(waiting) == 0


def test_a_refusal_is_in_the_form_of_ucloud() -> None:
    text = refusal(429, 'no "room"', 2).decode()
    assert text.startswith("HTTP/1.1 429 Too Many Requests\r\n")
    assert "\r\nRetry-After: 2\r\n" in text
    assert "\r\nConnection: close\r\n" in text
    assert text.endswith('\r\n\r\n{"why": "no \\"room\\"", "errorCode": null}')
