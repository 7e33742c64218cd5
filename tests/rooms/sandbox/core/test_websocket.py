"""WebSockets on which a test says what it likes."""

import base64
import socket
import threading
import time
from collections.abc import Callable
from hashlib import sha1

import pytest

from tests.rooms.sandbox.core.conftest import FakeProvider
from tests.sandbox.core import CORE_2022, CoreError, SimulatedCore, SocketClosedError

PATH = "/ucloud/example/websocket"


def test_anything_can_be_said_and_heard(core: SimulatedCore, provider: FakeProvider) -> None:
    with core.websocket(PATH) as mine:
        peer = provider.peer()
        for data in ("{", '{"call": 1}', b"\x00\xff", "ø" * 300_000):
            mine.send(data)
            assert peer.raw() == data
        for sent, heard in (('{"a": "ø"}', {"a": "ø"}), ("[1]", "[1]"), ("{", "{"), (b"\x00", b"\x00")):
            peer.send(sent)
            assert mine.receive() == heard
        assert mine.receive(0.01) is None
    assert peer.raw() is None
    assert core.protocol_errors == []


def test_the_handshake_is_what_the_test_says(make_core: Callable[..., SimulatedCore], provider: FakeProvider) -> None:
    core = make_core(CORE_2022)
    core.websocket(f"{PATH}?session=x", "Jørgen#1", {"Origin": "https://example.com"})
    first = provider.peer()
    core.websocket(PATH)
    second = provider.peer()
    assert first.path == PATH
    assert first.headers["Origin"] == "https://example.com"
    assert base64.b64decode(first.headers["Ucloud-Username"]).decode() == "Jørgen#1"
    assert not {"Origin", "Authorization", "Ucloud-Username"} & second.headers.keys()
    core.connect(f"{provider.url}/behind/")
    core.websocket(PATH)
    assert provider.peer().path == f"/behind{PATH}"


def test_the_end_of_a_connection_is_told_after_what_came_before(core: SimulatedCore, provider: FakeProvider) -> None:
    mine = core.websocket(PATH)
    peer = provider.peer()
    before = mine.closed
    peer.send("the last")
    peer.close()
    assert mine.receive() == "the last"
    with pytest.raises(SocketClosedError, match="1000") as over:
        mine.receive()
    assert over.value.code == 1000
    assert (before, mine.closed) == (False, True)
    with pytest.raises(SocketClosedError):
        mine.send("x")
    mine.close()
    mine.close()


def test_whoever_waits_hears_of_the_end(core: SimulatedCore, provider: FakeProvider) -> None:
    mine = core.websocket(PATH)
    provider.peer()
    ended: list[BaseException] = []

    def wait() -> None:
        with pytest.raises(SocketClosedError) as over:
            mine.receive(30)
        ended.append(over.value)

    thread = threading.Thread(target=wait)
    thread.start()
    mine.close()
    thread.join(10)
    assert not thread.is_alive()
    assert len(ended) == 1
    with pytest.raises(SocketClosedError):
        mine.send("x")


def test_a_provider_that_opens_no_websocket_is_a_refusal(core: SimulatedCore, provider: FakeProvider) -> None:
    provider.answer("websocket", (404, {"why": "Not found"}))
    with pytest.raises(CoreError, match="The provider answered 404 instead") as refused:
        core.websocket(PATH)
    assert refused.value.status == 404
    assert core.websocket(PATH).receive(0.01) is None


def test_a_provider_that_is_away_or_slow_or_hangs_up_opens_no_websocket(
    make_core: Callable[..., SimulatedCore], provider: FakeProvider
) -> None:
    core = make_core(timeout=0.1)
    core.connect("http://127.0.0.1:1")
    with pytest.raises(CoreError) as away:
        core.websocket(PATH)
    with socket.create_server(("127.0.0.1", 0)) as server:
        core.connect(f"http://127.0.0.1:{server.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(CoreError) as slow:
            core.websocket(PATH)
        assert time.monotonic() - began < 5

        server.accept()[0].close()
        gone = []
        for answer in (b"", b"nonsense\r\n\r\n"):
            thread = threading.Thread(target=_answer, args=(server, answer))
            thread.start()
            with pytest.raises(CoreError) as error:
                core.websocket(PATH)
            gone.append(error)
            thread.join()
    assert [error.value.status for error in (away, slow, *gone)] == [502] * 4


def test_without_a_provider_there_is_nobody_to_talk_to() -> None:
    core = SimulatedCore()
    with pytest.raises(CoreError, match="No provider"):
        core.websocket(PATH)


def test_stop_closes_what_the_test_forgot(core: SimulatedCore, provider: FakeProvider) -> None:
    mine = core.websocket(PATH)
    peer = provider.peer()
    core.stop()
    assert peer.raw() is None
    assert mine.closed
    assert mine.idle


def test_a_stop_frees_who_sends_to_a_provider_that_does_not_read(core: SimulatedCore) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        core.connect(f"http://127.0.0.1:{server.getsockname()[1]}")
        accepted: list[socket.socket] = []
        thread = threading.Thread(target=lambda: accepted.append(_greet(server)))
        thread.start()
        mine = core.websocket(PATH)
        thread.join()
        freed: list[SocketClosedError] = []

        def send() -> None:
            with pytest.raises(SocketClosedError) as over:
                mine.send("x" * 50_000_000)
            freed.append(over.value)

        sender = threading.Thread(target=send)
        sender.start()
        with accepted[0]:
            assert accepted[0].recv(1, socket.MSG_PEEK)
            began = time.monotonic()
            core.stop()
            assert time.monotonic() - began < 10
            sender.join(10)
    assert len(freed) == 1


def _answer(server: socket.socket, answer: bytes) -> None:
    with server.accept()[0] as one:
        one.recv(65536)
        one.sendall(answer)


def _greet(server: socket.socket) -> socket.socket:
    one = server.accept()[0]
    key = one.recv(65536).decode().split("Sec-WebSocket-Key: ")[1].split("\r\n")[0]
    digest = sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
    accept = base64.b64encode(digest).decode()
    lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
    one.sendall("\r\n".join([*lines, f"Sec-WebSocket-Accept: {accept}", "", ""]).encode())
    return one
