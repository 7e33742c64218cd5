"""WebSockets of strangers, of one user and of everybody else do not take anything from each other."""

import asyncio
import errno
import itertools
import json
import os
import random
import resource
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import requests
from pytest_mock import MockerFixture
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage

from tests.conftest import World
from tests.sandbox.core import CoreError
from tests.sandbox.core.websocket import Socket
from tests.sandbox.processes import wait_until
from tests.support.factories import job_data
from ucloud_slurm.web.live import admission, entrance, routes, websocket
from ucloud_slurm.web.live.admission import Pace
from ucloud_slurm.web.live.entrance import Entrance

SHELL, FOLLOW = "/ucloud/example/websocket", "/ucloud/jobs.provider.example/websocket"
PATIENCE = 20.0
TODAY = pytest.mark.parametrize("era", ["today"], scope="session")
pytestmark = pytest.mark.usefixtures("quick_hub")


@pytest.fixture
def job(world: World) -> str:
    world.model.terminal_command = ("/bin/bash", "--norc", "--noprofile")
    job_id = world.submit()
    world.model.begin_run(world.slurm(job_id))
    world.work(1)
    return job_id


def session(world: World, job: str) -> dict[str, Any]:
    found = world.core.open_session(job, 0, "SHELL", "user")
    assert found is not None
    return found | {"domainOverride": ""}


def write_log(world: World, job: str) -> None:
    (Path(world.provider.job_paths(world.row(job)).folder) / "stdout-0.log").write_text("a log\n")


def connections(world: World) -> dict[str, float]:
    """What the service says about its WebSockets."""
    lines = requests.get(f"{world.url}/metrics", timeout=10).text.splitlines()
    found = [line.rsplit(" ", 1) for line in lines if line.startswith("ucloud_slurm_websockets{")]
    return {name.split('"')[1]: float(number) for name, number in found}


def refused(open_: Callable[[], Socket]) -> int:
    """The status with which no WebSocket is opened."""
    with pytest.raises(CoreError) as refusal:
        open_()
    return refusal.value.status


# -- strangers --------------------------------------------------------------------------------------------------


@TODAY
def test_a_shell_opens_during_a_flood_of_strangers_and_the_silent_ones_go(
    world: World, job: str, mocker: MockerFixture
) -> None:
    mocker.patch.object(admission, "STRANGERS", 8)
    mocker.patch.object(admission, "GRACE_SECONDS", 0.0)
    opened = session(world, job)
    with ExitStack() as stack:
        strangers = [stack.enter_context(world.core.websocket(SHELL)) for _ in range(40)]
        wait_until("all but eight are gone", lambda: sum(not each.closed for each in strangers) == 8, seconds=PATIENCE)
        assert connections(world) == {"stranger": 8, "known": 0}
        with world.core.shell(opened) as shell:
            shell.send("echo $((6*7))\r")
            shell.wait_for("42")
            more = [stack.enter_context(world.core.websocket(SHELL)) for _ in range(20)]
            wait_until("they displace each other", lambda: sum(not each.closed for each in more) == 8, seconds=PATIENCE)
            assert connections(world) == {"stranger": 8, "known": 1}
            shell.send("echo $((7*7))\r")
            shell.wait_for("49")
    wait_until("nothing is left", lambda: connections(world) == {"stranger": 0, "known": 0}, seconds=PATIENCE)


@TODAY
def test_strangers_get_429_while_no_other_can_go_and_ucloud_is_none_of_them(
    world: World, job: str, mocker: MockerFixture
) -> None:
    mocker.patch.object(admission, "STRANGERS", 2)
    mocker.patch.object(admission, "GRACE_SECONDS", 3600.0)
    with world.core.websocket(SHELL), world.core.websocket(SHELL):
        assert refused(lambda: world.core.websocket(SHELL)) == 429
        with world.core.follow(job) as followed:
            write_log(world, job)
            followed.wait_for(lambda: followed.text() == "a log\n", PATIENCE)


