"""Every call is answered within 3 s of its arrival, whatever is down or full, and however long it has waited for a thread.

What hangs here takes all the time that it was given, by a clock that the test moves: nothing waits, and a slow host
changes nothing.
"""

import json
import pwd
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import pytest
from pytest_mock import MockerFixture

from tests.conftest import Open, World
from tests.sandbox.core.provider import encoded_username
from tests.sandbox.processes import wait_until
from tests.support.factories import application, jinja, job, job_data, word
from ucloud_slurm.app import create_app
from ucloud_slurm.errors import CoreUnavailableError
from ucloud_slurm.provider import rendering
from ucloud_slurm.slurm.errors import SchedulerUnavailableError
from ucloud_slurm.store import sqlite
from ucloud_slurm.store.breaker import RUNNER, SLURM, UCLOUD
from ucloud_slurm.store.job_state import JobPhase
from ucloud_slurm.system import deadline
from ucloud_slurm.system.process import CommandTimeoutError, Finished
from ucloud_slurm.ucloud.core import Core
from ucloud_slurm.users import script
from ucloud_slurm.web import bulk

LIMIT_SECONDS = 3.0
WAITED = (0.0, 1.2, 1.9, 2.2)  # seconds in the queue for a thread
BASE = "/ucloud/example"
QUESTIONS = (
    "job", "some", "cancel", "ping", "partitions", "nodes", "load", "accounts", "is_operator", "set_time_limit", "suspend",
    "resume",
)  # fmt: skip


class Hanging:
    """The monotonic clock, which what hangs moves by as much as it was given."""

    def __init__(self, real: Callable[[], float]) -> None:
        self._real = real
        self._lock = threading.Lock()
        self.seconds = 0.0
        self.over = threading.Event()

    def now(self) -> float:
        return self._real() + self.seconds

    def hang(self, seconds: float) -> None:
        with self._lock:
            self.seconds += max(seconds, 0.0)


@pytest.fixture
def submit_within() -> str:
    """As shipped."""
    return "2s"


@pytest.fixture
def hanging(mocker: MockerFixture) -> Iterator[Hanging]:
    hanging = Hanging(time.monotonic)
    mocker.patch("time.monotonic", hanging.now)

    class Queue(SimpleQueue[Any]):
        def get(self, block: bool = True, timeout: float | None = None) -> Any:
            try:
                return super().get(timeout=0.1)
            except Empty:
                hanging.hang(timeout or 0.0)
                raise

    mocker.patch.object(bulk, "SimpleQueue", Queue)
    yield hanging
    hanging.over.set()


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program of the site that maps researchers."""
    path = tmp_path / "who-is"
    path.write_text('#!/bin/sh\necho \'{"user": "ada"}\'\n')
    path.chmod(0o755)
    return path


@pytest.fixture
def world(world: World, open_provider: Open, program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A site whose program maps everybody to the account of this process."""
    entry = pwd.struct_passwd(("ada", "x", 54321, 54321, "", str(tmp_path / "home"), "/bin/bash"))
    real = pwd.getpwnam
    monkeypatch.setattr(pwd, "getpwnam", lambda name: entry if name == "ada" else real(name))
    monkeypatch.setattr("ucloud_slurm.provider.context.own_account", lambda: "ada")
    monkeypatch.setattr(script, "run", lambda *_: Finished(0, '{"user": "ada"}', ""))  # at once, on a busy host too
    users = {"mapping": "script", "script": str(program)}
    world.provider = open_provider(users=users, sessions={"url": "https://*.example.org"})
    return world


class Caller:
    """UCloud, whose calls have waited for a thread."""

    def __init__(self, world: World, hanging: Hanging) -> None:
        self._client = create_app(provider=world.provider).test_client()
        name = encoded_username("user", world.core.era).decode()
        self._headers = {"Authorization": f"Bearer {world.core.tokens.core_token()}", "UCloud-Username": name}
        self._hanging = hanging

    def call(self, verb: str, path: str, body: Any = None, waited: float = 0.0) -> tuple[int, Any, float]:
        """Status, JSON, and the seconds since the arrival that what hangs has been given."""
        before = self._hanging.seconds
        with deadline.arrived_at(time.monotonic() - waited):
            answer = self._client.open(f"{BASE}/{path}", method=verb, data=json.dumps(body), headers=self._headers)
        return answer.status_code, answer.get_json(silent=True), waited + self._hanging.seconds - before


