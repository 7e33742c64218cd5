"""Shells: one-use identifiers, a real terminal, an end with the job, and nobody else's."""

import itertools
import json
import os
import select
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from pytest_mock import MockerFixture
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, TextMessage

from tests.conftest import Open, Serve, World
from tests.sandbox.core import CoreError, SimulatedCore
from tests.sandbox.core.websocket import Socket
from tests.sandbox.processes import wait_until
from tests.support.factories import job_data
from tests.support.model import Model
from ucloud_slurm.store.job_state import JobPhase
from ucloud_slurm.store.sessions import Kind
from ucloud_slurm.system import terminal as terminal_module
from ucloud_slurm.users.service import OwnAccount
from ucloud_slurm.web.live import hub, shell

SHELL = "jobs.compute.example.shell.open"
PATHS = ("/ucloud/example/websocket", "/ucloud/jobs.provider.example/websocket")
pytestmark = pytest.mark.usefixtures("quick_hub")
BASH = ("/bin/bash", "--norc", "--noprofile")


@pytest.fixture
def job(world: World) -> str:
    world.model.terminal_command = BASH
    job_id = world.submit()
    world.model.begin_run(world.slurm(job_id))
    world.work(1)
    return job_id


class Browser:
    """Says anything on a WebSocket."""

    def __init__(self, socket: Socket) -> None:
        self.socket = socket
        self._numbers = itertools.count()

    def ask(self, payload: Any) -> dict[str, Any]:
        """Says something on a stream of its own; returns the first frame on it."""
        stream_id = str(next(self._numbers))
        self.socket.send(json.dumps({"call": SHELL, "streamId": stream_id, "payload": payload}))
        while True:
            frame = self.socket.receive(5)
            assert isinstance(frame, dict)
            if frame["streamId"] == stream_id:
                return frame


def opened(world: World, job: str, user: str | None = None) -> dict[str, Any]:
    found = world.core.open_session(job, 0, "SHELL", user)
    assert found is not None
    # Where browsers would reach the provider nobody listens in these tests.
    assert found["domainOverride"] == "ws://127.0.0.1:1"
    return found | {"domainOverride": ""}


@pytest.mark.every_era
def test_what_is_typed_reaches_the_shell_and_what_it_says_the_browser(world: World, job: str) -> None:
    with world.core.shell(opened(world, job), cols=100, rows=30) as shell:
        assert shell.send("echo $((6*7)); stty size\r").payload == {"type": "ack"}
        shell.wait_for("42")
        shell.wait_for("30 100")
        assert shell.resize(132, 43).payload == {"type": "ack"}
        shell.send("stty size\r")
        shell.wait_for("43 132")
        shell.send("printf '\\xe2\\x82\\xac\\xff\\n'\r")
        shell.wait_for("€\ufffd\r\n")
        shell.send("exit\r")
        assert shell.wait_closed().status == 200


def test_an_identifier_opens_one_shell_once(world: World, job: str) -> None:
    session = opened(world, job)
    with world.core.shell(session):
        with pytest.raises(CoreError, match="Unknown shell session") as refusal:
            world.core.shell(session)
        assert refusal.value.status == 404


def test_an_identifier_is_stale_after_a_while(world: World, job: str) -> None:
    session = opened(world, job)
    world.clock.advance(61)
    with pytest.raises(CoreError, match="Unknown shell session"):
        world.core.shell(session)


def test_an_identifier_is_not_kept_as_it_is(world: World, job: str) -> None:
    identifier = opened(world, job)["sessionIdentifier"]
    assert len(identifier) >= 32
    assert identifier not in str(world.provider.store.rows("select * from sessions"))
    assert identifier != opened(world, job)["sessionIdentifier"]


