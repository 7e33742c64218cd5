"""Core of today follows the log of a job."""

import base64
from urllib.parse import parse_qs

import jwt
import pytest

from tests.rooms.sandbox.core.conftest import FOLLOW, SLEEPER, FakeProvider
from tests.rooms.sandbox.core.peer import log
from tests.rooms.sandbox.core.today.conftest import Provider
from tests.sandbox.core import SimulatedCore


@pytest.fixture
def job_id(core: SimulatedCore) -> str:
    return core.submit(**SLEEPER)


def test_the_token_is_in_the_handshake_the_user_in_the_address_and_nothing_in_the_frame(
    core: SimulatedCore, provider: FakeProvider, job_id: str
) -> None:
    core.follow(job_id, user="Jørgen#1234", while_running=False)
    peer = provider.peer()
    assert peer.path == "/ucloud/jobs.provider.example/websocket"
    (hint,) = parse_qs(peer.query)["usernameHint"]
    assert base64.urlsafe_b64decode(hint).decode() == "Jørgen#1234"
    token = peer.headers["Authorization"].removeprefix("Bearer ")
    assert jwt.decode(token, options={"verify_signature": False})["sub"] == "_UCloud"
    assert "Ucloud-Username" not in peer.headers
    frame = peer.frame()
    assert frame.keys() == {"call", "streamId", "payload", "bearer", "project"}
    assert (frame["call"], frame["bearer"], frame["project"]) == (FOLLOW, "", None)
    assert frame["payload"]["type"] == "init"
    assert frame["payload"]["job"]["status"]["resolvedProduct"]["price"] == 1
    assert peer.silent()


def test_every_text_frame_is_an_entry_whatever_its_type_and_stream(
    core: SimulatedCore, provider: FakeProvider, job_id: str
) -> None:
    followed = core.follow(job_id, while_running=False)
    peer = provider.peer()
    peer.frame()
    peer.message("1", {"rank": 0, "stdout": "one "})
    peer.send({"payload": {"stdout": "two", "channel": "x"}})
    peer.send({"ping": "pong"})
    peer.respond("nothing", 500, log("s", 0, None, "oh"))
    end = followed.wait_end()
    assert end is not None
    assert end.status == 500
    assert (followed.text(), followed.text(0, "stderr")) == ("one two", "oh")
    assert followed.messages[1] == {"rank": 0, "stdout": "two", "stderr": None, "channel": "x"}
    assert (followed.pings, followed.session, followed.inits) == (1, None, 1)
    assert core.protocol_errors == []


@pytest.mark.parametrize("frame", ["no JSON", b"binary", "[]", '{"payload": 1}'])
def test_a_frame_that_is_no_entry_is_noted(
    core: SimulatedCore, provider: FakeProvider, job_id: str, frame: str | bytes
) -> None:
    followed = core.follow(job_id, while_running=False)
    peer = provider.peer()
    peer.frame()
    peer.send(frame)
    peer.close()
    followed.wait_end()
    assert core.protocol_errors == [f"{FOLLOW}: a frame is not a JSON object with a payload"]


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        (log("s1", -1), "an entry is of rank -1, but the job has 1 replicas"),
        (log("s1", 1, "x"), "an entry is of rank 1, but the job has 1 replicas"),
        (log("s1", "0"), "rank is not a whole number"),
        (log("s1", 0, 5), "stdout is not a string or null"),
    ],
)
def test_a_greeting_and_a_wrong_entry_are_noted(
    core: SimulatedCore, provider: FakeProvider, job_id: str, entry: object, sentence: str
) -> None:
    followed = core.follow(job_id, while_running=False)
    peer = provider.peer()
    peer.frame()
    peer.message("1", entry)
    peer.close()
    followed.wait_end()
    assert core.protocol_errors == [f"{FOLLOW}: {sentence}"]


@pytest.mark.parametrize("state", ["IN_QUEUE", "RUNNING", "SUCCESS"])
def test_a_job_is_followed_in_any_state(
    core: SimulatedCore, client: Provider, provider: FakeProvider, job_id: str, state: str
) -> None:
    client.update((job_id, {"state": state}))
    core.follow(job_id)
    assert provider.peer().frame()["payload"]["job"]["status"]["state"] == state


def test_the_browser_comes_back_when_the_provider_closes_whatever_the_state_of_the_job(
    core: SimulatedCore, client: Provider, provider: FakeProvider, job_id: str
) -> None:
    followed = core.follow(job_id)
    first = provider.peer()
    first.frame()
    first.close()
    second = provider.peer()
    assert (followed.ended, second.frame()["payload"]["type"]) == (False, "init")
    client.update((job_id, {"state": "SUCCESS"}))
    second.message("1", log("", 0, "rest"))
    with pytest.raises(TimeoutError):
        followed.wait_end(0.2)
    second.respond("1", 200, log("", 0))
    end = followed.wait_end()
    assert end is not None
    assert (end.status, followed.text(), followed.inits) == (200, "rest", 2)
    second.close()
    assert provider.peer().frame()["payload"]["type"] == "init"


def test_each_look_has_a_socket_of_its_own(core: SimulatedCore, provider: FakeProvider, job_id: str) -> None:
    for _ in range(2):
        core.follow(job_id, while_running=False)
    peers = [provider.peer(), provider.peer()]
    core.stop()
    assert [peer.frame()["streamId"] for peer in peers] == ["ignored"] * 2
    assert [peer.raw() for peer in peers] == [None, None]


def test_a_handshake_that_is_refused_ends_the_look(core: SimulatedCore, provider: FakeProvider, job_id: str) -> None:
    provider.waiting["/ucloud/jobs.provider.example/websocket"] = [(401, {})]
    followed = core.follow(job_id, while_running=False)
    end = followed.wait_end()
    assert end is not None
    assert (end.status, followed.inits) == (401, 0)
    core.connect("http://127.0.0.1:1")
    away = core.follow(job_id, while_running=False).wait_end()
    assert away is not None
    assert away.status == 502


def test_core_notices_that_a_browser_has_gone_with_the_next_frame(
    core: SimulatedCore, provider: FakeProvider, job_id: str
) -> None:
    followed = core.follow(job_id)
    peer = provider.peer()
    peer.frame()
    followed.close()
    assert peer.silent()
    peer.message("1", {})
    assert peer.raw() is None
    assert followed.messages == ()


def test_there_is_nothing_to_cancel(core: SimulatedCore, provider: FakeProvider, job_id: str) -> None:
    followed = core.follow(job_id, while_running=False)
    provider.peer().frame()
    with pytest.raises(ValueError, match=job_id):
        followed.cancel()
