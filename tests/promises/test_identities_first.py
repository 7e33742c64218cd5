"""Whose jobs are is asked before a transaction and within the time of the request: nobody else waits for a site's program."""

import json
import pwd
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Clock, Open, Serve, World
from tests.sandbox.core import SimulatedCore
from tests.sandbox.processes import wait_until
from tests.support.factories import job_data
from tests.support.foreign import foreign
from tests.support.model import Model
from ucloud_slurm.provider import reconciliation
from ucloud_slurm.provider.identities import missing_jobs
from ucloud_slurm.store.job_state import JobPhase, Stop
from ucloud_slurm.store.people import UserLink
from ucloud_slurm.ucloud.jobs import Job
from ucloud_slurm.ucloud.reports import JobState
from ucloud_slurm.ucloud.wire import from_data
from ucloud_slurm.users.mapping import Table

OWNERS = 10
ASKING_SECONDS = 0.9  # of the site's program, for each of them
PATIENCE_SECONDS = 5.0  # of UCloud
BASE = "/ucloud/example/jobs"


class Program:
    """A site's program that can be slow."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "who-is"
        self.asked = folder / "asked"
        self.write("")

    def write(self, *lines: str) -> None:
        self.path.write_text("\n".join(("#!/bin/sh", f"cat >> {self.asked}", *lines, """echo '{"user": "ada"}'""", "")))
        self.path.chmod(0o755)

    def users(self) -> list[str]:
        return [json.loads(line)["user"] for line in self.asked.read_text().splitlines()] if self.asked.exists() else []


@pytest.fixture
def submit_within() -> str:
    """As shipped."""
    return "2s"


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


@pytest.fixture
def world(
    core: SimulatedCore,
    open_provider: Open,
    serve: Serve,
    model: Model,
    clock: Clock,
    program: Program,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> World:
    real = pwd.getpwnam
    entry = pwd.struct_passwd(("ada", "x", 54321, 54321, "", str(tmp_path / "home"), "/bin/bash"))
    monkeypatch.setattr(pwd, "getpwnam", foreign("getpwnam", lambda name: entry if name == "ada" else real(name)))
    monkeypatch.setattr("ucloud_slurm.provider.context.own_account", lambda: "ada")  # jobs are made in this process
    users = {"mapping": "script", "script": str(program.path), "script_cache": "5m"}
    provider = open_provider(users=users, files=[{"ucloud": "/jobs", "local": f"{tmp_path}/jobs"}])
    program.asked.unlink()
    return World(core, provider, model, clock, serve(provider))


def unknown(owners: int, each: int = 1) -> list[dict[str, Any]]:
    """Jobs of UCloud's that are not in the database."""
    return [
        job_data(f"9{owner}{number}") | {"owner": {"createdBy": f"user{owner}", "project": None}}
        for owner in range(owners)
        for number in range(each)
    ]


