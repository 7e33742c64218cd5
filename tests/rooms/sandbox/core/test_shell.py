"""A browser opens a shell."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

import pytest

from tests.rooms.sandbox.core.conftest import FakeProvider, Json
from tests.rooms.sandbox.core.peer import Peer
from tests.sandbox.core import CoreError, ResponseFrame, ShellClient, SimulatedCore

SHELL = "jobs.compute.example.shell.open"
OPENED: Json = {"type": "shell", "jobId": "54112", "rank": 0, "sessionIdentifier": "a-capability"}
READY: Json = {"type": "initialize"}
ACK: Json = {"type": "ack"}

T = TypeVar("T")


def meanwhile(work: Callable[[], T], then: Callable[[], object]) -> T:
    """What the work returns, which waits until the other thing is done."""
    found: list[T] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    then()
    thread.join()
    return found[0]


def data(text: str) -> Json:
    return {"type": "data", "data": text}


def let_in(provider: FakeProvider) -> Peer:
    peer = provider.peer()
    stream = peer.frame()["streamId"]
    peer.message(stream, READY)
    return peer


@pytest.fixture
def opened(core: SimulatedCore, provider: FakeProvider) -> tuple[ShellClient, Peer]:
    peers: list[Peer] = []
    shell = meanwhile(lambda: core.shell(OPENED), lambda: peers.append(let_in(provider)))
    return shell, peers[0]


def test_a_browser_has_an_origin_and_a_capability_and_no_token(core: SimulatedCore, provider: FakeProvider) -> None:
    frames: list[Json] = []
    peers: list[Peer] = []

    def initialize() -> None:
        peers.append(provider.peer())
        frames.append(peers[0].frame())
        peers[0].message("0", READY)

    shell = meanwhile(lambda: core.shell(OPENED, cols=120, rows=40), initialize)
    (peer,) = peers
    assert peer.path == "/ucloud/example/websocket"
    assert peer.headers["Origin"] == core.url
    assert not {"Authorization", "Ucloud-Username"} & peer.headers.keys()
    payload = {"type": "initialize", "sessionIdentifier": "a-capability", "cols": 120, "rows": 40}
    assert frames == [{"call": SHELL, "streamId": "0", "payload": payload}]
    shell.close()
    assert peer.raw() is None
    assert shell.closed is None
    assert core.protocol_errors == []


def test_each_input_has_a_stream_and_an_ack_of_its_own(core: SimulatedCore, opened: tuple[ShellClient, Peer]) -> None:
    shell, peer = opened
    frames: list[Json] = []

    def acknowledge() -> None:
        frames.append(peer.frame())
        peer.respond(frames[-1]["streamId"], 200, ACK)

    assert meanwhile(lambda: shell.send("ls\r"), acknowledge) == ResponseFrame("1", 200, ACK)
    assert meanwhile(lambda: shell.resize(100, 30), acknowledge) == ResponseFrame("2", 200, ACK)
    assert frames == [
        {"call": SHELL, "streamId": "1", "payload": {"type": "input", "data": "ls\r"}},
        {"call": SHELL, "streamId": "2", "payload": {"type": "resize", "cols": 100, "rows": 30}},
    ]
    assert core.protocol_errors == []


def test_what_the_terminal_shows_is_waited_for(core: SimulatedCore, opened: tuple[ShellClient, Peer]) -> None:
    shell, peer = opened
    assert shell.output == ""
    peer.message("0", data("user@node"))
    peer.send({"ping": "pong"})
    peer.message("0", data("001:~$ \x1b[0m"))
    shell.wait_for("node001:~$")
    assert shell.output == "user@node001:~$ \x1b[0m"
    with pytest.raises(TimeoutError, match=r"'exit' did not come .* ends with 'user@node001"):
        shell.wait_for("exit", 0.01)
    assert core.protocol_errors == []


def test_a_shell_that_the_provider_does_not_know_is_refused(core: SimulatedCore, provider: FakeProvider) -> None:
    def refuse() -> None:
        peer = provider.peer()
        peer.respond(peer.frame()["streamId"], 404, {"why": "Unknown shell session"})
        assert peer.raw() is None

    def ask() -> CoreError:
        with pytest.raises(CoreError, match="Unknown shell session") as refused:
            core.shell(OPENED)
        return refused.value

    assert meanwhile(ask, refuse).status == 404
    assert core.protocol_errors == []


def test_a_shell_that_says_nothing_is_given_up(make_core: Callable[..., SimulatedCore], provider: FakeProvider) -> None:
    core = make_core(timeout=0.1)
    with pytest.raises(TimeoutError):
        core.shell(OPENED)
    peer = provider.peer()
    assert peer.frame()["payload"]["type"] == "initialize"
    assert peer.raw() is None
    shell = meanwhile(lambda: core.shell(OPENED), lambda: let_in(provider))
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="stream 1"):
        shell.send("x")
    assert time.monotonic() - began < 5


def test_the_end_of_the_session_is_seen(core: SimulatedCore, opened: tuple[ShellClient, Peer]) -> None:
    shell, peer = opened
    peer.message("0", data("logout"))
    peer.respond("0", 200, ACK)
    assert shell.wait_closed() == shell.closed == ResponseFrame("0", 200, ACK)
    with pytest.raises(TimeoutError, match="logout"):
        shell.wait_for("never", 60)
    assert core.protocol_errors == []


def test_a_lost_connection_ends_the_session_and_what_is_sent(core: SimulatedCore, opened: tuple[ShellClient, Peer]) -> None:
    shell, peer = opened

    def lose() -> None:
        peer.frame()
        peer.close()

    with pytest.raises(TimeoutError):
        shell.wait_closed(0.01)
    assert meanwhile(lambda: shell.send("x"), lose).status == 499
    assert shell.wait_closed().status == 499
    assert shell.send("x") == ResponseFrame("", 502, {})
    assert core.protocol_errors == []


def test_only_a_shell_is_a_shell(core: SimulatedCore, provider: FakeProvider) -> None:
    with pytest.raises(ValueError, match="web"):
        core.shell(OPENED | {"type": "web"})
    core.connect("http://127.0.0.1:1")
    with pytest.raises(CoreError) as away:
        core.shell(OPENED)
    assert away.value.status == 502
    assert provider.alone()


def test_stop_closes_every_shell(core: SimulatedCore, opened: tuple[ShellClient, Peer]) -> None:
    _, peer = opened
    core.stop()
    assert peer.raw() is None
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("simulated-core")]


@pytest.mark.parametrize(
    ("payload", "sentence"),
    [
        ({}, "a message is wrong: None is no type of what a shell says"),
        ({"type": ["data"]}, "a message is wrong: ['data'] is no type of what a shell says"),
        ({"type": "input", "data": "x"}, "a message is wrong: 'input' is no type of what a shell says"),
        ({"type": "data"}, "a message is wrong: data is missing"),
        ({"type": "data", "data": None}, "a message is wrong: data is not a string"),
        ({"type": "data", "data": "x", "rank": 0}, "a message is wrong: rank is a key that UCloud does not know"),
        (READY, "initialize came twice"),
        (ACK, "an ack came as a message on the session's stream"),
    ],
)
def test_what_the_contract_does_not_allow_in_a_shell_is_noted(
    core: SimulatedCore, opened: tuple[ShellClient, Peer], payload: Json, sentence: str
) -> None:
    shell, peer = opened
    peer.message("0", payload)
    peer.message("0", data("after"))
    shell.wait_for("after")
    assert core.protocol_errors == [f"{SHELL}: {sentence}"]
    assert shell.output == "after"


@pytest.mark.parametrize(
    ("status", "payload", "sentence"),
    [
        (200, {}, "a response is wrong: None is no type of what a shell says"),
        (200, ACK | {"data": "x"}, "a response is wrong: data is a key that UCloud does not know"),
        (200, data("x"), "input was answered with data instead of ack"),
        (404, {"error": 1}, "a response is wrong: why is not a string"),
        (404, {}, None),
    ],
)
def test_an_input_is_answered_with_an_ack(
    core: SimulatedCore, opened: tuple[ShellClient, Peer], status: int, payload: Json, sentence: str | None
) -> None:
    shell, peer = opened

    def answer() -> None:
        peer.respond(peer.frame()["streamId"], status, payload)

    assert meanwhile(lambda: shell.send("x"), answer) == ResponseFrame("1", status, payload)
    assert core.protocol_errors == ([] if sentence is None else [f"{SHELL}: {sentence}"])


def test_data_comes_on_the_stream_of_the_session_only(core: SimulatedCore, opened: tuple[ShellClient, Peer]) -> None:
    shell, peer = opened

    def answer() -> None:
        stream = peer.frame()["streamId"]
        peer.message(stream, data("x"))
        peer.respond(stream, 200, ACK)

    meanwhile(lambda: shell.send("x"), answer)
    peer.message("1", data("x"))
    core.wait_until(lambda: len(core.protocol_errors) == 2)
    assert core.protocol_errors == [
        f"{SHELL}: a message came where only a response may",
        "WebSocket: a message came on stream '1', which has had its response",
    ]
    assert shell.output == ""


def test_nothing_is_shown_before_the_shell_is_ready(core: SimulatedCore, provider: FakeProvider) -> None:
    def early() -> None:
        peer = provider.peer()
        peer.frame()
        peer.message("0", data("early"))
        peer.message("0", READY)

    meanwhile(lambda: core.shell(OPENED), early)
    assert core.protocol_errors == [f"{SHELL}: data came before initialize"]


def test_the_last_word_on_a_session_is_read_strictly(core: SimulatedCore, opened: tuple[ShellClient, Peer]) -> None:
    shell, peer = opened
    peer.respond("0", 200, {"streamId": ""})
    shell.wait_closed()
    assert core.protocol_errors == [f"{SHELL}: a response is wrong: None is no type of what a shell says"]


def test_a_whole_session(core: SimulatedCore, provider: FakeProvider, job_id: str) -> None:
    provider.answer("jobs/interactiveSession", (200, {"responses": [OPENED]}))
    session = core.open_session(job_id)
    assert session is not None
    peers: list[Peer] = []

    def type_and_leave() -> str:
        with core.shell(session) as shell:
            shell.send("date\r")
            shell.wait_for("2021")
            return shell.output

    def serve() -> None:
        peers.append(let_in(provider))
        peers[0].respond(peers[0].frame()["streamId"], 200, ACK)
        peers[0].message("0", data("Mon Oct 4 2021"))

    assert meanwhile(type_and_leave, serve) == "Mon Oct 4 2021"
    assert peers[0].raw() is None
    assert core.protocol_errors == []
