"""Core follows the log of a job."""

import base64
import threading
import time
from collections.abc import Callable

import jwt
import pytest

from tests.rooms.sandbox.core.conftest import FOLLOW, SLEEPER, Client, FakeProvider, Json
from tests.rooms.sandbox.core.peer import Peer, log
from tests.sandbox.core import CORE_2021, CORE_2022, CoreCrashError, CoreEra, CoreError, Followed, ResponseFrame, SimulatedCore

SUPPORT: Json = {
    "product": {"id": "example-compute-1", "category": "example-compute", "provider": "example"},
    "docker": {"enabled": True, "logs": True},
    "virtualMachine": {},
}


@pytest.mark.parametrize(
    ("era", "name"), [(CORE_2021, "Jørgen#1234"), (CORE_2022, base64.b64encode("Jørgen#1234".encode()).decode())]
)
def test_the_handshake_names_the_user_in_the_way_of_the_era_and_carries_no_token(
    make_core: Callable[..., SimulatedCore], provider: FakeProvider, era: CoreEra, name: str
) -> None:
    core = make_core(era)
    job_id = core.submit(**SLEEPER)
    core.follow(job_id, user="Jørgen#1234", while_running=False)
    peer = provider.peer()
    assert peer.path == "/ucloud/jobs.provider.example/websocket"
    assert peer.headers["Ucloud-Username"].encode("latin-1").decode() == name
    assert peer.headers["Host"] == provider.url.removeprefix("http://")
    assert "Authorization" not in peer.headers


def test_the_init_has_every_field_of_a_frame_and_the_job_with_updates_and_support(
    core: SimulatedCore, provider: FakeProvider, running: str
) -> None:
    provider.answer("jobs/retrieveProducts", (200, {"responses": [SUPPORT]}))
    core.retrieve_products()
    core.follow(running, while_running=False)
    frame = provider.peer().frame()
    assert frame.keys() == {"call", "streamId", "payload", "bearer", "causedBy", "project"}
    assert (frame["call"], frame["causedBy"], frame["project"]) == (FOLLOW, None, None)
    assert jwt.decode(frame["bearer"], options={"verify_signature": False})["sub"] == "_UCloud"
    assert frame["payload"].keys() == {"type", "job"}
    job = frame["payload"]["job"]
    assert (frame["payload"]["type"], job["id"], job["status"]["state"]) == ("init", running, "RUNNING")
    assert [update["status"] for update in job["updates"]] == ["It runs"]
    assert job["status"]["resolvedSupport"]["support"] == SUPPORT
    assert job["status"]["resolvedApplication"]["metadata"]["name"] == "sleeper"
    assert job["status"]["resolvedProduct"] is None


def test_what_the_nodes_write_is_told_apart_and_kept_in_order(
    core: SimulatedCore, provider: FakeProvider, client: Client
) -> None:
    job_id = core.submit(**SLEEPER, replicas=2)
    with core.follow(job_id, while_running=False) as followed:
        assert (followed.session, followed.response, followed.text()) == (None, None, "")
        peer = provider.peer()
        stream = peer.announce("a session")
        said = [
            log("a session", 0, "one "),
            log("a session", 1, "other"),
            log("a session", 0, "ø", "oh"),
            log("a session", 0),
            log("a session", -1),
            log("a session", 0, "two\n"),
        ]
        for payload in said:
            peer.message(stream, payload)
        peer.respond(stream, 200, log("a session", -1))
        assert followed.wait_end() == ResponseFrame(stream, 200, log("a session", -1))
        assert followed.messages == (log("a session", -1), *said)
        assert (followed.text(), followed.text(1), followed.text(0, "stderr")) == ("one øtwo\n", "other", "oh")
        assert followed.text(1, "stderr") == ""
        assert (followed.session, followed.inits, followed.error) == ("a session", 1, None)
    assert core.protocol_errors == []


