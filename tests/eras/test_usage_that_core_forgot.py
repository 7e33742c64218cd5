"""A Core that stops forgets what it was told of use in its last half minute: the last word on each job is told again."""

from typing import Any

import pytest

from tests.conftest import Clock, Open, Serve, World
from tests.sandbox.core import SimulatedCore
from tests.support.model import Model
from ucloud_slurm.store.breaker import UCLOUD
from ucloud_slurm.store.outbox import FORGETS_SECONDS, ucloud_was_away
from ucloud_slurm.worker.run import Result

pytestmark = pytest.mark.parametrize("era", ["today"], scope="session")
REPORT = "accounting.v2.reportUsage"
CORES = {"id": "example-compute-1", "category": "example-compute", "partition": "cpu", "cpus": 4, "memory_gb": 1, "gpus": 0}


@pytest.fixture
def world(core: SimulatedCore, open_provider: Open, serve: Serve, model: Model, clock: Clock) -> World:
    provider = open_provider(products=[CORES])
    return World(core, provider, model, clock, serve(provider))


def ended(world: World, seconds: int = 60, **more: Any) -> str:
    """A job that has run for so long and has ended, of which Core has heard."""
    job = world.submit(**more)
    world.model.begin_run(world.slurm(job))
    world.work(1)
    world.clock.advance(seconds - 1)
    world.model.end(world.slurm(job))
    world.work()
    assert world.told(job) == ["RUNNING", "SUCCESS"]
    return job


def restart(core: SimulatedCore) -> None:
    port = int(core.url.rpartition(":")[2])
    core.stop()
    core.start(port)


def booked(world: World, job: str) -> int:
    """What Core has of a job, not what it was told."""
    return world.core.accounts.used(f"example/example-compute/job/{job}")


def requests(world: World) -> int:
    return sum(each.call == REPORT for each in world.core.exchanges)


def test_a_short_job_of_which_core_forgot_everything_is_charged_a_minute_later(world: World) -> None:
    job = ended(world)
    assert booked(world, job) == 4
    restart(world.core)
    assert booked(world, job) == 0
    world.work(20)
    assert booked(world, job) == 0
    world.work(FORGETS_SECONDS)
    assert booked(world, job) == 4
    assert world.core.accounts.get().usage == 4


def test_the_last_report_is_told_again_also_when_the_job_ended_after_it_with_the_same_number(world: World) -> None:
    job = world.submit()
    world.model.begin_run(world.slurm(job))
    world.work(1)
    world.work(60)
    world.clock.advance(1)
    world.model.end(world.slurm(job))
    restart(world.core)
    world.work(0)
    world.work(FORGETS_SECONDS)
    assert booked(world, job) == 4


def test_of_a_thousand_jobs_it_is_told_again_once_and_in_one_request(world: World) -> None:
    jobs = [ended(world) for _ in range(12)]
    world.work(FORGETS_SECONDS)
    before = requests(world)
    for _ in range(20):
        world.work(FORGETS_SECONDS)
    assert requests(world) == before, "once is enough"
    more = [world.submit() for _ in range(30)]
    for job in more:
        world.model.begin_run(world.slurm(job))
    world.work(1)
    world.clock.advance(60)
    for job in more:
        world.model.end(world.slurm(job))
    world.work()
    assert requests(world) == before + 1
    world.work(FORGETS_SECONDS)
    assert requests(world) == before + 2
    assert [booked(world, job) for job in (*jobs, *more)] == [world.booked(job) for job in (*jobs, *more)]


def test_a_job_that_runs_is_told_once_each_time(world: World) -> None:
    job = world.submit()
    world.model.begin_run(world.slurm(job))
    world.work(1)
    for _ in range(10):
        world.work(60)
    assert requests(world) == 10