def test_only_the_proxy_behind_a_local_socket_is_believed_about_addresses() -> None:
    one, other = socket.socketpair()
    with one, other, socket.socket() as tcp:
        assert routes._address(one, "192.0.2.1") == "192.0.2.1"
        assert routes._address(tcp, "192.0.2.1") is None


# -- those who are known ----------------------------------------------------------------------------------------


@TODAY
def test_one_user_has_a_part_of_the_connections_and_the_others_have_theirs(world: World, mocker: MockerFixture) -> None:
    mocker.patch.object(admission, "CONNECTIONS", 8)
    bearer = {"Authorization": f"Bearer {world.core.tokens.core_token()}"}

    def open_(user: str) -> Socket:
        return world.core.websocket(FOLLOW, user, bearer)

    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(open_("busy"))
        assert refused(lambda: open_("busy")) == 429
        stack.enter_context(open_("another"))
        assert connections(world) == {"stranger": 0, "known": 3}


@TODAY
def test_one_user_has_a_part_of_the_logs_and_the_others_have_theirs(world: World, job: str, mocker: MockerFixture) -> None:
    mocker.patch.object(admission, "STREAM_DESCRIPTORS", 4 * 3)  # two files and their notifications for each
    with world.core.follow(job, "busy") as first:
        first.wait_for(lambda: first.inits == 1, PATIENCE)
        bearer = {"Authorization": f"Bearer {world.core.tokens.core_token()}"}
        with world.core.websocket(FOLLOW, "busy", bearer) as second:
            frame = {"call": "jobs.provider.example.follow", "streamId": "1", "payload": {"type": "init", "job": job_data(job)}}
            second.send(json.dumps(frame))
            said = second.receive(PATIENCE)
            assert isinstance(said, dict)
            assert "as many files open" in said["payload"]["stderr"]
        with world.core.follow(job, "another") as third:
            write_log(world, job)
            third.wait_for(lambda: third.text() == "a log\n", PATIENCE)


def ended(stack: ExitStack, world: World, job: str, user: str, bearer: dict[str, str]) -> Socket:
    """What Core has open for a viewer of a log that has ended."""
    opened = stack.enter_context(world.core.websocket(FOLLOW, user, bearer))
    frame = {"call": "jobs.provider.example.follow", "streamId": "1", "payload": {"type": "init", "job": job_data(job)}}
    opened.send(json.dumps(frame))
    while not (isinstance(said := opened.receive(PATIENCE), dict) and said.get("type") == "response"):
        assert said is not None
    return opened


@TODAY
def test_logs_that_have_ended_make_room_the_oldest_first_and_others_never(
    world: World, job: str, mocker: MockerFixture
) -> None:
    mocker.patch.object(admission, "CONNECTIONS", 8)  # two for each user
    mocker.patch.object(admission, "STREAM_DESCRIPTORS", 4 * 3)  # one log for each user
    bearer = {"Authorization": f"Bearer {world.core.tokens.core_token()}"}
    lasting = world.submit()
    world.model.begin_run(world.slurm(lasting))
    world.model.end(world.slurm(job))
    world.work(20)
    with ExitStack() as stack:
        others = [ended(stack, world, job, f"user{number}", bearer) for number in range(6)]
        first, second = (ended(stack, world, job, "busy", bearer) for _ in range(2))
        assert connections(world) == {"stranger": 0, "known": 8}
        followed = stack.enter_context(world.core.follow(lasting, "busy"))
        wait_until("the user's oldest is closed", lambda: first.closed, seconds=PATIENCE)
        write_log(world, lasting)
        followed.wait_for(lambda: followed.text() == "a log\n", PATIENCE)
        assert not any(each.closed for each in (second, *others))
        ended(stack, world, job, "another", bearer)
        wait_until("the oldest of all is closed", lambda: others[0].closed, seconds=PATIENCE)
        assert not any(each.closed for each in (second, *others[1:]))
        for number in range(20):
            ended(stack, world, job, f"more{number}", bearer)
        wait_until("they displace each other", lambda: all(each.closed for each in (second, *others)), seconds=PATIENCE)
        assert connections(world) == {"stranger": 0, "known": 8}
        assert (followed.inits, followed.text()) == (1, "a log\n")


