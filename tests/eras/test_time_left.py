"""Core counts the time of a job anew from each change to RUNNING: it is told what is left, as Slurm counts it."""

import pytest

from tests.conftest import World
from ucloud_slurm.slurm.states import SlurmState
from ucloud_slurm.worker.run import Result

pytestmark = pytest.mark.parametrize("era", ["today"], scope="session")
UPDATE = "jobs.control.update"


def suspended(world: World, job: str, seconds: int) -> None:
    """A job is suspended for so long, which Slurm does not count."""
    found = world.slurm(job)
    world.model.suspend(found.run.id, 5.0)
    world.work(1)
    world.clock.advance(seconds - 1)
    world.model.resume(found.run.id, 5.0)
    assert found.run.started is not None
    found.runs[-1] = found.run._replace(started=found.run.started + seconds)  # the model counts all seconds since then
    world.work(0)


def error(world: World, job: str) -> float:
    """By how many seconds the end that Core shows is later than Slurm's."""
    found, shown = world.slurm(job), world.core.job(job).expires_at
    assert found.run.started is not None
    assert found.minutes is not None
    assert shown is not None
    return shown / 1000 - (found.run.started + 60 * found.minutes)


def running(world: World, minutes: int = 0) -> str:
    job = world.submit(minutes=30)
    world.model.begin_run(world.slurm(job))
    world.work(1)
    world.work(60 * minutes)
    return job


@pytest.mark.parametrize("used", [0, 1, 10, 25])
def test_after_a_suspension_core_shows_the_end_that_slurm_will_make(world: World, used: int) -> None:
    job = running(world, used)
    suspended(world, job, 3600)
    assert world.told(job) == ["RUNNING", "SUSPENDED", "RUNNING"]
    assert 0 <= error(world, job) < 60
    suspended(world, job, 600)
    assert 0 <= error(world, job) < 60


def test_after_a_suspension_a_job_is_extended_by_what_was_asked(world: World) -> None:
    job = running(world, 10)
    suspended(world, job, 3600)
    world.core.extend(job, minutes=20)
    assert world.slurm(job).minutes == 50
    world.work(1)
    assert 0 <= error(world, job) < 60
    world.core.extend(job, minutes=5)
    assert world.slurm(job).minutes == 55


def test_a_limit_that_an_administrator_changes_after_a_suspension_is_shown_right(world: World) -> None:
    job = running(world, 10)
    suspended(world, job, 3600)
    world.slurm(job).minutes = 90
    world.work(1)
    assert 0 <= error(world, job) < 60


def test_after_a_requeue_all_of_the_time_is_there_again(world: World) -> None:
    job = running(world, 10)
    suspended(world, job, 3600)
    world.model.requeue(world.slurm(job), SlurmState.NODE_FAIL)
    world.work(60)
    world.model.begin_run(world.slurm(job))
    world.work(1)
    assert world.told(job)[-2:] == ["IN_QUEUE", "RUNNING"]
    assert 0 <= error(world, job) < 60


def test_a_start_that_core_hears_of_late_is_shown_with_what_is_left(world: World) -> None:
    job = world.submit(minutes=30)
    world.model.begin_run(world.slurm(job))
    world.work(600)  # no pass for ten minutes
    assert 0 <= error(world, job) < 60


def test_a_start_that_waited_while_core_was_away_is_shown_with_what_is_left(world: World) -> None:
    job = world.submit(minutes=30)
    world.work(1)
    world.core.faults.outage(True)
    world.model.begin_run(world.slurm(job))
    assert world.work(1) is Result.NOT_ALL
    for _ in range(3):
        assert world.work(300) is Result.NOT_ALL
    world.core.faults.outage(False)
    world.work(20)
    assert 0 <= error(world, job) < 120
    world.core.extend(job, minutes=10)
    assert world.slurm(job).minutes == 40
    world.work(1)
    assert 0 <= error(world, job) < 120


def test_a_start_that_core_has_missed_is_told_with_what_is_left(world: World) -> None:
    job = world.submit(minutes=300)
    world.work(1)
    world.model.begin_run(world.slurm(job))
    world.core.faults.answer(UPDATE, 200, {})
    world.work(1)
    assert world.core.job(job).state == "IN_QUEUE"
    for _ in range(3):
        world.work(1801)
    assert world.core.job(job).state == "RUNNING"
    assert 0 <= error(world, job) < 120


def test_where_nothing_was_used_before_core_is_told_no_time(world: World) -> None:
    job = running(world, 0)
    assert [each["newTimeAllocation"] for each in world.core.job(job).updates] == [None] * len(world.core.job(job).updates)
