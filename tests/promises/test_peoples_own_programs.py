"""What a person's own program does not answer stops that person's submissions, and nobody else's."""

import os
import pwd
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from pytest_mock import MockerFixture

from tests.conftest import Clock, Serve, World, configuration
from tests.sandbox.core import SimulatedCore
from tests.sandbox.processes import wait_until
from tests.support.factories import job_data
from tests.support.model import Model
from tests.support.people import SLEEPER
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.slurm.errors import OutcomeUnknownError
from ucloud_slurm.slurm.records import SlurmJobId, Submission
from ucloud_slurm.store.breaker import FORGET_SECONDS, LONGEST_SECONDS, OPEN_SECONDS, RUNNER, SLURM, CircuitBreaker, person
from ucloud_slurm.store.job_state import JobPhase
from ucloud_slurm.store.people import UserLink
from ucloud_slurm.system import ipc

PATIENCE = 30.0
PEOPLE = {"ada": 54321, "bob": 54322}


class Runner:
    """A stand-in for the runner: every folder is made at once, as long as it is there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answer: dict[str, str] = {}
        self._listener = ipc.listener(path, 0o600)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                try:
                    ipc.serve(connection, lambda _message, _descriptors: self.answer, waits=1.0, sends=1.0)
                except ipc.ConnectionLostError:
                    continue  # somebody looked whether it is there

    def close(self) -> None:
        self.path.unlink()
        self._listener.close()


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    runner = Runner(tmp_path / "runner.sock")
    yield runner
    if runner.path.exists():
        runner.close()


@pytest.fixture
def people(
    core: SimulatedCore,
    clock: Clock,
    model: Model,
    tmp_path: Path,
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    runner: Runner,
) -> World:
    """A site whose jobs run as ada and bob."""
    getpwnam = pwd.getpwnam
    known = {name: pwd.struct_passwd((name, "x", uid, uid, "", str(tmp_path), "/bin/bash")) for name, uid in PEOPLE.items()}
    monkeypatch.setattr(pwd, "getpwnam", lambda name: known.get(name) or getpwnam(name))
    users = {"mapping": "table", "runner": str(runner.path)}
    config = configuration(core, tmp_path, users=users, jobs={"submit_within": "1s"}, slurm={"submit_at_once": 2})
    provider = Provider.open(config, now=clock, scheduler=model)
    for name, uid in PEOPLE.items():
        provider.people.add([UserLink(f"{name}#1", name, uid, 0.0, "root")])
    return World(core, provider, model, clock, serve(provider))


def create(world: World, user: str, *ids: str) -> int:
    jobs = [job_data(job_id) for job_id in ids]
    for each in jobs:
        each["owner"]["createdBy"] = f"{user}#1"
    return int(world.core.call("POST", "/ucloud/example/jobs", {"items": jobs})[0])


def stuck(mocker: MockerFixture, world: World, user: str, stays: Callable[[], object] = lambda: None) -> None:
    """That person's sbatch is killed, or does not answer; nothing reaches Slurm."""
    submit = world.model.submit

    def killed(submission: Submission, within: float) -> SlurmJobId:
        if submission.user == user:
            world.model.counts[f"stuck {user}"] += 1
            stays()
            raise OutcomeUnknownError("the program that acts as the user gave no answer")
        return submit(submission, within)

    mocker.patch.object(world.model, "submit", killed)


def phases(world: World, *ids: str) -> list[JobPhase]:
    return [world.row(job_id).phase for job_id in ids]


def test_a_killed_program_pauses_its_owner_and_nobody_else(people: World, mocker: MockerFixture) -> None:
    stuck(mocker, people, "ada")
    assert create(people, "ada", "1") == 200
    assert people.provider.breaker.allows(SLURM, people.clock())
    assert people.provider.breaker.of(SLURM).failing_since is None
    assert (people.model.counts["ping"], people.model.counts["stuck ada"]) == (1, 1)
    assert create(people, "ada", "2") == 200, "it is accepted, and waits"
    assert create(people, "bob", "3") == 200
    assert phases(people, "1", "2", "3") == [JobPhase.SUBMITTING, JobPhase.ACCEPTED, JobPhase.LIVE]
    people.work(OPEN_SECONDS - 1)
    assert people.model.counts["stuck ada"] == 1, "the worker waits as well"
    mocker.stopall()
    for _ in range(6):
        people.work(10)
    assert phases(people, "1", "2", "3") == [JobPhase.LIVE] * 3
    assert [len(people.model.of(job_id)) for job_id in ("1", "2", "3")] == [1, 1, 1]


def test_a_pass_tries_a_program_that_does_not_answer_once(people: World, mocker: MockerFixture) -> None:
    people.provider.breaker.open(SLURM, "away", people.clock())
    assert create(people, "ada", "1", "2", "3") == 200
    executor = people.provider.executor
    stuck(mocker, people, "ada", lambda: wait_until("the others wait", lambda: executor._queued == 2, seconds=PATIENCE))
    people.work(OPEN_SECONDS)
    assert people.model.counts["stuck ada"] == 1
    assert sorted(phases(people, "1", "2", "3")) == [JobPhase.ACCEPTED, JobPhase.ACCEPTED, JobPhase.SUBMITTING]