@pytest.mark.parametrize("path", PATHS)
def test_nothing_can_be_typed_before_a_shell_is_open_on_the_connection(world: World, job: str, path: str) -> None:
    with world.core.shell(opened(world, job)), world.core.websocket(path) as connection:
        browser = Browser(connection)
        for payload in ({"type": "input", "data": "id\r"}, {"type": "resize", "cols": 1, "rows": 1}):
            assert browser.ask(payload)["status"] == 404
        assert browser.ask({"type": "initialize", "sessionIdentifier": "guess", "cols": 80, "rows": 24})["status"] == 404


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"type": "run"},
        {"type": "initialize"},
        {"type": "initialize", "sessionIdentifier": 5},
        {"type": "initialize", "sessionIdentifier": "x", "cols": "80"},
        {"type": "input"},
        {"type": "input", "data": 5},
        {"type": "resize", "cols": None, "rows": 1},
        {"type": "resize", "cols": 1.5, "rows": 1},
    ],
)
def test_what_cannot_be_read_is_refused_and_the_shell_lives_on(world: World, job: str, payload: Any) -> None:
    with world.core.websocket(PATHS[0]) as connection:
        browser = Browser(connection)
        identifier = opened(world, job)["sessionIdentifier"]
        first = browser.ask({"type": "initialize", "sessionIdentifier": identifier})
        assert first["payload"] == {"type": "initialize"}
        assert browser.ask(payload)["status"] == 400
        assert browser.ask({"type": "input", "data": "true\r"})["payload"] == {"type": "ack"}


@pytest.mark.parametrize(("cols", "rows"), [(0, 0), (-1, -1), (10**9, 10**9), (2**60, 1)])
def test_a_window_of_an_impossible_size_is_given_a_possible_one(world: World, job: str, cols: int, rows: int) -> None:
    with world.core.shell(opened(world, job)) as shell:
        assert shell.resize(cols, rows).status == 200
        shell.send("stty size\r")
        shell.wait_for("1 1" if cols < 1 else "1000 1000" if rows > 1 else "1 1000")