def test_connections_are_shared_by_one_user_and_outlive_what_was_followed(
    core: SimulatedCore, provider: FakeProvider, job_id: str
) -> None:
    peers: list[Peer] = []
    streams = []
    for user in ("user", "other", "user"):
        followed = core.follow(job_id, user, while_running=False)
        if user not in [peer.headers["Ucloud-Username"] for peer in peers]:
            peers.append(provider.peer())
        peer = next(peer for peer in peers if peer.headers["Ucloud-Username"] == user)
        streams.append(peer.announce())
        peer.respond(streams[-1])
        followed.wait_end()
        followed.close()
    assert provider.alone()
    assert all(peer.silent() for peer in peers)
    assert all(stream.isdecimal() for stream in streams)
    assert sorted(streams, key=int) == streams
    assert len(set(streams)) == 3
    core.stop()
    assert [peer.raw() for peer in peers] == [None, None]
    assert core.protocol_errors == []


def test_the_ids_of_streams_are_unique_in_the_whole_process(
    make_core: Callable[..., SimulatedCore], provider: FakeProvider
) -> None:
    streams = []
    for core in (make_core(), make_core()):
        core.follow(core.submit(**SLEEPER), while_running=False)
        streams.append(provider.peer().frame()["streamId"])
    assert int(streams[0]) < int(streams[1])


def test_two_who_follow_at_once_hear_what_is_theirs(core: SimulatedCore, provider: FakeProvider) -> None:
    jobs = core.submit_many([SLEEPER] * 2)
    followed = [core.follow(job_id, while_running=False) for job_id in jobs]
    peer = provider.peer()
    frames = [peer.frame() for _ in jobs]
    streams = {frame["payload"]["job"]["id"]: frame["streamId"] for frame in frames}
    for job_id in jobs:
        peer.message(streams[job_id], log(job_id, -1))
    for job_id in jobs:
        peer.message(streams[job_id], log(job_id, 0, f"of {job_id}"))
        peer.respond(streams[job_id])
    assert [each.wait_end() is not None and each.text() for each in followed] == [f"of {job_id}" for job_id in jobs]
    assert [each.session for each in followed] == jobs
    assert provider.alone()
    assert core.protocol_errors == []


def test_follow_begins_when_core_takes_the_job_for_running(
    core: SimulatedCore, client: Client, provider: FakeProvider, job_id: str
) -> None:
    with core.follow(job_id) as followed:
        with pytest.raises(TimeoutError):
            followed.wait_for(lambda: followed.inits > 0, 0.25)
        assert provider.alone()
        client.update((job_id, {"state": "RUNNING"}))
        provider.peer().announce()
        followed.wait_for(lambda: followed.session == "s1")
        assert not followed.ended


def test_follow_subscribes_again_when_the_provider_ends_a_running_stream(
    core: SimulatedCore, client: Client, provider: FakeProvider, running: str
) -> None:
    followed = core.follow(running)
    peer = provider.peer()
    first = peer.announce("s1")
    peer.message(first, log("s1", 0, "text "))
    began = time.monotonic()
    peer.respond(first)
    second = peer.announce("s2")
    assert time.monotonic() - began >= 0.1
    assert int(second) > int(first)
    followed.wait_for(lambda: followed.session == "s2")
    peer.message(second, log("s2", 0, "text again"))
    client.update((running, {"state": "SUCCESS"}))
    with pytest.raises(TimeoutError):
        followed.wait_end(0.25)
    peer.respond(second)
    assert followed.wait_end() == ResponseFrame(second, 200, log("", -1))
    assert (followed.text(), followed.inits) == ("text text again", 2)
    assert core.protocol_errors == []


def test_a_job_that_has_ended_is_not_followed(
    core: SimulatedCore, client: Client, provider: FakeProvider, running: str
) -> None:
    client.update((running, {"state": "FAILURE"}))
    followed = core.follow(running)
    assert followed.wait_end() is None
    assert (followed.inits, provider.alone()) == (0, True)
    with pytest.raises(CoreError, match="404"):
        core.follow("1")


def test_a_log_that_is_asked_for_once_is_asked_for_once_in_any_state(
    core: SimulatedCore, client: Client, once: tuple[Followed, Peer, str], job_id: str
) -> None:
    followed, peer, stream = once
    assert core.job(job_id).state == "IN_QUEUE"
    client.update((job_id, {"state": "RUNNING"}))
    peer.respond(stream)
    followed.wait_end()
    with pytest.raises(TimeoutError):
        followed.wait_for(lambda: followed.inits > 1, 0.25)