def test_the_pages_for_operators_count_such_people_and_stay_ready(people: World, mocker: MockerFixture) -> None:
    def shown() -> tuple[list[str], str]:
        ready = requests.get(f"{people.url}/readyz", timeout=10).json()
        text = requests.get(f"{people.url}/metrics", timeout=10).text
        assert "ada" not in text
        (line,) = (line for line in text.splitlines() if line.startswith("ucloud_slurm_users_waiting "))
        return [str(reason) for reason in ready["reasons"]], line

    people.work()
    assert shown() == ([], "ucloud_slurm_users_waiting 0.0")
    stuck(mocker, people, "ada")
    create(people, "ada", "1")
    assert shown() == ([], "ucloud_slurm_users_waiting 1.0")
    mocker.stopall()
    people.clock.advance(OPEN_SECONDS)
    create(people, "ada", "2")
    assert shown() == ([], "ucloud_slurm_users_waiting 0.0")
    assert people.provider.store.row("select * from health where part = ?", [person("ada")]) is None


def test_what_such_a_program_says_of_slurm_is_asked_of_slurm(people: World) -> None:
    assert create(people, "bob", "0") == 200  # the partitions are known from now on
    people.model.controller = False
    assert create(people, "ada", "1") == 200
    assert people.model.counts["ping"] == 1
    assert not people.provider.breaker.allows(SLURM, people.clock())
    assert "Unable to contact" in people.provider.breaker.of(SLURM).reason
    assert people.provider.breaker.persons(people.clock()) == 0, "it was not ada's fault"
    assert create(people, "bob", "2") == 200
    assert people.model.counts["sbatch"] == 2


def test_a_runner_that_is_away_is_not_slurm(people: World, runner: Runner) -> None:
    runner.close()
    assert create(people, "ada", "1") == 200
    assert create(people, "bob", "2") == 200
    assert phases(people, "1", "2") == [JobPhase.ACCEPTED] * 2
    breaker, now = people.provider.breaker, people.clock()
    assert (breaker.allows(SLURM, now), breaker.allows(RUNNER, now), breaker.persons(now)) == (True, False, 0)
    ready = requests.get(f"{people.url}/readyz", timeout=10)
    assert ready.status_code == 500
    assert any("ucloud-slurm-runner.socket" in reason for reason in ready.json()["reasons"])
    back = Runner(runner.path)
    people.work(OPEN_SECONDS)
    back.close()
    assert phases(people, "1", "2") == [JobPhase.LIVE] * 2


def test_who_has_no_space_left_hears_it_once_while_the_job_waits(people: World, runner: Runner) -> None:
    people.core.directory.add_user("ada#1")
    people.provider.breaker.open(SLURM, "away", people.clock())
    job_id = people.core.submit(**SLEEPER, owner="ada#1")
    runner.answer = {"problem": "The job's folder cannot be made (Disk quota exceeded); free some space there."}
    for _ in range(3):
        people.work(OPEN_SECONDS)
    said = [update["status"] for update in people.core.job(job_id).updates if not update["state"]]
    assert said == ["The job waits. The job's folder cannot be made (Disk quota exceeded); free some space there."]
    runner.answer = {}
    people.work(OPEN_SECONDS)
    assert people.row(job_id).phase is JobPhase.LIVE


def test_a_stopped_program_keeps_no_create_of_others_waiting(people: World, mocker: MockerFixture) -> None:
    go = threading.Event()
    stuck(mocker, people, "ada", lambda: go.wait(PATIENCE))
    assert create(people, "ada", "1", "2", "3") == 200
    assert people.provider.breaker.allows(SLURM, people.clock()), "a submission of ada's takes long, not Slurm"
    assert create(people, "bob", "4", "5") == 200
    assert phases(people, "4", "5") == [JobPhase.LIVE] * 2
    assert people.model.counts["stuck ada"] == 1, "one person does not take the last thread"
    go.set()
    wait_until("it is over", lambda: people.provider.breaker.of(person("ada")).failing_since is not None, seconds=PATIENCE)


def test_the_pause_of_a_person_grows_and_nobody_is_kept_for_ever(people: World) -> None:
    breaker: CircuitBreaker = people.provider.breaker
    pauses, now = [], people.clock()
    for _ in range(12):
        breaker.record_person("ada", "no answer", now)
        pauses.append(breaker.of(person("ada")).ask_again_at - now)
        now += pauses[-1]
    assert pauses[0] == OPEN_SECONDS
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_SECONDS
    breaker.open(person("eve"), "a submission takes long", now)
    assert not breaker.allow([SLURM, person("eve")], now)
    breaker.forget_person("eve")
    assert breaker.of(person("eve")).ask_again_at == 0
    for number in range(50):
        breaker.record_person(f"user{number}", "no answer", now)
    breaker.record_person("bob", "no answer", now + LONGEST_SECONDS + FORGET_SECONDS + 1)
    rows = people.provider.store.rows("select part from health where part like 'user:%'")
    assert [row["part"] for row in rows] == [person("bob")]


def test_the_program_of_this_account_is_part_of_slurm(world: World) -> None:
    world.model.lose_answers = 1
    world.submit()
    assert os.geteuid() == pwd.getpwnam(world.provider.account).pw_uid
    assert not world.provider.breaker.allows(SLURM, world.clock() - 5)
    assert world.model.counts["ping"] == 0
