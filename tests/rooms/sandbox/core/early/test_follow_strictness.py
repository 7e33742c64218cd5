"""What the contract does not allow on the stream of a log."""

import threading
from typing import Any

import pytest

from tests.rooms.sandbox.core.conftest import FOLLOW, SLEEPER, FakeProvider, Json
from tests.rooms.sandbox.core.peer import Peer, log
from tests.sandbox.core import Followed, ResponseFrame, SimulatedCore

SESSION = {"type": "message", "streamId": "S", "payload": log("s1", 0, "x")}
END = {"type": "response", "streamId": "S", "status": 200, "payload": log("", -1)}


def frame(base: Json, **changes: Any) -> Json:
    return {key: value for key, value in (base | changes).items() if value is not ...}


@pytest.mark.parametrize(
    ("sent", "sentence"),
    [
        ("{", "WebSocket: a frame is not JSON"),
        ("[]", "WebSocket: a frame is not a JSON object"),
        (b"{}", "WebSocket: a frame is binary"),
        ('{"streamId": "S", "streamId": "S"}', "twice"),
        (frame(SESSION, type="event"), "type is not message or response"),
        (frame(SESSION, type=None), "type is not message or response"),
        (frame(SESSION, type=...), None),
        (frame(SESSION, streamId=...), "streamId is missing"),
        (frame(SESSION, streamId=0), "streamId is not a string"),
        (frame(SESSION, streamId="99999999"), "a message came on stream '99999999', which is not open"),
        (frame(END, streamId="99999999"), "a response came on stream '99999999', which is not open"),
        (frame(SESSION, payload=...), "payload is missing"),
        (frame(SESSION, payload=None), "payload is not a JSON object"),
        (frame(SESSION, payload=[]), "payload is not a JSON object"),
        (frame(SESSION, status=200), "status is a key that UCloud does not know"),
        (frame(END, status=...), "status is missing"),
        (frame(END, status=200.0), "status is not a whole number"),
        (frame(END, status="200"), "status is not a whole number"),
        (frame(END, status=True), "status is not a whole number"),
        ({"ping": "ping"}, "streamId is missing"),
        (frame(SESSION, payload={"streamId": "s1", "rank": 0, "stdout": "x"}), "stderr is missing"),
        (frame(SESSION, payload=log("s1", 0, "x") | {"channel": None}), "channel is a key that UCloud does not know"),
        (frame(SESSION, payload=log("s1", "0", "x")), "rank is not a whole number"),
        (frame(SESSION, payload=log("s1", 0, ["x"])), "stdout is not a string or null"),
        (frame(SESSION, payload=log("s1", 0, None, 1)), "stderr is not a string or null"),
        (frame(SESSION, payload=log("s2", 0, "x")), "a message of session 's2' came in session 's1'"),
        (frame(SESSION, payload=log("s1", 2, "x")), "a message is of rank 2, but the job has 2 replicas"),
        (frame(SESSION, payload=log("s1", 2)), "a message is of rank 2, but the job has 2 replicas"),
        (frame(SESSION, payload=log("s1", -1, "x")), "a message is of rank -1, but the job has 2 replicas"),
        (frame(SESSION, payload=log("s1", 1, "x")), None),
        (frame(SESSION, payload=log("s1", 1)), None),
        (frame(SESSION, payload=log("s1", -1)), None),
        (frame(END, payload={}), "a response is wrong: rank is missing"),
        (frame(END, payload=log("s2", -1)), "a response of session 's2' came in session 's1'"),
        (frame(END, payload=log("s1", 0)), "a response has a rank or text"),
        (frame(END, payload=log("", -1, "the rest")), "a response has a rank or text"),
        (frame(END, payload=log("s1", -1)), None),
        (frame(END, status=404, payload={}), None),
        (frame(END, status=404, payload={"why": None}), "a response is wrong: why is not a string"),
    ],
)
def test_what_the_contract_does_not_allow_on_a_stream_is_noted(
    core: SimulatedCore, provider: FakeProvider, sent: Any, sentence: str | None
) -> None:
    job_id = core.submit(**SLEEPER, replicas=2)
    followed = core.follow(job_id, while_running=False)
    peer = provider.peer()
    stream = peer.announce()
    mine = isinstance(sent, dict) and sent.get("streamId") == "S"
    peer.send(sent | {"streamId": stream} if mine else sent)
    peer.send({"ping": "pong"})
    followed.wait_for(lambda: followed.pings == 1 or followed.response is not None)
    if sentence is None:
        assert core.protocol_errors == []
    else:
        assert [error for error in core.protocol_errors if sentence in error], core.protocol_errors
        assert all(error.startswith(("WebSocket: ", f"{FOLLOW}: ")) for error in core.protocol_errors)


@pytest.mark.parametrize("first", [log("s1", 0, "x"), log("s1", 0), log("s1", -1, "x"), log("s1", -1, None, ""), log("", -1)])
def test_a_stream_that_does_not_announce_its_session_is_noted_once(
    core: SimulatedCore, provider: FakeProvider, job_id: str, first: Json
) -> None:
    followed = core.follow(job_id, while_running=False)
    peer = provider.peer()
    stream = peer.frame()["streamId"]
    peer.message(stream, first)
    if first["streamId"]:
        peer.message(stream, log("s1", 0, "y"))
    peer.respond(stream)
    followed.wait_end()
    assert core.protocol_errors == [
        f"{FOLLOW}: the first message of a stream does not announce its session (a streamId, rank -1, no text)"
    ]


def test_after_the_response_nothing_more_may_come(core: SimulatedCore, once: tuple[Followed, Peer, str]) -> None:
    followed, peer, stream = once
    peer.respond(stream)
    peer.message(stream, log("s1", 0, "late"))
    peer.respond(stream)
    core.wait_until(lambda: len(core.protocol_errors) == 2)
    assert core.protocol_errors == [
        f"WebSocket: a message came on stream '{stream}', which has had its response",
        f"WebSocket: a response came on stream '{stream}', which has had its response",
    ]
    assert (followed.wait_end(), followed.text()) == (ResponseFrame(stream, 200, log("", -1)), "")


@pytest.mark.parametrize(
    ("payload", "sentence"),
    [({}, "a response is wrong: streamId is missing"), (log("s2", -1), "a response of session 's2' came in session 's1'")],
)
def test_the_response_to_a_cancel_is_read_strictly(
    core: SimulatedCore, once: tuple[Followed, Peer, str], payload: Json, sentence: str
) -> None:
    followed, peer, _ = once
    thread = threading.Thread(target=followed.cancel)
    thread.start()
    mine = peer.frame()["streamId"]
    peer.message(mine, log("s1", -1))
    peer.respond(mine, 200, payload)
    thread.join()
    assert core.protocol_errors[0] == f"{FOLLOW}: a message came where only a response may"
    assert core.protocol_errors[1] == f"{FOLLOW}: {sentence}"
