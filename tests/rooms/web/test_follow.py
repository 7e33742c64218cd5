"""jobs.provider.follow: all of a log, once, to those who may see it, until UCloud knows the end."""

import itertools
import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from pytest_mock import MockerFixture
from wsproto.connection import Connection, ConnectionType
from wsproto.events import Ping, TextMessage

from tests.conftest import Open, Serve, World
from tests.sandbox.core import CoreError, SimulatedCore
from tests.sandbox.core.websocket import Socket
from tests.sandbox.processes import wait_until
from tests.support.factories import job_data
from tests.support.job_log import LoggedJob
from tests.support.model import Model
from ucloud_slurm.web.live import entrance, follow, inotify, routes, websocket

FOLLOW = "jobs.provider.example.follow"
PATHS = ("/ucloud/jobs.provider.example/websocket", "/ucloud/example/websocket")
pytestmark = pytest.mark.usefixtures("quick_hub")
NOTHING = {"rank": -1, "stdout": None, "stderr": None}


@pytest.fixture
def job(world: World) -> LoggedJob:
    return LoggedJob(world).start()


class Raw:
    """A WebSocket on which anything can be said."""

    def __init__(self, world: World, socket: Socket) -> None:
        self.socket = socket
        self._world = world
        self._numbers = itertools.count()

    def say(self, payload: Any, call: str = FOLLOW, **more: Any) -> str:
        stream_id = f"s{next(self._numbers)}"
        bearer = self._world.core.tokens.core_token()
        frame = {"call": call, "streamId": stream_id, "payload": payload, "bearer": bearer} | more
        self.socket.send(json.dumps(frame))
        return stream_id

    def hear(self, stream_id: str) -> dict[str, Any]:
        """The next frame, which must be on that stream."""
        frame = self.socket.receive(5)
        assert isinstance(frame, dict)
        assert frame["streamId"] == stream_id, frame
        return frame

    def follow(self, job_id: str) -> str:
        """Begins to follow; returns the stream."""
        stream_id = self.say({"type": "init", "job": job_data(job_id)})
        first = self.hear(stream_id)
        assert first["payload"].items() >= NOTHING.items()
        return stream_id


@pytest.fixture
def open_raw(world: World) -> Iterator[Any]:
    with ExitStack() as stack:
        yield lambda path=PATHS[0], **more: Raw(world, stack.enter_context(world.core.websocket(path, **more)))


@pytest.fixture
def raw(open_raw: Any) -> Raw:
    found: Raw = open_raw()
    return found


# -- what is shown ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("era", ["2021", "2022"], scope="session")
def test_a_log_is_shown_as_it_grows_and_closed_when_ucloud_knows_the_end(world: World, job: LoggedJob) -> None:
    with world.core.follow(job.id) as followed:
        followed.wait_for(lambda: len(followed.messages) == 1, 5)
        job.write("one\n")
        followed.wait_for(lambda: followed.text() == "one\n", 5)
        job.write("oops\n", "stderr")
        followed.wait_for(lambda: followed.text(stream="stderr") == "oops\n", 5)
        job.write("and the last line, without an end")
        job.end()
        response = followed.wait_end(5)
    assert followed.text() == "one\nand the last line, without an end"
    assert response is not None
    assert response.status == 200
    assert followed.inits == 1


def test_while_ucloud_does_not_know_the_end_the_stream_stays_open_so_that_nothing_comes_twice(
    world: World, job: LoggedJob
) -> None:
    with world.core.follow(job.id) as followed:
        followed.wait_for(lambda: len(followed.messages) == 1, 5)
        world.core.faults.outage(True)
        job.end()
        job.write("written late\n")
        followed.wait_for(lambda: followed.text() == "written late\n", 5)
        world.core.faults.outage(False)
        assert followed.response is None
        world.work(20)
        followed.wait_end(5)
    assert followed.inits == 1