@TODAY
def test_a_connection_without_a_stream_is_closed_after_a_while_and_one_with_a_stream_is_not(
    world: World, job: str, mocker: MockerFixture
) -> None:
    mocker.patch.object(routes, "IDLE_SECONDS", 0.5)
    bearer = {"Authorization": f"Bearer {world.core.tokens.core_token()}"}
    with world.core.follow(job) as followed, world.core.websocket(FOLLOW, "user", bearer) as idle:
        wait_until("the idle one is closed", lambda: idle.closed, seconds=PATIENCE)
        write_log(world, job)
        followed.wait_for(lambda: followed.text() == "a log\n", PATIENCE)
        assert followed.inits == 1


# -- descriptors ------------------------------------------------------------------------------------------------


def test_a_connection_that_finds_no_descriptor_stays_as_it_is_and_leaves_none() -> None:
    one, other = socket.socketpair()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with one, other:
        probe = os.dup(one.fileno())
        os.close(probe)
        for free in (0, 1, 2):  # for nothing; for the copy; for one end of the pair
            resource.setrlimit(resource.RLIMIT_NOFILE, (probe + free, hard))
            try:
                with pytest.raises(OSError, match="Too many open files"):
                    routes.take(one)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            again = os.dup(one.fileno())
            os.close(again)
            assert again == probe
        other.sendall(b"still here")
        assert one.recv(100) == b"still here"


