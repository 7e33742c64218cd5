"""How it ends that Core follows the log of a job: a refusal, a lost connection, a cancel, a user who leaves."""

import threading

import pytest

from tests.rooms.sandbox.core.conftest import FOLLOW, Client, FakeProvider
from tests.rooms.sandbox.core.peer import Peer, log
from tests.sandbox.core import CoreError, Followed, ResponseFrame, SimulatedCore


def test_a_job_that_core_loses_ends_what_follows_it(core: SimulatedCore, job_id: str) -> None:
    followed = core.follow(job_id)
    core.lose(job_id)
    with pytest.raises(CoreError, match="404"):
        followed.wait_end()


@pytest.mark.parametrize("status", [449, 503])
def test_an_unknown_user_is_introduced_and_the_log_asked_for_again(
    core: SimulatedCore, provider: FakeProvider, job_id: str, status: int
) -> None:
    followed = core.follow(job_id, "new#1", while_running=False)
    peer = provider.peer()
    for _ in range(4):
        peer.respond(peer.frame()["streamId"], status, {"why": "who is that?"})
    stream = peer.announce()
    peer.respond(stream)
    assert followed.wait_end() == ResponseFrame(stream, 200, log("", -1))
    assert [seen.body for seen in provider.at("integration/init")] == [{"username": "new#1"}] * 4
    assert followed.inits == 5
    assert core.protocol_errors == []


def test_five_tries_to_follow_are_all(core: SimulatedCore, provider: FakeProvider, job_id: str) -> None:
    followed = core.follow(job_id, while_running=False)
    peer = provider.peer()
    for _ in range(5):
        peer.respond(peer.frame()["streamId"], 449, {})
    with pytest.raises(CoreError) as refused:
        followed.wait_end()
    assert refused.value.status == 502
    assert followed.error is refused.value
    assert followed.response is not None
    assert (followed.response.status, followed.inits, peer.silent()) == (449, 5, True)


def test_an_introduction_that_is_refused_ends_the_follow(core: SimulatedCore, provider: FakeProvider, running: str) -> None:
    provider.answer("integration/init", (400, {"why": "Unknown user"}))
    followed = core.follow(running)
    peer = provider.peer()
    peer.respond(peer.frame()["streamId"], 449, {})
    with pytest.raises(CoreError, match="Unknown user"):
        followed.wait_end()
    assert followed.inits == 1


def test_a_refusal_is_a_response(core: SimulatedCore, provider: FakeProvider, job_id: str) -> None:
    followed = core.follow(job_id, while_running=False)
    peer = provider.peer()
    stream = peer.frame()["streamId"]
    peer.respond(stream, 404, {"why": "Unknown job", "errorCode": None})
    assert followed.wait_end() == ResponseFrame(stream, 404, {"why": "Unknown job", "errorCode": None})
    assert (followed.session, core.protocol_errors) == (None, [])


def test_a_lost_connection_is_a_499_and_dialled_anew_while_the_job_runs(
    core: SimulatedCore, provider: FakeProvider, running: str
) -> None:
    followed = core.follow(running)
    first = provider.peer()
    stream = first.announce("s1")
    followed.wait_for(lambda: followed.session == "s1")
    first.close()
    second = provider.peer()
    assert followed.response == ResponseFrame(stream, 499, {})
    second.announce("s2")
    followed.wait_for(lambda: followed.session == "s2")
    assert core.protocol_errors == []


def test_a_provider_that_is_away_is_a_502(core: SimulatedCore, provider: FakeProvider, job_id: str) -> None:
    core.connect("http://127.0.0.1:1")
    with core.follow(job_id, while_running=False) as followed:
        frame = followed.wait_end()
    assert frame is not None
    assert (frame.status, followed.inits) == (502, 0)
    core.connect(provider.url)
    provider.waiting["/ucloud/jobs.provider.example/websocket"] = [(503, {})]
    with core.follow(job_id, while_running=False) as followed:
        frame = followed.wait_end()
    assert frame is not None
    assert (frame.status, "503" in frame.payload["why"]) == (502, True)
    assert provider.at("integration/init") == []


def test_cancel_names_the_session_on_a_stream_of_its_own(
    core: SimulatedCore, client: Client, once: tuple[Followed, Peer, str]
) -> None:
    followed, peer, stream = once
    answers: list[ResponseFrame] = []
    thread = threading.Thread(target=lambda: answers.append(followed.cancel()))
    thread.start()
    frame = peer.frame()
    assert int(frame["streamId"]) > int(stream)
    assert frame["payload"] == {"type": "cancel", "streamId": "s1"}
    assert (frame["call"], frame["bearer"][:2]) == (FOLLOW, "ey")
    peer.message(stream, log("s1", 0, "the last"))
    peer.respond(stream, 200, log("s1", -1))
    peer.respond(frame["streamId"], 200, log("", -1))
    thread.join()
    assert answers == [ResponseFrame(frame["streamId"], 200, log("", -1))]
    assert followed.wait_end() == ResponseFrame(stream, 200, log("s1", -1))
    assert followed.text() == "the last"
    assert core.protocol_errors == []


def test_after_a_cancel_there_is_no_other_subscription(core: SimulatedCore, provider: FakeProvider, running: str) -> None:
    followed = core.follow(running)
    with pytest.raises(ValueError, match="No session"):
        followed.cancel()
    peer = provider.peer()
    stream = peer.announce()
    followed.wait_for(lambda: followed.session is not None)
    with pytest.raises(TimeoutError):
        followed.cancel("another", timeout=0.01)
    assert peer.frame()["payload"] == {"type": "cancel", "streamId": "another"}
    peer.respond(stream)
    followed.wait_end()
    assert (core.job(running).state, followed.inits) == ("RUNNING", 1)


def test_whoever_looks_no_more_tells_nobody_and_the_stream_is_still_watched_over(
    core: SimulatedCore, provider: FakeProvider, once: tuple[Followed, Peer, str], job_id: str
) -> None:
    followed, peer, stream = once
    followed.close()
    peer.message(stream, log("s1", 0, "unseen"))
    peer.message(stream, log("s1", 7, "wrong"))
    core.wait_until(lambda: bool(core.protocol_errors))
    peer.respond(stream)
    assert (followed.text(), followed.response, len(followed.messages)) == ("", None, 1)
    with core.follow(job_id, while_running=False):
        other = peer.announce("s2")
    assert other != stream
    assert provider.alone()
    assert core.protocol_errors == [f"{FOLLOW}: a message is of rank 7, but the job has 1 replicas"]