def test_letters_of_another_encoding_leave_marks_to_the_last_byte(world: World, job: LoggedJob) -> None:
    with world.core.follow(job.id) as followed:
        followed.wait_for(lambda: len(followed.messages) == 1, 5)
        job.write("Grüße, voilà", encoding="latin-1")
        followed.wait_for(lambda: followed.text() == "Gr\ufffd\ufffde, voil", 5)
        job.end()
        followed.wait_end(5)
    assert followed.text() == "Gr\ufffd\ufffde, voil\ufffd"


def test_each_rank_has_its_own_text(world: World) -> None:
    app = world.core.catalogue.application("sleeper", "1.0.0")
    assert app is not None
    job = LoggedJob(world, replicas=3).start()
    with world.core.follow(job.id) as followed:
        for rank in range(3):
            job.write(f"I am {rank}\n", rank=rank)
        followed.wait_for(lambda: all(followed.text(rank) == f"I am {rank}\n" for rank in range(3)), 5)


def test_a_log_that_is_not_there_yet_is_shown_whole_when_it_appears(world: World, job: LoggedJob) -> None:
    with world.core.follow(job.id) as followed:
        followed.wait_for(lambda: len(followed.messages) == 1, 5)
        text = "".join(f"line {number}\n" for number in range(200_000))
        job.write(text)
        followed.wait_for(lambda: len(followed.text()) >= len(text), 10)
    assert followed.text() == text


def test_of_a_long_log_somebody_who_comes_late_sees_the_end(
    core: SimulatedCore, open_provider: Open, serve: Serve, model: Model, clock: Any
) -> None:
    provider = open_provider(sessions={"tail": 1})
    job = LoggedJob(World(core, provider, model, clock, serve(provider))).start()
    job.write("".join(f"line {number}\n" for number in range(1000)))
    with core.follow(job.id) as followed:
        followed.wait_for(lambda: followed.text().endswith("line 999\n"), 5)
    assert followed.text().startswith("line ")
    assert len(followed.text()) <= 1024


def test_two_people_see_the_same_log(world: World, job: LoggedJob) -> None:
    with world.core.follow(job.id) as first, world.core.follow(job.id, "other") as second:
        job.write("for both\n")
        for followed in (first, second):
            followed.wait_for(lambda followed=followed: followed.text() == "for both\n", 5)  # type: ignore[misc]


def test_a_log_that_is_rotated_is_shown_to_its_end_and_then_the_new_one(world: World, job: LoggedJob) -> None:
    job.write("old\n")
    with world.core.follow(job.id) as followed:
        followed.wait_for(lambda: followed.text() == "old\n", 5)
        path = job.folder / "stdout-0.log"
        path.rename(job.folder / "stdout-0.log.1")
        job.write("new\n")
        followed.wait_for(lambda: followed.text() == "old\nnew\n", 5)


def test_where_the_kernel_tells_of_nothing_the_files_are_looked_at(world: World, job: LoggedJob, mocker: MockerFixture) -> None:
    mocker.patch.object(inotify.InotifyWatcher, "watch", return_value=None)
    mocker.patch.object(follow, "POLL_LEAST_SECONDS", 0.05)
    with world.core.follow(job.id) as followed:
        for number in range(3):
            job.write(f"{number}\n")
            expected = "".join(f"{each}\n" for each in range(number + 1))
            followed.wait_for(lambda expected=expected: followed.text() == expected, 5)  # type: ignore[misc]


def test_the_last_look_finds_a_file_of_which_nobody_was_told(
    world: World, job: LoggedJob, raw: Raw, mocker: MockerFixture
) -> None:
    mocker.patch.object(inotify.InotifyWatcher, "watch", return_value=None)
    mocker.patch.object(follow, "POLL_LEAST_SECONDS", 60)
    job.write("one\n")
    with world.core.follow(job.id) as followed:
        followed.wait_for(lambda: followed.text() == "one\n", 5)
        for _ in range(20):  # the event loop has gone round, and waits
            raw.hear(raw.say({}, call="nothing"))
        (job.folder / "stdout-0.log").rename(job.folder / "old")
        job.write("two, in a file of its own\n")
        job.end()
        followed.wait_end(5)
    assert followed.text() == "one\ntwo, in a file of its own\n"


