"""Why a job waits reaches its owner: once when it begins, and when its kind changes, and no more often than a bound."""

import pytest

from tests.conftest import World
from tests.support.model import ModelJob
from ucloud_slurm.slurm.states import SlurmState
from ucloud_slurm.worker.changes import REASON_SECONDS


def said(world: World, job_id: str) -> list[str]:
    """The sentences that UCloud has."""
    return [update["status"] for update in world.core.job(job_id).updates]


@pytest.fixture
def waiting(world: World) -> tuple[str, ModelJob]:
    """A job that waits in line, and its owner knows."""
    job_id = world.submit()
    world.work(1)
    assert len(said(world, job_id)) == 1
    return job_id, world.slurm(job_id)


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("QOSMaxWallDurationPerJobLimit", "time"),
        ("AssocGrpCPUMinutesLimit", "computing time"),
        ("PartitionDown", "partition"),
        ("JobHeldAdmin", "administrators"),
        ("launch failed requeued held", "support"),
        ("launch_failed_requeued_held", "support"),
        ("a plugin's own words", "a plugin's own words"),
    ],
)
@pytest.mark.every_era
def test_a_reason_reaches_the_owner_once(world: World, reason: str, words: str) -> None:
    job_id = world.submit()
    world.slurm(job_id).held = reason
    for _ in range(20):
        world.work(60)
    (sentence,) = said(world, job_id)
    assert words in sentence
    assert world.told(job_id) == []  # it has no new state


def test_reasons_of_the_same_kind_are_one_message(world: World, waiting: tuple[str, ModelJob]) -> None:
    job_id, job = waiting
    for _ in range(10):
        for job.held in ("Resources", "Priority", "None", ""):
            world.work(REASON_SECONDS)
    assert len(said(world, job_id)) == 1


def test_another_kind_of_reason_is_reported_at_once(world: World, waiting: tuple[str, ModelJob]) -> None:
    job_id, job = waiting
    for job.held in ("PartitionDown", "JobHeldAdmin", "QOSMaxWallDurationPerJobLimit"):
        world.work(1)
    assert len(said(world, job_id)) == 4


def test_reasons_that_come_and_go_are_not_sent_more_often_than_the_bound(world: World, waiting: tuple[str, ModelJob]) -> None:
    job_id, job = waiting
    for _ in range(int(REASON_SECONDS / 20) - 1):
        for job.held in ("PartitionDown", "Resources"):
            world.work(10)
    assert len(said(world, job_id)) == 2
    job.held = "Resources"
    world.work(REASON_SECONDS)
    assert len(said(world, job_id)) == 3


def test_texts_that_change_all_the_time_are_not_sent_more_often_than_the_bound(
    world: World, waiting: tuple[str, ModelJob]
) -> None:
    job_id, job = waiting
    for number in range(100):
        job.held = f"words {chr(97 + number % 26)}"
        world.work(10)
    assert len(said(world, job_id)) <= 2 + 1000 / REASON_SECONDS


def test_a_requeued_job_says_with_its_state_why_it_waits(world: World, waiting: tuple[str, ModelJob]) -> None:
    job_id, job = waiting
    world.model.begin_run(job)
    world.work(1)
    world.model.requeue(job)
    job.held = "launch failed requeued held"
    world.work(1)
    world.work(1)
    *_, running, last = said(world, job_id)
    assert "running" in running
    assert "support" in last
    assert world.told(job_id) == ["RUNNING", "IN_QUEUE"]


def test_a_job_that_is_held_for_want_of_funds_is_not_said_to_be_held_by_administrators(
    world: World, waiting: tuple[str, ModelJob]
) -> None:
    job_id, job = waiting
    world.provider.store.change("update jobs set held_at = 1 where id = ?", [job_id])
    job.held = "JobHeldAdmin"
    for _ in range(3):
        world.work(60)
    assert len(said(world, job_id)) == 1 + 1  # and that it is released
    assert job.run.state is SlurmState.PENDING


def test_a_job_that_ucloud_does_not_have_says_nothing(world: World) -> None:
    job_id = world.submit()
    world.provider.store.change("update jobs set stop = 'rolled-back' where id = ?", [job_id])
    world.slurm(job_id).held = "PartitionDown"
    world.model.cancels_reach = False
    world.work(1)
    assert said(world, job_id) == []