class Writer:
    """Another writer of the database, who never waits long."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._over = threading.Event()
        self.longest = 0.0
        self._thread = threading.Thread(target=self._write)

    def _write(self) -> None:
        while not self._over.wait(0.01):
            begun = time.monotonic()
            with self._world.provider.store.writing(within=30):
                pass
            self.longest = max(self.longest, time.monotonic() - begun)
        self._world.provider.store.close()

    def __enter__(self) -> "Writer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


@pytest.mark.parametrize("call", ["terminate", "verify"])
def test_a_slow_mapping_keeps_no_writer_waiting_and_the_call_is_answered_in_time(
    world: World, program: Program, call: str
) -> None:
    program.write(f"sleep {ASKING_SECONDS}")
    body = {"items": unknown(OWNERS)}
    with Writer(world) as writer:
        begun = time.monotonic()
        status, answer = world.core.call("POST", f"{BASE}/{call}", body)
        took = time.monotonic() - begun
    assert took < PATIENCE_SECONDS
    assert writer.longest < ASKING_SECONDS
    if call == "terminate":
        assert (status, "whose jobs these are; please try again" in answer["why"]) == (500, True), answer
    else:
        assert status == 200


@pytest.mark.parametrize("call", ["terminate", "verify"])
def test_what_was_not_asked_in_time_is_done_by_the_calls_that_follow(world: World, program: Program, call: str) -> None:
    program.write(f"sleep {ASKING_SECONDS}")
    body = {"items": unknown(OWNERS // 2)}
    world.core.call("POST", f"{BASE}/{call}", body)
    program.write("")
    assert world.core.call("POST", f"{BASE}/{call}", body)[0] == 200
    for one in body["items"]:
        row = world.row(one["id"])
        assert (row.phase, row.local_user, row.lookup_only) == (JobPhase.SUBMITTING, "ada", True)
        assert row.stop is (Stop.TERMINATED if call == "terminate" else None)


@pytest.mark.parametrize("call", ["terminate", "verify"])
@pytest.mark.parametrize("fails", [False, True])
def test_each_owner_is_asked_for_once(world: World, program: Program, call: str, fails: bool) -> None:
    program.write("exit 1" if fails else "")
    world.core.call("POST", f"{BASE}/{call}", {"items": unknown(2, each=5)})
    assert sorted(program.users()) == ["user0", "user1"]


def test_what_is_known_ends_although_nothing_is_known_of_the_rest(world: World, program: Program) -> None:
    job = world.submit()
    program.write("exit 1")
    known = world.core.job(job)
    status, _ = world.core.call("POST", f"{BASE}/terminate", {"items": [*unknown(1), job_data(known.id)]})
    assert status == 500
    assert world.row(job).stop is Stop.TERMINATED
    assert world.model.counts["scancel"] == 1


def test_a_create_that_came_while_the_owner_was_asked_for_counts(world: World, program: Program) -> None:
    (body,) = unknown(1)
    here, go_on = program.path.with_name("here"), program.path.with_name("go-on")
    program.write(f"touch {here}", f"for i in $(seq 18); do [ -e {go_on} ] && break; sleep 0.05; done")
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(world.core.call, "POST", f"{BASE}/verify", {"items": [body]})
        wait_until("the owner is asked for", here.exists, seconds=20)
        program.write("")
        world.core.call("POST", BASE, {"items": [body]})
        go_on.touch()
        assert asking.result(20)[0] == 200
    assert world.row(body["id"]).lookup_only is False


def test_a_create_of_many_owners_is_answered_in_time(world: World, program: Program) -> None:
    program.write(f"sleep {ASKING_SECONDS}")
    begun = time.monotonic()
    status, answer = world.core.call("POST", BASE, {"items": unknown(OWNERS)})
    assert time.monotonic() - begun < PATIENCE_SECONDS
    assert (status, "who you are" in answer["why"]) == (500, True)
    assert world.provider.jobs.newest(10) == []


def test_a_job_that_ran_between_two_passes_is_recorded_without_a_question_in_the_transaction(
    world: World, program: Program
) -> None:
    job = world.submit()
    world.model.begin_run(world.slurm(job))
    world.clock.advance(30)
    world.model.end(world.slurm(job))
    world.work(60)
    assert world.told(job)[-2:] == ["RUNNING", "SUCCESS"]
    assert next(update["outputFolder"] for update in world.core.job(job).updates) == f"/jobs/{job}"


@pytest.mark.parametrize("era", ["today"], scope="session")
def test_a_pass_asks_for_the_users_of_unknown_jobs_for_a_while_only(
    world: World, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [from_data(Job, one) for one in unknown(3)]
    monkeypatch.setattr(type(world.provider.core), "jobs", lambda _self, state: jobs if state is JobState.RUNNING else [])
    with monkeypatch.context() as short:
        short.setattr(reconciliation, "ASK_SECONDS", 0.0)
        assert reconciliation.reconcile(world.provider)
    assert program.users() == []
    assert all(world.provider.jobs.get(job.id) is None for job in jobs)
    world.clock.advance(world.provider.config.ucloud.compare_every)
    assert reconciliation.reconcile(world.provider)
    assert sorted(program.users()) == ["user0", "user1", "user2"]
    assert {world.row(job.id).local_user for job in jobs} == {"ada"}


def test_a_name_service_that_is_slow_for_each_user_keeps_no_call_beyond_its_time(
    open_provider: Open, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = open_provider()
    provider = replace(provider, mapping=Table(provider.config, provider.people))
    asked: list[str] = []
    now = 1000.0

    def slow(name: str) -> pwd.struct_passwd:
        nonlocal now
        now += 1
        asked.append(name)
        return pwd.struct_passwd((name, "x", 54321, 54321, "", "/home", "/bin/bash"))

    links = [UserLink(f"user{number}", f"ada{number}", 54321, clock(), "test") for number in range(OWNERS)]
    provider.people.add(links, per_account=None)
    monkeypatch.setattr(pwd, "getpwnam", slow)
    monkeypatch.setattr("ucloud_slurm.provider.identities.time.monotonic", lambda: now)
    jobs = [from_data(Job, each) for each in unknown(OWNERS)]
    assert len(missing_jobs(provider, jobs, now + 3)) == len(asked) == 3