def test_a_link_in_the_place_of_a_log_shows_a_notice_and_not_what_it_leads_to(world: World, job: LoggedJob) -> None:
    secret = job.folder / "secret"
    secret.write_text("the secret")
    (job.folder / "stdout-0.log").symlink_to(secret)
    with world.core.follow(job.id) as followed:
        followed.wait_for(lambda: "stdout-0.log" in followed.text(stream="stderr"), 5)
        job.end()
        followed.wait_end(5)
    assert followed.text() == ""
    assert "secret" not in followed.text(stream="stderr")


def test_a_connection_shows_that_it_lives(world: World, open_raw: Any, mocker: MockerFixture) -> None:
    mocker.patch.object(routes, "PING_SECONDS", 0.05)
    raw = open_raw()
    assert [raw.socket.receive(5) for _ in range(2)] == [{"ping": "pong"}] * 2


# -- who may see it ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("bearer", [None, "", "x", "provider"])
def test_every_frame_shows_the_token_of_ucloud(world: World, job: LoggedJob, open_raw: Any, path: str, bearer: str) -> None:
    raw = open_raw(path)
    token = world.core.tokens.provider_token() if bearer == "provider" else bearer
    refused = raw.say({"type": "init", "job": job_data(job.id)}, bearer=token)
    answer = raw.hear(refused)
    assert (answer["type"], answer["status"], answer["payload"]["why"]) == ("response", 401, "Unauthenticated")
    # ... and then stops: nothing more comes on that stream, while another lives.
    stream = raw.follow(job.id)
    job.write("text\n")
    assert raw.hear(stream)["payload"]["stdout"] == "text\n"


def test_a_job_that_is_not_there_or_not_ours_is_refused_and_the_other_streams_live_on(
    world: World, job: LoggedJob, raw: Raw
) -> None:
    stream = raw.follow(job.id)
    foreign = job_data(job.id, product={"id": "x", "category": "y", "provider": "another"})
    for payload, status in (
        ({"type": "init", "job": job_data("999")}, 404),
        ({"type": "init", "job": foreign}, 400),
        ({"type": "init", "job": job_data("1;2")}, 400),
        ({"type": "init"}, 400),
        ({"type": "reinit"}, 400),
        ({"type": "cancel", "streamId": "none"}, 400),
        ({}, 400),
    ):
        answer = raw.hear(raw.say(payload))
        assert (answer["type"], answer["status"]) == ("response", status), payload
        assert answer["payload"]["why"]
    job.write("still here\n")
    assert raw.hear(stream)["payload"]["stdout"] == "still here\n"


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "{",
        "[]",
        "null",
        "1",
        '{"call":1}',
        '{"call":"x","streamId":"1"}',
        '{"call":"x","streamId":"1","payload":[]}',
        '{"call":"x","streamId":1,"payload":{}}',
        "\x00",
        '{"ping":"pong"}',
    ],
)
def test_what_is_no_frame_gets_no_answer_and_breaks_nothing(job: LoggedJob, raw: Raw, frame: str) -> None:
    raw.socket.send(frame)
    raw.socket.send(frame.encode() + b"\xff")
    answer = raw.hear(raw.say({}, call="jobs.provider.example.unheard"))
    assert (answer["status"], answer["payload"]) == (404, {})


def test_a_frame_that_is_too_large_is_refused_on_its_stream_and_the_others_live_on(job: LoggedJob, raw: Raw) -> None:
    stream = raw.follow(job.id)
    large = raw.say({"type": "init", "fill": "x" * (websocket.LARGEST_FRAME_BYTES + 1)})
    answer = raw.hear(large)
    assert (answer["type"], answer["status"]) == ("response", 413)
    job.write("still here\n")
    assert raw.hear(stream)["payload"]["stdout"] == "still here\n"


