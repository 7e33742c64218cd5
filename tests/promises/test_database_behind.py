"""P3, P5: while a database is older than what UCloud knows, nothing is reported that could be wrong."""

import pytest

from tests.conftest import World
from tests.support.restore import behind, check, drain, end
from ucloud_slurm.slurm.states import SlurmState
from ucloud_slurm.worker.run import Result

pytestmark = pytest.mark.every_era


def test_while_it_is_behind_nothing_is_reported_and_new_jobs_are_taken(world: World, caplog: pytest.LogCaptureFixture) -> None:
    old_job, new_job = behind(world)
    end(world, old_job)
    before = len(world.core.exchanges)
    fresh = world.submit()
    for _ in range(3):
        assert world.work(60) is Result.NOT_ALL
    reports = ("jobs.control.update", "jobs.control.chargeCredits", "accounting.v2.reportUsage")
    assert [each.call for each in world.core.exchanges[before:] if each.call in reports] == []
    assert len(world.model.of(fresh)) == 1
    named = [record for record in caplog.records if "ucloud-slurm reconcile" in record.getMessage()]
    assert len(named) == 3, "one line in each pass"
    world.model.accounting = True
    drain(world)
    assert world.core.job(old_job).state == "SUCCESS"
    assert world.row(new_job).slurm_id == world.slurm(new_job).run.id
    check(world, old_job, new_job)


def test_while_it_is_behind_a_repeated_create_makes_no_second_slurm_job(world: World) -> None:
    _, new_job = behind(world)
    world.clock.advance(120)
    status, _ = world.core.call("POST", "/ucloud/example/jobs", {"items": [world.core.rendered(new_job)]}, user="user")
    assert status == 200
    assert len(world.model.of(new_job)) == 1
    world.model.accounting = True
    drain(world)
    assert len(world.model.of(new_job)) == 1
    assert world.row(new_job).slurm_id == world.slurm(new_job).run.id


def test_while_it_is_behind_the_owner_of_an_imitated_job_hears_of_it(world: World) -> None:
    behind(world)
    world.model.lose_answers = 1
    job = world.submit()
    submission = world.slurm(job).submission
    world.model.add(submission._replace(comment=submission.comment.rpartition(":")[0]))
    world.clock.advance(120)
    world.model.accounting = True
    drain(world)
    said = [update["status"] for update in world.core.job(job).updates]
    assert [text for text in said if "was not submitted by this provider" in text]


def test_while_it_is_behind_a_job_can_be_terminated(world: World) -> None:
    _, new_job = behind(world)
    world.core.terminate(new_job)
    for _ in range(3):
        world.work(10)
    assert world.slurm(new_job).run.state is SlurmState.CANCELLED
    world.model.accounting = True
    drain(world)
    assert world.core.job(new_job).state == "SUCCESS"
    check(world, new_job)


@pytest.mark.parametrize("era", ["2021", "2022"], scope="session")
def test_while_it_is_behind_a_verification_declares_nothing_unknown(world: World) -> None:
    _, new_job = behind(world)
    world.clock.advance(3600)
    world.core.verify()
    for _ in range(5):
        world.work(60)
    assert world.core.job(new_job).state == "RUNNING"
    assert world.provider.jobs.get(new_job) is None