def test_pings_keep_the_connection_and_are_counted(core: SimulatedCore, once: tuple[Followed, Peer, str]) -> None:
    followed, peer, _ = once
    for _ in range(2):
        peer.send({"ping": "pong"})
    followed.wait_for(lambda: followed.pings == 2)
    assert len(followed.messages) == 1
    assert core.protocol_errors == []


def test_the_moment_of_each_message_can_be_had(core: SimulatedCore, provider: FakeProvider, job_id: str) -> None:
    seen: list[tuple[float, Json]] = []
    later: list[Json] = []
    began = time.monotonic()
    followed = core.follow(job_id, while_running=False, on_message=lambda at, payload: seen.append((at, payload)))
    peer = provider.peer()
    stream = peer.announce()
    followed.wait_for(lambda: len(seen) == 1)
    followed.on_message(lambda _, payload: later.append(payload))
    peer.message(stream, log("s1", 0, "x"))
    followed.wait_for(lambda: bool(later))
    assert [payload for _, payload in seen] == list(followed.messages)
    assert later == [log("s1", 0, "x")]
    assert began < seen[0][0] < seen[1][0] < time.monotonic()


def test_a_failure_in_such_a_function_is_not_silent(core: SimulatedCore, once: tuple[Followed, Peer, str]) -> None:
    followed, peer, stream = once
    followed.on_message(lambda *_: pytest.fail("seen"))
    peer.message(stream, log("s1", 0, "x"))
    peer.respond(stream)
    followed.wait_end()
    assert followed.text() == "x"
    with pytest.raises(CoreCrashError, match="seen"):
        core.stop()


def test_waiting_names_what_did_not_come(once: tuple[Followed, Peer, str]) -> None:
    followed, _, _ = once
    with pytest.raises(TimeoutError, match="a word from job 54112 did not come"):
        followed.wait_for(lambda: "word" in followed.text(), 0.01, "a word")
    with pytest.raises(TimeoutError, match="the end of the log"):
        followed.wait_end(0.01)


def test_a_big_log_is_fast(core: SimulatedCore, once: tuple[Followed, Peer, str]) -> None:
    followed, peer, stream = once
    piece = ("x" * 79 + "\n") * 820
    began = time.monotonic()

    def write() -> None:
        for _ in range(240):
            peer.message(stream, log("s1", 0, piece))

    sender = threading.Thread(target=write)
    sender.start()
    followed.wait_for(lambda: len(followed.text()) == 240 * len(piece), 30)
    sender.join()
    assert time.monotonic() - began < 5
    assert followed.text() == piece * 240


def test_stop_leaves_no_thread_and_ends_what_is_followed(
    core: SimulatedCore, provider: FakeProvider, running: str, job_id: str
) -> None:
    before = set(threading.enumerate())
    followed = core.follow(running)
    once = core.follow(job_id, "other", while_running=False)
    peers = [provider.peer(), provider.peer()]
    for peer in peers:
        peer.announce()
    assert len([thread for thread in threading.enumerate() if thread.name.startswith("simulated-core-")]) == 4
    core.stop()
    assert followed.ended
    assert once.ended
    for peer in peers:
        assert peer.raw() is None
    left = [thread.name for thread in set(threading.enumerate()) - before]
    assert not [name for name in left if name.startswith("simulated-core")]


def test_a_stop_does_not_wait_for_a_provider_that_does_not_say_goodbye(
    core: SimulatedCore, provider: FakeProvider, job_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    core.follow(job_id, while_running=False)
    peer = provider.peer()
    release = threading.Event()
    monkeypatch.setattr(peer._websocket, "_handle_events", lambda: release.wait(10))
    began = time.monotonic()
    core.stop()
    assert time.monotonic() - began < 5
    release.set()


def test_what_is_followed_stands_in_the_record(core: SimulatedCore, once: tuple[Followed, Peer, str]) -> None:
    followed, peer, stream = once
    open_ = core.exchanges[-1]
    assert (open_.direction, open_.call, open_.status) == ("core->provider", FOLLOW, 0)
    assert (open_.job_ids, open_.username, open_.request["type"]) == (("54112",), "user", "init")
    assert "bearer" not in repr(open_)
    peer.respond(stream)
    followed.wait_end()
    ended = core.exchanges[open_.number]
    assert (ended.status, ended.response, ended.delivered) == (200, log("", -1), True)