def test_when_core_was_away_the_last_minute_before_is_told_again(world: World) -> None:
    old, late = ended(world), world.submit()
    world.work(2 * FORGETS_SECONDS)
    world.model.begin_run(world.slurm(late))
    world.work(1)
    world.work(60)
    before = requests(world)
    port = int(world.core.url.rpartition(":")[2])
    world.core.stop()
    assert world.work(60) is Result.NOT_ALL
    world.core.start(port)
    world.model.end(world.slurm(late))
    world.work(1)
    assert booked(world, late) == 8
    assert booked(world, old) == 4
    assert requests(world) - before == 1, "its newer report says it all"


def test_when_core_was_away_a_job_that_had_nothing_new_since_is_told_again(world: World) -> None:
    other, job = world.submit(), ended(world)
    world.model.begin_run(world.slurm(other))
    port = int(world.core.url.rpartition(":")[2])
    world.core.stop()
    assert booked(world, job) == 0
    assert world.work(1) is Result.NOT_ALL
    assert world.provider.breaker.of(UCLOUD).failing_since is not None
    world.core.start(port)
    assert world.work(20) is Result.DONE
    assert booked(world, job) == 4


def test_what_was_told_again_and_forgotten_again_is_told_a_third_time(world: World) -> None:
    other, job = world.submit(), ended(world)
    restart(world.core)
    world.work(FORGETS_SECONDS)
    assert booked(world, job) == 4
    world.model.begin_run(world.slurm(other))
    world.work(1)
    world.work(20)  # a newer report, of another job
    third = world.submit()
    port = int(world.core.url.rpartition(":")[2])
    world.core.stop()
    world.model.begin_run(world.slurm(third))
    assert world.work(10) is Result.NOT_ALL
    world.core.start(port)
    assert booked(world, job) == 0
    assert world.work(20) is Result.DONE
    assert booked(world, job) == 4


def test_when_the_channel_is_open_again_the_last_minute_is_told_again_and_the_jobs_are_compared(world: World) -> None:
    job = ended(world)
    world.work(FORGETS_SECONDS)
    world.work(3601)
    browses = sum(each.call == "jobs.control.browse" for each in world.core.exchanges)
    late = ended(world)
    restart(world.core)
    world.clock.advance(5)
    ucloud_was_away(world.provider.store, world.clock() - 5, world.clock())
    world.clock.advance(1)
    world.work()
    assert (booked(world, job), booked(world, late)) == (4, 4)
    assert sum(each.call == "jobs.control.browse" for each in world.core.exchanges) > browses


def test_an_old_report_never_follows_a_newer_one(world: World) -> None:
    job = world.submit()
    world.model.begin_run(world.slurm(job))
    world.work(1)
    world.work(60)
    ucloud_was_away(world.provider.store, world.clock(), world.clock())
    world.core.faults.outage(True)
    world.work(60)
    world.core.faults.outage(False)
    world.work(60)
    told = [each.usage for each in world.core.accounts.reports]
    assert told == sorted(told)
    assert told[-1] == 12


def test_a_repetition_that_is_refused_stays_delivered_and_is_not_repeated_for_ever(world: World) -> None:
    job = ended(world)
    world.core.faults.answer(REPORT, 403, {"why": "This user/project does not exist"})
    assert world.work(FORGETS_SECONDS) is Result.DONE
    before = requests(world)
    world.work(FORGETS_SECONDS)
    assert requests(world) == before
    assert [each.outcome for each in world.provider.outbox.of(job) if each.kind == "usage"] == ["delivered"]


def test_while_core_is_away_a_repetition_waits(world: World) -> None:
    job = ended(world)
    port = int(world.core.url.rpartition(":")[2])
    world.core.stop()
    assert world.work(FORGETS_SECONDS) is Result.NOT_ALL
    world.core.start(port)
    assert world.work(20) is Result.DONE
    assert booked(world, job) == 4


def test_of_a_job_that_core_does_not_have_nothing_is_told_again(world: World) -> None:
    job = ended(world)
    world.provider.observations.forgotten(job, "gone", world.clock())
    before = requests(world)
    world.work(FORGETS_SECONDS)
    assert requests(world) == before