def test_input_that_the_shell_does_not_take_is_refused_and_not_heaped_up(world: World, job: str) -> None:
    world.model.terminal_command = ("/bin/sh", "-c", "stty raw -echo; printf ready; exec sleep 60")
    with world.core.websocket(PATHS[0]) as connection:
        browser = Browser(connection)
        identifier = opened(world, job)["sessionIdentifier"]
        browser.ask({"type": "initialize", "sessionIdentifier": identifier})
        # Before stty has worked the terminal takes what is typed and throws away what is too much.
        raw = connection.receive(5)
        assert isinstance(raw, dict)
        assert raw["payload"] == {"type": "data", "data": "ready"}
        for number in range(3):
            data = "x" * (shell.MOST_INPUT_BYTES // 2 - 10)
            frame = {"call": SHELL, "streamId": f"p{number}", "payload": {"type": "input", "data": data}}
            connection.send(json.dumps(frame))
        refused = connection.receive(5)
        assert isinstance(refused, dict)
        assert (refused["streamId"], refused["status"]) == ("p2", 429)
        assert browser.ask({"type": "resize", "cols": 80, "rows": 24})["payload"] == {"type": "ack"}


def test_a_shell_ends_with_its_job(world: World, job: str) -> None:
    with world.core.shell(opened(world, job)) as shell:
        world.model.end(world.slurm(job))
        world.work(1)
        assert shell.wait_closed().status == 200
    session = world.provider.store.row("select * from sessions")
    assert session is not None
    wait_until("the session is closed", lambda: _ended(world) == 1, seconds=5)
    assert world.row(job).phase is JobPhase.ENDED


def test_a_shell_ends_with_its_connection(world: World, job: str, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    with world.core.shell(opened(world, job)) as shell:
        shell.send(f"echo $$ > {pid_file}; echo don''e\r")
        shell.wait_for("done\r\n")
    pid = int(pid_file.read_text())
    wait_until("the shell is gone", lambda: not Path(f"/proc/{pid}").exists(), seconds=10)
    wait_until("the session is closed", lambda: _ended(world) == 1, seconds=5)


def say_and_leave(world: World, frame: str) -> None:
    """Says something and goodbye in one breath."""
    host, port = world.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(
            f"GET {PATHS[0]} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n".encode()
        )
        assert connection.recv(4096).startswith(b"HTTP/1.1 101")
        speaker = Connection(ConnectionType.CLIENT)
        connection.sendall(speaker.send(TextMessage(frame)) + speaker.send(CloseConnection(1000)))
        while connection.recv(4096):
            pass


def test_a_shell_whose_browser_is_gone_before_it_began_leaves_nothing(world: World, job: str, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    world.model.terminal_command = ("/bin/sh", "-c", f"echo $$ >> {pids}; exec cat")
    for _ in range(5):
        payload = {"type": "initialize", "sessionIdentifier": opened(world, job)["sessionIdentifier"]}
        say_and_leave(world, json.dumps({"call": SHELL, "streamId": "0", "payload": payload}))
    wait_until("the sessions are closed", lambda: _ended(world) == 5, seconds=10)
    started = pids.read_text().split() if pids.exists() else []
    wait_until("the shells are gone", lambda: not any(Path(f"/proc/{pid}").exists() for pid in started), seconds=10)


def test_a_shell_ends_when_its_user_loses_access(world: World, job: str) -> None:
    with world.core.shell(opened(world, job, "Guest#1")) as guest, world.core.shell(opened(world, job)) as owner:
        world.core.update_acl(job, deleted=[{"type": "user", "username": "Guest#1"}])
        assert guest.wait_closed().status == 403
        assert owner.send("true\r").status == 200
    with pytest.raises(CoreError, match="no access") as refusal:
        opened(world, job, "Guest#1")
    assert refusal.value.status == 403


def test_a_session_that_was_made_before_access_was_lost_opens_nothing(world: World, job: str) -> None:
    session = opened(world, job, "Guest#1")
    world.core.update_acl(job, deleted=[{"type": "user", "username": "Guest#1"}])
    with pytest.raises(CoreError, match="no access"):
        world.core.shell(session)


def test_a_shell_that_nobody_uses_is_closed(world: World, job: str) -> None:
    with world.core.shell(opened(world, job)) as shell:
        shell.send("true\r")
        world.clock.advance(world.provider.config.sessions.life + 1)
        assert shell.wait_closed().status == 403


def _ended(world: World) -> int:
    row = world.provider.store.row("select count(*) as number from sessions where ended_at is not null")
    assert row is not None
    return int(row["number"])


# -- opening ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rank", "kind", "status", "words"),
    [
        (1, "SHELL", 400, "ranks are 0 to 0"),
        (-1, "SHELL", 400, "rank"),
        (0, "WEB", 400, "not offer"),
        (0, "VNC", 400, "not offer"),
        (0, "SSH", 400, "sessionType"),
        ("0", "SHELL", 400, "rank"),
    ],
)
def test_what_a_job_does_not_have_is_refused(world: World, job: str, rank: Any, kind: str, status: int, words: str) -> None:
    item = {"job": job_data(job), "rank": rank, "sessionType": kind}
    answer, body = world.core.call("POST", "/ucloud/example/jobs/interactiveSession", {"items": [item]})
    assert answer == status
    assert words in body["why"]


@pytest.mark.parametrize("kind", ["WEB", "VNC"])
def test_a_page_of_an_application_without_one_is_refused_with_the_contracts_code(
    core: SimulatedCore, open_provider: Open, serve: Serve, model: Model, clock: Any, kind: Any
) -> None:
    provider = open_provider(sessions={"url": "https://*.apps.example.org"})
    world = World(core, provider, model, clock, serve(provider))
    job = world.submit()
    model.begin_run(world.slurm(job))
    with pytest.raises(CoreError, match="BATCH") as refusal:
        core.open_session(job, 0, kind)
    assert (refusal.value.status, refusal.value.error_code) == (400, "FEATURE_NOT_SUPPORTED_BY_PROVIDER")


@pytest.mark.parametrize("state", ["waiting", "suspended"])
def test_a_job_that_does_not_run_has_no_sessions(world: World, state: str) -> None:
    job = world.submit()
    if state == "suspended":
        world.model.begin_run(world.slurm(job))
        world.model.suspend(world.slurm(job).run.id, 1.0)
    with pytest.raises(CoreError, match=r"running|suspended") as refusal:
        opened(world, job)
    assert refusal.value.status == 409


def test_a_job_has_so_many_sessions_and_those_that_were_not_opened_make_room(
    core: SimulatedCore, open_provider: Open, serve: Serve, model: Model, clock: Any
) -> None:
    provider = open_provider(sessions={"most_per_job": 2})
    world = World(core, provider, model, clock, serve(provider))
    job = world.submit()
    model.begin_run(world.slurm(job))
    opened(world, job)
    opened(world, job)
    with pytest.raises(CoreError, match="2 sessions") as refusal:
        opened(world, job)
    assert refusal.value.status == 429
    world.clock.advance(61)
    opened(world, job)


def test_a_shell_that_starts_too_late_is_refused_and_ended(world: World, job: str, mocker: MockerFixture) -> None:
    mocker.patch.object(shell, "START_SECONDS", 0.05)
    go = threading.Event()
    late: list[Any] = []
    start = OwnAccount.terminal

    def start_late(*arguments: Any) -> Any:
        assert go.wait(30)
        late.append(start(*arguments))
        return late[0]

    mocker.patch.object(OwnAccount, "terminal", start_late)
    with pytest.raises(CoreError, match="No shell can be opened at the moment"):
        world.core.shell(opened(world, job))
    go.set()
    wait_until("it is ended", lambda: bool(late) and late[0]._process.poll() is not None, seconds=30)


def test_one_user_has_a_part_of_the_sessions_and_the_others_have_theirs(
    core: SimulatedCore, open_provider: Open, serve: Serve, model: Model, clock: Any
) -> None:
    provider = open_provider(sessions={"most_per_job": 1, "most": 8})
    world = World(core, provider, model, clock, serve(provider))
    jobs = [world.submit() for _ in range(4)]
    for job in jobs:
        model.begin_run(world.slurm(job))
    opened(world, jobs[0], "user")
    opened(world, jobs[1], "user")
    with pytest.raises(CoreError, match="2 sessions open already") as refusal:
        opened(world, jobs[2], "user")
    assert refusal.value.status == 429
    opened(world, jobs[3], "another")


def test_the_shells_of_a_killed_process_make_room(world: World, job: str) -> None:
    session = opened(world, job)
    found = world.provider.sessions.open(session["sessionIdentifier"], Kind.SHELL, world.clock())
    assert found is not None
    world.provider.sessions.heartbeat([found.token], world.clock() + hub.HEARTBEAT_EXPIRY_SECONDS)
    world.clock.advance(hub.HEARTBEAT_EXPIRY_SECONDS + 1)
    opened(world, job)
    assert _ended(world) == 1


def test_a_command_that_will_not_end_is_ended_and_leaves_no_descriptor(mocker: MockerFixture) -> None:
    mocker.patch.object(terminal_module, "EXIT_SECONDS", 0.2)
    before = os.listdir("/proc/self/fd")  # noqa: PTH208
    stubborn = ["/bin/sh", "-c", "trap '' HUP TERM; echo ready; while :; do sleep 60; done"]
    terminal = terminal_module.start(stubborn, {"PATH": "/usr/bin:/bin"}, 80, 24)
    pid = terminal._process.pid
    assert select.select([terminal.descriptor], [], [], 10)[0]
    assert b"ready" in os.read(terminal.descriptor, 100)
    terminal.close()
    assert not Path(f"/proc/{pid}").exists()
    assert set(os.listdir("/proc/self/fd")) <= set(before)  # noqa: PTH208  what earlier tests held may be closed


def test_a_size_that_comes_while_a_shell_ends_reaches_no_terminal(world: World, job: str, mocker: MockerFixture) -> None:
    ends, over, close = threading.Event(), threading.Event(), terminal_module.PtyTerminal.close

    def waits(terminal: terminal_module.PtyTerminal) -> None:
        ends.set()
        assert over.wait(30)
        close(terminal)

    mocker.patch.object(terminal_module.PtyTerminal, "close", waits)
    resized = mocker.spy(terminal_module.PtyTerminal, "resize")
    with world.core.shell(opened(world, job)) as shell:
        shell.send("exit\r")
        assert ends.wait(30)
        assert shell.resize(132, 43).payload == {"type": "ack"}
        over.set()
        assert shell.wait_closed().status == 200
    assert resized.call_count == 0