@pytest.fixture
def caller(world: World, hanging: Hanging) -> Caller:
    return Caller(world, hanging)


@pytest.fixture
def running(world: World, caller: Caller) -> str:
    """A job that runs, and has a web page."""
    assert caller.call("POST", "jobs", {"items": [job_data("1", app=PAGE)]})[0] == 200
    wait_until("its submission is over", lambda: world.row("1").claimed_until is None, seconds=60)
    world.work(20)  # submits it where a busy host has not
    world.model.begin_run(world.slurm("1"))
    world.work(1)
    return "1"


# -- what is down -----------------------------------------------------------------------------------------------


def slurm(world: World, hanging: Hanging, mocker: MockerFixture) -> None:
    def ask(*arguments: Any, **_more: Any) -> Any:
        hanging.hang(arguments[-1])
        raise SchedulerUnavailableError("it hangs")

    for question in QUESTIONS:
        mocker.patch.object(world.model, question, ask)

    def submit(*_: Any) -> None:
        hanging.over.wait(60)

    mocker.patch.object(world.model, "submit", submit)


def mapping(_world: World, hanging: Hanging, mocker: MockerFixture) -> None:
    def run(_argv: Any, _env: Any, timeout: float, _stdin: str) -> Any:
        hanging.hang(timeout)
        raise CommandTimeoutError("it hangs")

    mocker.patch.object(script, "run", run)


def ucloud(_world: World, hanging: Hanging, mocker: MockerFixture) -> None:
    def ask(*_arguments: Any, timeout: float, **_more: Any) -> Any:
        hanging.hang(timeout)
        raise CoreUnavailableError("it hangs")

    mocker.patch.object(Core, "job", ask)
    mocker.patch.object(Core, "product", ask)


def templates(_world: World, hanging: Hanging, mocker: MockerFixture) -> None:
    def run(_argv: Any, _env: Any, timeout: float, _stdin: str) -> Any:
        hanging.hang(timeout)
        raise CommandTimeoutError("it hangs")

    mocker.patch.object(rendering, "run", run)


def writer(_world: World, hanging: Hanging, mocker: MockerFixture) -> None:
    def begin(_self: Any, until: float) -> None:
        hanging.hang(until - time.monotonic())
        raise failed(sqlite3.SQLITE_BUSY)

    mocker.patch.object(sqlite.Connection, "begin", begin)


def disk(_world: World, _hanging: Hanging, mocker: MockerFixture) -> None:
    mocker.patch.object(sqlite.Connection, "begin", side_effect=failed(sqlite3.SQLITE_FULL))


