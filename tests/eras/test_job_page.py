"""What a researcher sees on the page of a job at today's UCloud, beside its states and messages."""

import pytest

from tests.conftest import Open, Serve, World
from tests.sandbox.core import SimulatedCore
from tests.sandbox.core.today import job_page
from tests.support.model import Model
from tests.support.restore import backup, pass_time, restore, started
from ucloud_slurm.bridge.job_page import ssh_line

COMMAND = "ssh login.example.org -p 2222"
today = pytest.mark.parametrize("era", ["today"], scope="session")


@pytest.fixture
def world(core: SimulatedCore, open_provider: Open, serve: Serve, model: Model, clock: object) -> World:
    provider = open_provider(jobs={"ssh": COMMAND})
    return World(core, provider, model, clock, serve(provider))  # type: ignore[arg-type]


def boxes(world: World, job: str) -> int:
    return sum((update["status"] or "").startswith("SSH:") for update in world.core.job(job).updates)


@today
def test_a_running_job_shows_once_how_to_log_in_and_prints_nothing_of_it(world: World) -> None:
    job = world.submit()
    world.work(1)
    assert boxes(world, job) == 0, "it waits"
    world.model.begin_run(world.slurm(job))
    pass_time(world, 180)
    assert job_page.ssh_command(world.core.job(job)) == COMMAND
    assert not [text for text in job_page.messages(world.core.job(job)) if "ssh" in text.lower()]
    world.model.suspend(world.slurm(job).run.id, 1.0)
    world.work(15)
    world.model.resume(world.slurm(job).run.id, 1.0)
    pass_time(world, 60)
    assert world.told(job) == ["RUNNING", "SUSPENDED", "RUNNING"]
    assert boxes(world, job) == 1


def test_the_box_names_the_unix_user_of_the_job() -> None:
    assert ssh_line("ssh {user}@login.example.org", "ada") == "SSH: Connected! Available at: ssh ada@login.example.org"


@today
@pytest.mark.parametrize("running", [False, True])
def test_after_a_restore_the_box_is_there_once(world: World, running: bool) -> None:
    if running:
        job = started(world)
        old = backup(world)
        pass_time(world, 120)
    else:
        job = world.submit()
        world.work(1)
        old = backup(world)
        world.model.begin_run(world.slurm(job))
        pass_time(world, 120)
    restore(world, old)
    pass_time(world, 180)
    assert job_page.ssh_command(world.core.job(job)) == COMMAND
    assert boxes(world, job) == 1


@today
def test_a_box_that_was_never_delivered_before_a_restore_is_sent_with_the_state(world: World) -> None:
    job = world.submit()
    world.work(1)
    world.core.faults.outage(True)
    world.model.begin_run(world.slurm(job))
    world.work(15)
    old = backup(world)
    world.work(15)
    restore(world, old)
    world.core.faults.outage(False)
    pass_time(world, 300)
    assert world.told(job) == ["RUNNING"]
    assert job_page.ssh_command(world.core.job(job)) == COMMAND
    assert boxes(world, job) == 1


@pytest.mark.parametrize("era", ["2021", "2022"], scope="session")
def test_an_older_ucloud_would_print_the_line_and_gets_none(world: World) -> None:
    job = started(world)
    pass_time(world, 60)
    assert boxes(world, job) == 0
