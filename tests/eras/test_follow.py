"""Logs for today's Core: the token in the handshake, in any state of a job, and closed only when all is over."""

import base64
import json
from collections.abc import Iterator

import pytest
import requests
from pytest_mock import MockerFixture

from tests.conftest import World
from tests.sandbox.core import CoreError
from tests.sandbox.core.websocket import Socket
from tests.sandbox.processes import wait_until
from tests.support.factories import job_data
from tests.support.job_log import LoggedJob
from ucloud_slurm.web.live import routes

pytestmark = [pytest.mark.parametrize("era", ["today"], scope="session"), pytest.mark.usefixtures("quick_hub")]
PATIENCE = 20.0
PATH = "/ucloud/jobs.provider.example/websocket"
FOLLOW = "jobs.provider.example.follow"


@pytest.fixture
def job(world: World) -> LoggedJob:
    return LoggedJob(world)


def bearer(world: World, token: str | None = None) -> dict[str, str]:
    return {"Authorization": f"Bearer {world.core.tokens.core_token() if token is None else token}"}


@pytest.fixture
def core_socket(world: World) -> Iterator[Socket]:
    """What Core opens for the owner's browser."""
    hint = base64.urlsafe_b64encode(b"user").decode()
    with world.core.websocket(f"{PATH}?usernameHint={hint}", headers=bearer(world)) as socket:
        yield socket


def ask(socket: Socket, job_id: str) -> None:
    """The one frame of Core's."""
    payload = {"type": "init", "job": job_data(job_id)}
    socket.send(json.dumps({"call": FOLLOW, "streamId": "ignored", "payload": payload, "bearer": "", "project": None}))


def test_a_log_is_followed_from_the_queue_to_its_last_byte_over_one_connection(world: World, job: LoggedJob) -> None:
    with world.core.follow(job.id) as followed:
        followed.wait_for(lambda: followed.inits == 1)
        job.start()
        job.write("one\n")
        followed.wait_for(lambda: followed.text() == "one\n", 5)
        job.write("and the last line, without an end")
        job.end()
        followed.wait_end(5)
    assert followed.text() == "one\nand the last line, without an end"
    assert followed.inits == 1


def test_the_log_of_a_job_that_has_ended_is_shown_and_closed(world: World, job: LoggedJob) -> None:
    job.start()
    job.write("all of it\n")
    job.end()
    with world.core.follow(job.id, while_running=False) as followed:
        followed.wait_end(5)
    assert followed.text() == "all of it\n"


def test_while_core_does_not_know_the_end_the_connection_stays_open(world: World, job: LoggedJob) -> None:
    job.start()
    with world.core.follow(job.id) as followed:
        world.core.faults.outage(True)
        job.write("text\n")
        job.end()
        followed.wait_for(lambda: followed.text() == "text\n", 5)
        assert not followed.ended
        world.core.faults.outage(False)
        world.work(20)
        followed.wait_end(5)
    assert followed.inits == 1


def test_core_receives_keepalives(world: World, job: LoggedJob, mocker: MockerFixture) -> None:
    mocker.patch.object(routes, "PING_SECONDS", 0.05)
    with world.core.websocket(f"{PATH}?usernameHint=dXNlcg==", headers=bearer(world)) as socket:
        ask(socket, job.id)
        assert socket.receive(5) == {"ping": "pong"}


def test_core_receives_nothing_but_pieces_of_the_log(world: World, job: LoggedJob, core_socket: Socket) -> None:
    job.start()
    ask(core_socket, job.id)
    job.write("text\n")
    frame = core_socket.receive(5)
    assert isinstance(frame, dict)
    assert (frame["payload"]["rank"], frame["payload"]["stdout"]) == (0, "text\n")
    job.end()
    frame = core_socket.receive(5)
    assert isinstance(frame, dict)
    assert frame["payload"] | {"streamId": ""} == {"streamId": "", "rank": 0, "stdout": None, "stderr": None}, "no text"


def test_a_log_that_has_ended_leaves_its_connection_open_for_the_viewers_page(
    world: World, job: LoggedJob, mocker: MockerFixture
) -> None:
    mocker.patch.object(routes, "PING_SECONDS", 0.05)
    job.start()
    with world.core.follow(job.id) as followed:
        job.write("all of it\n")
        job.end()
        followed.wait_end(PATIENCE)
        pings = followed.pings
        followed.wait_for(lambda: followed.pings > pings + 2, PATIENCE)
        assert (followed.text(), followed.inits) == ("all of it\n", 1)
    wait_until("it is closed when the viewer has left", lambda: connections(world) == "0.0", seconds=PATIENCE)


def test_such_a_connection_is_closed_after_hours_and_another_before(
    world: World, job: LoggedJob, mocker: MockerFixture
) -> None:
    mocker.patch.object(routes, "IDLE_SECONDS", 1.0)
    mocker.patch.object(routes, "LINGER_SECONDS", 3600.0)
    job.start()
    job.end()
    with world.core.websocket(PATH, headers=bearer(world)) as ended, world.core.websocket(PATH, headers=bearer(world)) as idle:
        ask(ended, job.id)
        wait_until("one without a log is closed", lambda: idle.closed, seconds=PATIENCE)
        assert not ended.closed
        mocker.patch.object(routes, "LINGER_SECONDS", 0.0)
        wait_until("it is closed in the end", lambda: ended.closed, seconds=PATIENCE)


def connections(world: World) -> str:
    """How many known WebSockets the service says that it has."""
    lines = requests.get(f"{world.url}/metrics", timeout=10).text.splitlines()
    return next(line.split()[1] for line in lines if line.startswith('ucloud_slurm_websockets{class="known"}'))


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer x"}, {"Authorization": "x"}])
def test_without_a_token_of_cores_no_log_is_opened(world: World, headers: dict[str, str]) -> None:
    with pytest.raises(CoreError) as refusal:
        world.core.websocket(PATH, headers=headers)
    assert refusal.value.status == 401


def test_our_own_token_opens_no_log(world: World) -> None:
    with pytest.raises(CoreError) as refusal:
        world.core.websocket(PATH, headers=bearer(world, world.core.tokens.provider_token()))
    assert refusal.value.status == 401


def test_a_browser_cannot_follow_without_a_token(world: World, job: LoggedJob) -> None:
    job.start()
    job.write("secret\n")
    with world.core.websocket("/ucloud/example/websocket?usernameHint=dXNlcg==") as socket:
        ask(socket, job.id)
        answer = socket.receive(5)
    assert isinstance(answer, dict)
    assert answer["status"] == 401


def test_why_a_log_is_not_shown_stands_in_its_place_and_the_connection_stays(
    world: World, core_socket: Socket, mocker: MockerFixture
) -> None:
    ask(core_socket, "999")
    first = core_socket.receive(5)
    assert isinstance(first, dict)
    assert first["payload"]["stderr"] == "[The log is not shown: This provider does not know job 999.]\n"
    assert not core_socket.closed