def failed(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("as SQLite says it")
    error.sqlite_errorcode = code
    return error


def breaker(world: World, _hanging: Hanging, _mocker: MockerFixture) -> None:
    for part in (SLURM, UCLOUD, RUNNER):
        world.provider.breaker.open(part, "it did not answer", world.clock())


def everything(world: World, hanging: Hanging, mocker: MockerFixture) -> None:
    for each in (slurm, mapping, ucloud, templates, writer):
        each(world, hanging, mocker)


DOWN = (slurm, mapping, ucloud, templates, writer, disk, breaker, everything)
USER = {"username": "user"}
PAGE = application(word("true"), applicationType="WEB")
UNRESOLVED = application(word("false"))  # of which UCloud sends the name only


def calls(job_id: str) -> list[tuple[str, str, Any]]:
    """Every call of UCloud, with what is unknown here and must be asked."""
    known, unknown = job_data(job_id), job_data("404")
    asked = job_data("2", app=UNRESOLVED) | {"owner": {"createdBy": "another", "project": None}}
    asked["status"]["resolvedApplication"] = None
    rendered = job_data("3", app=application(jinja("{{ 1 }}"), backend="NATIVE"))
    more = {"hours": 1, "minutes": 0, "seconds": 0}
    form = {"owner": {"createdBy": "user", "project": None}, "application": application(word("true"))}
    return [
        *(("POST", "jobs", {"items": [each]}) for each in (job_data("4"), asked, rendered)),
        *(("POST", f"jobs/{name}", {"items": [each]}) for name in ("terminate", "verify") for each in (unknown,)),
        ("POST", "jobs/extend", {"items": [{"job": known, "requestedTime": more}]}),
        ("POST", "jobs/suspend", {"items": [{"job": known}]}),
        ("POST", "jobs/unsuspend", {"items": [{"job": known}]}),
        *(
            ("POST", "jobs/interactiveSession", {"items": [{"job": known, "rank": 0, "sessionType": kind}]})
            for kind in ("SHELL", "WEB")
        ),
        ("POST", "jobs/updateAcl", {"items": [{"resource": known, "added": [], "deleted": []}]}),
        ("POST", "jobs/verify", {"items": [known]}),
        ("POST", "jobs/requestDynamicParameters", form),
        ("POST", "jobs/onUpdatedLabels", {"items": [known]}),
        ("POST", "jobs/init", {"principal": {"createdBy": "user", "project": None}}),
        ("GET", "jobs/retrieveProducts", None),
        ("GET", "jobs/retrieveUtilization", None),
        ("GET", "integration/retrieveManifest", None),
        ("GET", "integration/retrieveStatus", None),
        ("POST", "integration/init", USER),
        ("POST", "integration/connect", USER),
        ("POST", "integration/unlinked", USER),
        ("POST", "jobs/terminate", {"items": [known]}),
    ]


ASKS_SLURM = ("jobs/extend", "jobs/suspend", "jobs/unsuspend", "jobs/interactiveSession", "jobs/retrieveUtilization")
ASKS_WHO = ("jobs", "jobs/terminate", "jobs/interactiveSession")
WRITES = ("jobs", "jobs/terminate", "jobs/verify", "jobs/updateAcl", "integration/connect")
REFUSED: dict[Any, tuple[int, tuple[str, ...]]] = {
    slurm: (500, ASKS_SLURM),
    breaker: (500, ASKS_SLURM),
    mapping: (500, ASKS_WHO),
    ucloud: (500, ("jobs/interactiveSession",)),
    writer: (500, (*WRITES, *ASKS_SLURM, *ASKS_WHO)),
    disk: (507, (*WRITES, *ASKS_SLURM, *ASKS_WHO)),
    everything: (500, (*WRITES, *ASKS_SLURM, *ASKS_WHO)),
}


@pytest.mark.parametrize("waited", WAITED)
@pytest.mark.parametrize("down", DOWN, ids=lambda down: down.__name__)
def test_every_call_is_answered_in_time(
    world: World, caller: Caller, hanging: Hanging, running: str, down: Any, waited: float, mocker: MockerFixture
) -> None:
    mocker.patch.object(Core, "job", lambda _self, job_id, **_: job(job_id, app=PAGE if job_id == running else UNRESOLVED))
    mocker.patch.object(bulk, "MOST_QUEUED", 0)  # what hangs after the answer does not count
    world.provider.store.change("delete from caches")
    down(world, hanging, mocker)
    if down not in (writer, disk, everything):  # each call finds what is down as the first one did
        mocker.patch.object(type(world.provider.breaker), "_write")
    status, paths = REFUSED.get(down, (200, ()))
    late = (*ASKS_SLURM, "jobs/terminate") if waited > 1.5 else ()
    wrong = []
    for verb, path, body in calls(running):
        answered, text, seconds = caller.call(verb, path, body, waited)
        expected = {200} | ({status} if path in paths else set()) | ({500} if path in late else set())
        if path == "integration/connect":
            expected.add(400)  # the site's program knows everybody
        if seconds >= LIMIT_SECONDS or answered not in expected or (answered != 200 and not text["why"]):
            wrong.append((path, answered, text, round(seconds, 2)))
    assert wrong == [], "\n".join(str(each) for each in wrong)


# -- create -----------------------------------------------------------------------------------------------------


def test_a_create_that_has_waited_for_a_thread_waits_so_much_less_for_slurm(
    world: World, caller: Caller, hanging: Hanging, mocker: MockerFixture
) -> None:
    slurm(world, hanging, mocker)
    status, _, seconds = caller.call("POST", "jobs", {"items": [job_data("1")]}, waited=0.5)
    assert (status, seconds <= world.provider.config.jobs.submit_within) == (200, True)
    assert world.row("1").acknowledged_at is not None


def test_a_create_without_time_is_written_in_one_transaction_and_the_worker_makes_one_slurm_job(
    world: World, caller: Caller, mocker: MockerFixture
) -> None:
    assert caller.call("POST", "jobs", {"items": [job_data("1")]})[0] == 200  # what is cached is cached
    mocker.patch.object(bulk, "MOST_QUEUED", 0)
    begun = mocker.spy(sqlite.Connection, "begin")
    assert caller.call("POST", "jobs", {"items": [job_data("2")]}, waited=2.2)[0] == 200
    assert begun.call_count == 1
    row = world.row("2")
    assert (row.phase, row.attempts, world.model.of("2")) == (JobPhase.ACCEPTED, 0, [])
    assert row.acknowledged_at is not None
    for _ in range(2):
        world.work(20)
    assert (world.row("2").phase, len(world.model.of("2"))) == (JobPhase.LIVE, 1)


def test_a_bulk_without_time_is_accepted_whole(world: World, caller: Caller) -> None:
    assert caller.call("POST", "jobs", {"items": [job_data(str(number)) for number in range(50)]}, waited=2.2)[0] == 200
    assert world.model.jobs == []
    rows = world.provider.jobs.newest(50)
    assert {(row.phase, row.acknowledged_at is None) for row in rows} == {(JobPhase.ACCEPTED, False)}
    world.work(20)
    assert len(world.model.jobs) == 50


def test_where_many_submissions_wait_a_create_is_answered_and_its_job_submitted_after_them(
    world: World, caller: Caller, hanging: Hanging
) -> None:
    threads = world.provider.config.slurm.submit_at_once
    for number in range((1 + bulk.CROWD_QUEUE) * threads):
        world.provider.executor.submit(f"researcher {number}", lambda: hanging.over.wait(60))
    status, _, seconds = caller.call("POST", "jobs", {"items": [job_data("1")]})
    assert (status, seconds) == (200, 0.0)
    assert (world.row("1").phase, world.row("1").attempts) == (JobPhase.ACCEPTED, 0)
    hanging.over.set()
    wait_until("its job is submitted", lambda: world.row("1").phase is JobPhase.LIVE, seconds=60)
    assert (world.row("1").attempts, len(world.model.of("1"))) == (1, 1)


def test_a_create_that_cannot_be_queued_for_lack_of_a_thread_is_answered_and_its_job_submitted_by_the_worker(
    world: World, caller: Caller, mocker: MockerFixture
) -> None:
    assert caller.call("POST", "jobs", {"items": [job_data("1")]})[0] == 200  # what is cached is cached
    no_thread = mocker.patch.object(world.provider.executor, "submit", side_effect=RuntimeError("can't start new thread"))
    assert caller.call("POST", "jobs", {"items": [job_data("2")]}, waited=2.2)[0] == 200
    assert no_thread.call_count == 1
    assert world.row("2").acknowledged_at is not None
    mocker.stop(no_thread)
    for _ in range(2):
        world.work(20)
    assert (world.row("2").phase, len(world.model.of("2"))) == (JobPhase.LIVE, 1)


def test_a_job_that_is_terminated_while_it_is_queued_is_not_submitted(world: World, caller: Caller, hanging: Hanging) -> None:
    threads = world.provider.config.slurm.submit_at_once
    for number in range((1 + bulk.CROWD_QUEUE) * threads):
        world.provider.executor.submit(f"researcher {number}", lambda: hanging.over.wait(60))
    assert caller.call("POST", "jobs", {"items": [job_data("1")]})[0] == 200
    assert caller.call("POST", "jobs/terminate", {"items": [job_data("1")]})[0] == 200
    hanging.over.set()
    last = world.provider.executor.submit("user", lambda: None)
    last.result(timeout=60)
    world.work(20)
    assert world.model.jobs == []


def test_a_bulk_of_one_person_does_not_make_a_crowd_for_another(world: World, caller: Caller, hanging: Hanging) -> None:
    threads = world.provider.config.slurm.submit_at_once
    tasks = [world.provider.executor.submit("a bulk", lambda: hanging.over.wait(60)) for _ in range(10 * threads)]
    assert world.provider.executor.ahead("user") == 1
    assert world.provider.executor.ahead("a bulk") >= 9 * threads
    for task in tasks:
        task.cancel()