def test_frames_that_never_end_take_no_memory(
    world: World, job: LoggedJob, entrances: list[entrance.Entrance], open_raw: Any, mocker: MockerFixture
) -> None:
    mocker.patch.object(entrance, "STRANGERS_INCOMPLETE_BYTES", 60_000)
    raw = open_raw()
    memory = entrances[0].strangers_memory
    with ExitStack() as stack:
        strangers = [stack.enter_context(world.core.websocket(PATHS[0])) for _ in range(8)]
        for stranger in strangers:
            speaker = Connection(ConnectionType.CLIENT)
            for piece in ("x" * 30_000, *[""] * 10):
                data = speaker.send(TextMessage(piece, message_finished=False))
                stranger._client.sock.sendall(data)
        wait_until("they have arrived", lambda: memory.used > 52_000, seconds=5)
        # A frame of usual size does not depend on what others have left.
        answer = raw.hear(raw.say({"type": "init", "job": job_data(job.id), "fill": "x" * 10_000}))
        assert answer["payload"].items() >= NOTHING.items()
        assert memory.used <= 60_000
    wait_until("they are gone", lambda: memory.used == 0, seconds=5)


def test_a_stranger_who_talks_and_talks_is_sent_away(world: World, job: LoggedJob, raw: Raw) -> None:
    raw.follow(job.id)
    pings = Connection(ConnectionType.CLIENT).send(Ping()) * (websocket.STRANGER_FRAMES + 1)
    with world.core.websocket(PATHS[0]) as stranger:
        stranger._client.sock.sendall(pings)
        wait_until("the stranger is sent away", lambda: stranger.closed, seconds=5)
    raw.socket._client.sock.sendall(pings)
    raw.follow(job.id)


@pytest.mark.parametrize(
    ("era", "most"),
    [("today", routes.FIRST_BYTES), ("2021", routes.FIRST_BYTES + websocket.LARGEST_FRAME_BYTES)],
    scope="session",
)
def test_a_stranger_sends_no_more_than_a_first_frame(world: World, job: LoggedJob, most: int) -> None:
    with world.core.websocket(PATHS[1]) as stranger:
        Raw(world, stranger).say({"fill": "x" * most})
        wait_until("the stranger is sent away", lambda: stranger.closed, seconds=5)


def test_a_session_of_a_refused_shell_makes_room(world: World, job: LoggedJob) -> None:
    opened = world.core.open_session(job.id)
    assert opened is not None
    job.end()
    with pytest.raises(CoreError, match="has ended"):
        world.core.shell(opened)
    another = LoggedJob(world).start()
    world.clock.advance(61)
    world.core.open_session(another.id)
    left = world.provider.store.rows("select * from sessions where ended_at is null")
    assert [row["job_id"] for row in left] == [another.id]


def test_a_cancelled_stream_ends_and_says_so_on_both(world: World, job: LoggedJob) -> None:
    with world.core.follow(job.id, while_running=False) as followed:
        followed.wait_for(lambda: followed.session is not None, 5)
        assert followed.cancel().status == 200
        response = followed.wait_end(5)
        assert response is not None
        assert response.status == 200
        with world.core.follow(job.id, while_running=False) as again:
            job.write("later\n")
            again.wait_for(lambda: again.text() == "later\n", 5)
    assert followed.text() == ""


