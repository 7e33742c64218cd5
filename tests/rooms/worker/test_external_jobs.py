"""Jobs from outside UCloud: shown and charged where a rule says so, once, and never our own."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import World, configuration
from tests.rooms.config.test_config import GOOD
from tests.sandbox.core import CORE_2022, CoreJob
from tests.support.model import ModelJob
from ucloud_slurm.bridge.external_jobs import registrations
from ucloud_slurm.config import parse
from ucloud_slurm.errors import Misconfigured
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.slurm.records import SlurmJobId, Submission
from ucloud_slurm.store.job_state import JobPhase
from ucloud_slurm.store.people import UserLink
from ucloud_slurm.ucloud.channel import Project, User
from ucloud_slurm.worker.run import Result

RULE = {
    "account": "proj-a",
    "product": "example-compute-1",
    "category": "example-compute",
    "created_by": "Alice#1",
    "project": "p1",
}


@pytest.fixture
def world(core: Any, open_provider: Any, serve: Any, model: Any, clock: Any) -> World:
    provider = open_provider(outside=[RULE])
    return World(core, provider, model, clock, serve(provider))


def submitted(world: World, name: str = "by hand", user: str = "alice", partition: str = "cpu") -> ModelJob:
    """A job that somebody submits with sbatch."""
    submission = Submission(
        user=user,
        name=name,
        comment="",
        script="",
        partition=partition,
        nodes=2,
        cpus=1,
        memory=None,
        gres=None,
        minutes=90,
        account="proj-a",
        qos=None,
        constraint=None,
        reservation=None,
        folder="/",
        output="/dev/null",
        error="/dev/null",
    )
    return world.model.add(submission, user)


def nobody(_user: str, _uid: int | None) -> None:
    """No user of UCloud is connected with any account."""


def known(world: World) -> None:
    """Core has named the owner, where it names its people."""
    world.core.directory.add_user("Alice#1")
    world.core.directory.add_project("p1")
    project = Project("p1", "P1", world.clock(), consumes=True, members=("Alice#1",))
    world.provider.wallets.take([User("Alice#1"), project], "example", world.clock())


def registered(world: World) -> list[CoreJob]:
    return [job for job in world.core.jobs if job.owner == "Alice#1"]


@pytest.mark.every_era
def test_a_job_of_a_rules_account_is_shown_charged_and_ended_at_ucloud(world: World) -> None:
    known(world)
    job = submitted(world)
    world.work(1)
    (found,) = registered(world)
    assert found.payer == "p1"
    assert found.specification["timeAllocation"] == {"hours": 1, "minutes": 30, "seconds": 0}
    world.model.begin_run(job)
    world.work(1)
    world.work(120)
    world.model.end(job)
    world.work(1)
    assert world.told(found.id) == ["RUNNING", "SUCCESS"]
    assert world.booked(found.id) == 2 * 2
    assert world.row(found.id).phase is JobPhase.ENDED


@pytest.mark.parametrize("era", ["today"], scope="session")
def test_a_job_of_somebody_whom_core_has_not_named_is_not_registered(world: World) -> None:
    submitted(world)
    for named in ([], [Project("p1", "P1", world.clock(), consumes=True, members=())]):
        world.provider.wallets.take(named, "example", world.clock())
        world.work(1)
        assert "jobs.control.register" not in {each.call for each in world.core.exchanges}
    known(world)
    world.work(1)
    assert len(registered(world)) == 1


def test_the_tasks_of_an_array_that_wait_are_one_job_of_a_call(world: World) -> None:
    submitted(world)
    # squeue --array prints a row for each of them, all with the number of the array.
    rows = [*world.provider.scheduler.queue(None)] * 3
    started = rows[0]._replace(id=SlurmJobId(rows[0].id + 1))
    found = registrations([*rows, started], world.provider.config, nobody)
    assert [each.record.id for each in found] == [rows[0].id, started.id]
    assert len({each.key for each in found}) == 2


@pytest.mark.parametrize(("ours", "theirs"), [("Proj-A", "proj-a"), ("proj-a", "Proj-A"), ("PROJ-A", "proj-a")])
def test_an_account_is_the_same_in_capitals(world: World, ours: str, theirs: str) -> None:
    submitted(world)
    config = world.provider.config
    config = replace(config, outside=tuple(replace(rule, account=ours) for rule in config.outside))
    rows = [row._replace(account=theirs) for row in world.provider.scheduler.queue(None)]
    assert len(registrations(rows, config, nobody)) == 1
    assert registrations([row._replace(account="proj-b") for row in rows], config, nobody) == []


def test_a_job_is_registered_once_whatever_is_repeated(world: World) -> None:
    submitted(world)
    for _ in range(3):
        world.work(1)
    world.core.faults.drop_answer("jobs.control.register")
    submitted(world, "another")
    for _ in range(3):
        world.work(20)
    assert len(registered(world)) == 2
    assert len(world.provider.jobs.newest(1000)) == 2


def test_a_slurm_id_that_is_used_again_is_another_job(world: World) -> None:
    job = submitted(world)
    world.work(1)
    world.model.end(job)
    world.work(1)
    world.model.purge(job)
    world.clock.advance(100)
    world.model.next_id = job.run.id
    submitted(world)
    world.work(1)
    assert len(registered(world)) == 2


def test_our_own_jobs_and_those_of_no_rule_are_left_alone(world: World) -> None:
    own = world.submit()
    submitted(world, partition="gpu")
    world.work(1)
    world.work(1)
    assert [job.id for job in world.core.jobs] == [own]


def test_a_submission_of_ours_that_is_under_way_is_not_taken_for_a_job_from_outside(world: World) -> None:
    own = world.submit()
    world.provider.store.change(
        "update jobs set phase = 'submitting', slurm_id = null, claimed_until = ? where id = ?", [world.clock() + 60, own]
    )
    world.work(1)
    assert [job.id for job in world.core.jobs] == [own]


def test_a_job_that_has_ended_before_it_was_seen_is_not_registered(world: World) -> None:
    world.model.end(submitted(world))
    world.work(1)
    assert registered(world) == []


def test_while_ucloud_is_away_registration_waits(world: World) -> None:
    submitted(world)
    world.core.faults.outage(True)
    assert world.work(1) is Result.NOT_ALL
    world.core.faults.outage(False)
    world.work(20)
    assert len(registered(world)) == 1


def test_what_ucloud_refuses_to_register_stops_nothing_else(world: World) -> None:
    world.core.faults.answer("jobs.control.register", 400, {"why": "no"}, times=1)
    submitted(world)
    own = world.submit()
    world.model.begin_run(world.slurm(own))
    world.work(1)
    assert world.told(own) == ["RUNNING"]


def test_a_registered_job_can_be_ended_at_ucloud(world: World) -> None:
    job = submitted(world)
    world.work(1)
    (found,) = registered(world)
    world.core.terminate(found.id)
    assert job.run.state_text == "CANCELLED"


def test_the_log_of_a_registered_job_is_not_ours_to_show_and_the_stream_ends_well(world: World) -> None:
    submitted(world)
    world.work(1)
    (found,) = registered(world)
    with world.core.follow(found.id, while_running=False) as followed:
        followed.wait_for(lambda: followed.session is not None, 5)
        assert followed.cancel().status == 200


def test_a_rule_for_a_product_that_is_not_there_is_named() -> None:
    with pytest.raises(Misconfigured, match=r"outside\[1\]: there is no product moon"):
        parse(
            {
                "provider": {"id": "p", "url": "https://p.example"},
                "ucloud": {"url": "https://u.example", "refresh_token_file": "/t", "public_key_file": "/k"},
                "products": [{"id": "a", "category": "b", "partition": "c"}],
                "outside": [{"account": "x", "product": "moon", "category": "b"}],
            }
        )


def test_names_of_users_are_read_by_era() -> None:
    from ucloud_slurm.ucloud.eras import ERA_2021, ERA_2022

    assert CORE_2022.username_header == "base64"
    name = "Jörg#1234"
    raw = name.encode().decode("latin-1")
    assert ERA_2021.username(raw) == name
    assert ERA_2021.username("abcd") == "abcd"
    assert ERA_2022.username("SsO2cmcjMTIzNA==") == name
    assert ERA_2022.username("Name#1234") == "Name#1234"
    assert ERA_2022.username(None) is None


# -- those who started them ---------------------------------------------------------------------------------------


@pytest.fixture
def by_person(core: Any, serve: Any, model: Any, clock: Any, tmp_path: Path) -> World:
    """A site that shows a job as one of the person who started it."""
    config = configuration(core, tmp_path, outside=[RULE | {"created_by": "{user}"}], users={"mapping": "table"})
    provider = Provider.open(config, now=clock, scheduler=model)
    world = World(core, provider, model, clock, serve(provider))
    known(world)
    return world


def connect(world: World, job: ModelJob, *usernames: str) -> None:
    """These users of UCloud are connected with the account that a job runs as."""
    (record,) = [each for each in world.provider.scheduler.queue(None) if each.id == job.run.id]
    assert record.uid is not None
    links = [UserLink(username, record.user, record.uid, 0.0, "root") for username in usernames]
    world.provider.people.add(links, per_account=None)


def owners(world: World) -> list[str]:
    return [job.owner for job in world.core.jobs]


@pytest.mark.parametrize("era", ["today", "2022"], scope="session")
def test_a_job_from_the_command_line_is_that_of_the_person_who_started_it(by_person: World) -> None:
    world = by_person
    job = submitted(world)
    connect(world, job, "Alice#1")
    world.work(1)
    (found,) = world.core.jobs
    assert (found.owner, found.payer) == ("Alice#1", "p1")
    assert world.row(found.id).owner == "Alice#1"
    world.work(60)
    assert len(world.core.jobs) == 1


@pytest.mark.parametrize("era", ["today"], scope="session")
@pytest.mark.parametrize("people", [[], ["Alice#1", "Alice#2"], ["Nobody#0"]])
def test_a_job_of_nobody_of_several_or_of_somebody_whom_ucloud_has_not_named_is_its_own(
    by_person: World, people: list[str]
) -> None:
    world = by_person
    connect(world, submitted(world), *people)
    world.work(1)
    assert owners(world) == ["_ucloud"]
    assert [job.payer for job in world.core.jobs] == ["p1"]


@pytest.mark.parametrize("era", ["today"], scope="session")
def test_an_account_that_was_created_anew_under_an_old_name_is_not_the_person(by_person: World) -> None:
    world = by_person
    job = submitted(world)
    (record,) = world.provider.scheduler.queue(None)
    assert record.uid is not None
    world.provider.people.add([UserLink("Alice#1", record.user, record.uid + 1, 0.0, "root")])
    world.work(1)
    assert owners(world) == ["_ucloud"]
    assert job.run.ended is None


def test_without_a_table_of_people_nobody_knows_who_started_a_job() -> None:
    with pytest.raises(Misconfigured, match=r'outside\[1\].created_by: "\{user\}" needs users.mapping = "table"'):
        parse(GOOD | {"outside": [RULE | {"created_by": "{user}"}]})