@TODAY
def test_without_descriptors_429_is_answered_and_one_line_is_logged(
    world: World, mocker: MockerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    broken = mocker.patch.object(routes, "take", side_effect=OSError(errno.EMFILE, "Too many open files"))
    for _ in range(3):
        assert refused(lambda: world.core.websocket(SHELL)) == 429
    assert [
        record.message for record in caplog.records if "descriptor" in record.message or "LimitNOFILE" in record.message
    ] == ["a WebSocket is refused (Too many open files); raise LimitNOFILE of the service"]
    mocker.stop(broken)
    assert connections(world) == {"stranger": 0, "known": 0}
    with world.core.websocket(SHELL):
        assert connections(world) == {"stranger": 1, "known": 0}


# -- the event loop ---------------------------------------------------------------------------------------------


@TODAY
def test_all_shells_of_a_user_that_flood_send_no_more_than_one_may(world: World, job: str, mocker: MockerFixture) -> None:
    rate, slack = 1 << 20, 1 << 19  # each shell may be ahead by a chunk
    mocker.patch.object(entrance, "PACE_BYTES", rate)
    world.model.terminal_command = ("/usr/bin/yes",)
    sessions = [session(world, job) for _ in range(5)]
    pause = mocker.spy(Pace, "pause")
    since = time.monotonic()
    with ExitStack() as stack:
        for each in sessions:
            stack.enter_context(world.core.shell(each))

        def sent() -> float:
            return float(sum(call.args[2] for call in list(pause.mock_calls) if call.args[1] == "user"))

        wait_until("they have sent some", lambda: sent() > 3 * rate, seconds=60)
        assert sent() <= rate + rate * (time.monotonic() - since) + slack


def test_between_two_turns_of_the_event_loop_few_frames_of_a_flood_are_taken() -> None:
    pings = Connection(ConnectionType.CLIENT).send(Ping())
    most = 1000  # each takes some ten microseconds

    async def flood() -> list[int]:
        ours, theirs = socket.socketpair()
        entered = Entrance(admission.Limits.within(4096), 1, 1, lambda _strangers, _known: None)
        visit = entered.admit_known("user")
        connection = await websocket.WebSocketConnection.accept(ours, b"", "user", visit, 0)
        theirs.setblocking(False)
        sent = theirs.send(pings * 20_000)

        async def read() -> None:
            async for _ in connection.frames():
                pass

        task = asyncio.create_task(read())
        counts = [0]
        while counts[-1] < sent // len(pings):
            await asyncio.sleep(0)
            counts.append(connection._frames)
            with suppress(BlockingIOError):
                theirs.recv(1 << 20)  # the answers
        task.cancel()
        theirs.close()
        await connection.close()
        return [after - before for before, after in itertools.pairwise(counts)]

    assert max(asyncio.run(flood())) <= most


# ---- what they leave


def handshake(world: World, path: str, headers: str = "") -> socket.socket:
    """A WebSocket whose opening is not answered yet."""
    sock = socket.create_connection(("127.0.0.1", int(world.url.rpartition(":")[2])), PATIENCE)
    opening = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: a\r\nSec-WebSocket-Version: 13\r\n"
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n{headers}{opening}\r\n".encode())
    return sock


def test_a_ping_that_comes_with_a_close_frame_is_no_error(world: World, caplog: pytest.LogCaptureFixture) -> None:
    sender = Connection(ConnectionType.CLIENT)
    call = json.dumps({"call": "x", "streamId": "1", "payload": {}})
    sent = sender.send(Ping(b"a")) + sender.send(TextMessage(call)) + sender.send(CloseConnection(code=1000))
    with handshake(world, SHELL) as sock:
        assert sock.recv(1000).startswith(b"HTTP/1.1 101")
        sock.sendall(sent)
        while sock.recv(1000):
            pass
    assert "unexpected" not in caplog.text


def random_frames(chance: random.Random, calls: list[str]) -> bytes:
    sender = Connection(ConnectionType.CLIENT)
    kinds = (
        lambda: Ping(b"a"),
        lambda: BytesMessage(b"a" * 40_000),
        lambda: TextMessage("[" * 3000),
        lambda: TextMessage("a" * 30_000, message_finished=True),
        lambda: TextMessage(chance.choice(calls)),
        lambda: TextMessage(chance.choice(calls)),
    )
    sent = b"".join(sender.send(chance.choice(kinds)()) for _ in range(chance.choice((0, 1, 2, 5, 30))))
    last = chance.choice((None, TextMessage("x" * 60_000, message_finished=False), CloseConnection(code=1000)))
    return sent + (b"" if last is None else sender.send(last))


def test_random_connections_leave_nothing_behind(
    world: World, job: str, entrances: list[Entrance], caplog: pytest.LogCaptureFixture
) -> None:
    write_log(world, job)
    token = world.core.tokens.core_token()
    follow = {"call": "jobs.provider.example.follow", "payload": {"type": "init", "job": job_data(job)}, "bearer": token}
    shells = [{"type": "initialize", "cols": 80, "rows": 25} | session(world, job) for _ in range(8)]
    opened = [{"call": "jobs.compute.example.shell.open", "payload": payload} for payload in shells]
    calls = [json.dumps(call | {"streamId": "1"}) for call in ({"call": "x", "payload": {}}, follow, *opened)]
    chances = iter([random.Random(seed) for seed in range(120)])

    def visit_all() -> None:
        for chance in chances:
            headers = chance.choice(("", "", f"Authorization: Bearer {token}\r\n"))
            with handshake(world, chance.choice((SHELL, FOLLOW)), headers) as sock, suppress(OSError):
                if chance.random() < 0.9:
                    sock.recv(1000)
                sent = random_frames(chance, calls)
                sock.sendall(sent[: chance.choice((len(sent), chance.randrange(len(sent) + 1)))])
                if chance.random() < 0.5:
                    sock.shutdown(socket.SHUT_WR)
                    sock.recv(1000)

    threads = [threading.Thread(target=visit_all) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (held,) = entrances
    budgets = (held._known, held._descriptors, held._logs, held._logs_of_job, held.strangers_memory, held.known_memory)
    wait_until(
        "all of it is given back",
        lambda: not (held._strangers or held._visits or any(budget.used for budget in budgets)),
        seconds=30,
    )
    assert "unexpected" not in caplog.text