def test_as_many_follow_a_job_as_may_and_whoever_leaves_makes_room(
    core: SimulatedCore, open_provider: Open, serve: Serve, model: Model, clock: Any
) -> None:
    provider = open_provider(sessions={"most_per_job": 2})
    world = World(core, provider, model, clock, serve(provider))
    job = LoggedJob(world).start()

    def answer() -> int:
        with core.websocket(PATHS[0]) as socket:
            raw = Raw(world, socket)
            frame = raw.hear(raw.say({"type": "init", "job": job_data(job.id)}))
            return int(frame.get("status", 200))

    with core.websocket(PATHS[0]) as first:
        raw = Raw(world, first)
        raw.follow(job.id)
        raw.follow(job.id)
        assert answer() == 429
    wait_until("the streams of the closed connection are gone", lambda: answer() == 200, seconds=5)


@pytest.mark.parametrize("era", ["2021", "2022"], scope="session")
def test_whoever_loses_access_sees_no_more_and_the_owner_stays(world: World, job: LoggedJob) -> None:
    with world.core.follow(job.id) as owner, world.core.follow(job.id, "Guest#1", while_running=False) as guest:
        for each in (owner, guest):
            each.wait_for(lambda each=each: len(each.messages) == 1, 5)  # type: ignore[misc]
        world.core.update_acl(job.id, deleted=[{"type": "user", "username": "Guest#1"}])
        response = guest.wait_end(5)
        assert response is not None
        assert response.status == 403
        job.write("for the owner\n")
        owner.wait_for(lambda: owner.text() == "for the owner\n", 5)
    with world.core.follow(job.id, "Guest#1", while_running=False) as again:
        refused = again.wait_end(5)
        assert refused is not None
        assert refused.status == 403
    entry = {"entity": {"type": "user", "username": "Guest#1"}, "permissions": ["READ"]}
    world.core.update_acl(job.id, added=[entry])
    with world.core.follow(job.id, "Guest#1", while_running=False) as again:
        again.wait_for(lambda: again.text() == "for the owner\n", 5)


def test_when_a_group_loses_access_guests_must_come_again(world: World, job: LoggedJob) -> None:
    with world.core.follow(job.id, "Guest#1", while_running=False) as guest:
        guest.wait_for(lambda: len(guest.messages) == 1, 5)
        world.core.update_acl(job.id, deleted=[{"type": "project_group", "projectId": "p", "group": "g"}])
        response = guest.wait_end(5)
        assert response is not None
        assert response.status == 403
    world.clock.advance(1)
    with world.core.follow(job.id, "Guest#1", while_running=False) as again:
        again.wait_for(lambda: len(again.messages) == 1, 5)


def test_a_connection_that_never_shows_who_it_is_is_closed(world: World, job: LoggedJob, mocker: MockerFixture) -> None:
    mocker.patch.object(routes, "IDENTIFY_SECONDS", 0.1)
    with world.core.websocket(PATHS[0]) as stranger, world.core.websocket(PATHS[0]) as friend:
        Raw(world, friend).follow(job.id)
        stranger.send("{}")
        wait_until("the stranger is sent away", lambda: stranger.closed, seconds=5)
        assert not friend.closed


def test_a_page_of_another_origin_opens_nothing(world: World) -> None:
    for origin, status in (("https://evil.example", 403), (world.core.url, 101)):
        answer = handshake(world, origin)
        assert answer == status


def handshake(world: World, origin: str) -> int:
    try:
        with world.core.websocket(PATHS[1], headers={"Origin": origin}):
            return 101
    except CoreError as error:
        return error.status


def test_a_mistake_of_ours_is_answered_on_its_stream_and_the_others_live_on(
    world: World, job: LoggedJob, raw: Raw, mocker: MockerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    stream = raw.follow(job.id)
    broken = mocker.patch.object(follow.LogFollower, "_payload", side_effect=RuntimeError("the secret is 42"))
    answer = raw.hear(raw.say({"type": "init", "job": job_data(job.id)}))
    mocker.stop(broken)
    assert (answer["status"], answer["payload"]["why"]) == (500, "Internal error of the provider")
    assert "RuntimeError" in caplog.text
    assert "the secret" not in caplog.text
    job.write("still here\n")
    assert raw.hear(stream)["payload"]["stdout"] == "still here\n"
