"""P3, P4, P5: after a restore or a loss nothing is reported that is wrong, nothing is lost and nothing billed twice."""

import sys

import pytest

from tests.conftest import Open, Serve, World
from tests.support.restore import acts, backup, check, drain, end, lose, pass_time, reconcile, restore, started
from ucloud_slurm.slurm.states import SlurmState
from ucloud_slurm.store.generation import Generation
from ucloud_slurm.store.job_state import JobPhase
from ucloud_slurm.ucloud.channel import Payer
from ucloud_slurm.worker.comparison import Act

pytestmark = pytest.mark.every_era


@pytest.fixture
def charging(request: pytest.FixtureRequest, world: World) -> str:
    """How a Core that books periods answers."""
    world.core.charging = getattr(request, "param", "as-documented")
    return str(world.core.charging)


every_charging = pytest.mark.parametrize("charging", ["as-documented", "as-coded"], indirect=True)


# -- yesterday's database ---------------------------------------------------------------------------------------


@every_charging
@pytest.mark.parametrize("by_hand", [True, False])
def test_after_yesterdays_database_everything_is_followed_and_billed_once(world: World, charging: str, by_hand: bool) -> None:
    runs, ends, cancelled = started(world), started(world), started(world)
    waits = world.submit()
    pass_time(world, 180)
    old = backup(world)

    pass_time(world, 240)
    world.model.begin_run(world.slurm(waits))
    new, short, queued = started(world), started(world), world.submit()
    pass_time(world, 100, 50)
    end(world, ends, SlurmState.TIMEOUT)
    end(world, short)
    world.core.terminate(cancelled)
    pass_time(world, 120)
    all_jobs = (runs, ends, cancelled, waits, new, short, queued)
    states = {job: world.core.job(job).state for job in all_jobs}
    assert [states[job] for job in all_jobs] == ["RUNNING", "EXPIRED", "SUCCESS", "RUNNING", "RUNNING", "SUCCESS", "IN_QUEUE"]
    histories = {job: world.told(job) for job in all_jobs}

    restore(world, old)
    assert Generation(world.provider.store).is_behind()
    world.clock.advance(30)
    if by_hand:
        found = acts(reconcile(world))
        assert found == {
            ends: Act.CLOSE, cancelled: Act.CLOSE, waits: Act.STATE, new: Act.ADOPT, queued: Act.ADOPT
        }  # fmt: skip
        assert reconcile(world).differences == [], "the second finds nothing"
    drain(world)
    assert not Generation(world.provider.store).is_behind()
    assert {job: world.core.job(job).state for job in all_jobs} == states
    assert {job: world.told(job) for job in all_jobs} == histories, "nothing is reported again"
    assert [row.stop for row in world.provider.jobs.open()] == [None] * 4
    check(world, *all_jobs)

    pass_time(world, 240)
    world.model.begin_run(world.slurm(queued))
    pass_time(world, 120)
    for job in (runs, waits, new, queued):
        end(world, job)
    drain(world)
    assert [world.core.job(job).state for job in (runs, waits, new, queued)] == ["SUCCESS"] * 4
    check(world, *all_jobs)
    assert reconcile(world).differences == []


@every_charging
def test_a_job_that_ended_and_was_charged_and_whose_end_was_not_reported_is_charged_once(world: World, charging: str) -> None:
    job = started(world)
    pass_time(world, 60)
    old = backup(world)
    pass_time(world, 240)
    world.clock.advance(45)
    end(world, job)
    world.core.faults.answer("jobs.control.update", 500, times=50)
    world.work()
    assert world.core.job(job).state == "RUNNING"
    world.core.faults.clear()
    before = world.booked(job)
    assert before == 6
    restore(world, old)
    drain(world)
    assert world.core.job(job).state == "SUCCESS"
    assert world.row(job).stop is None
    assert world.booked(job) == before


def test_messages_of_yesterday_that_were_delivered_afterwards_are_not_delivered_again(world: World) -> None:
    ends, runs = started(world), started(world)
    pass_time(world, 120)
    world.core.faults.outage(True)
    world.clock.advance(90)
    end(world, ends)
    world.work()
    assert world.provider.outbox.waiting() > 0
    old = backup(world)
    world.core.faults.outage(False)
    drain(world)
    pass_time(world, 600)
    state, history, booked = world.core.job(ends).state, world.core.job(ends).updates, world.booked(ends)
    assert state == "SUCCESS"
    restore(world, old)
    found = acts(reconcile(world))
    assert found[ends] is Act.FORGET
    drain(world)
    assert world.core.job(ends).updates == history
    assert world.booked(ends) == booked
    check(world, ends, runs)


def test_a_job_that_was_submitted_after_the_backup_gets_no_second_slurm_job(world: World) -> None:
    world.model.controller = False
    job = world.submit()
    old = backup(world)
    assert world.row(job).phase is not JobPhase.LIVE
    world.model.controller = True
    for _ in range(10):
        world.work(30)
    world.model.begin_run(world.slurm(job))
    world.work(30)
    restore(world, old)
    for _ in range(10):
        world.work(30)
    assert len(world.model.of(job)) == 1
    assert world.core.job(job).state == "RUNNING"
    assert world.row(job).slurm_id == world.slurm(job).run.id
    check(world, job)


@pytest.mark.parametrize("lost_answers", [1, 2])
def test_a_later_attempt_of_a_submission_is_found_too(world: World, lost_answers: int) -> None:
    world.model.drop_requests = lost_answers
    job = world.submit()
    old = backup(world)
    assert world.row(job).attempts == 1
    for _ in range(30):
        world.work(60)
    assert world.row(job).attempts == 1 + lost_answers
    restore(world, old)
    for _ in range(10):
        world.work(60)
    assert len(world.model.of(job)) == 1
    assert world.row(job).slurm_id == world.slurm(job).run.id


def test_a_backup_that_is_older_than_what_a_pass_has_reported_before_it_died_is_noticed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = started(world)
    pass_time(world, 60)
    old = backup(world)
    with monkeypatch.context() as patch:
        patch.setattr("ucloud_slurm.worker.run.record_outcome", lambda *_, **__: sys.exit())
        with pytest.raises(SystemExit):
            world.work(60)
    assert world.booked(job) == 2
    restore(world, old)
    assert Generation(world.provider.store).is_behind()


@pytest.mark.parametrize("era", ["today"], scope="session")
def test_a_wallet_that_was_filled_after_the_backup_stops_no_job(world: World) -> None:
    payer = Payer.of("user", None, "example-compute")
    world.provider.wallets.handled(world.clock())
    world.provider.wallets.found(payer, locked=True)
    old = backup(world)
    world.provider.wallets.found(payer, locked=False)
    job = started(world)
    pass_time(world, 120)
    restore(world, old)
    other = world.submit()
    pass_time(world, 120)
    assert [world.core.job(job).state, world.core.job(other).state] == ["RUNNING", "IN_QUEUE"]
    assert [row.stop for row in world.provider.jobs.open()] == [None, None]
    assert world.provider.wallets.replay_from() == 0.0, "the channel says of every wallet how it is now"


# -- a lost database --------------------------------------------------------------------------------------------


@every_charging
def test_a_lost_database_is_rebuilt_from_ucloud_and_slurm(
    world: World, open_provider: Open, serve: Serve, charging: str
) -> None:
    runs, waits, ended = started(world), world.submit(), started(world)
    requeued = started(world)
    pass_time(world, 120)
    world.model.requeue(world.slurm(requeued), SlurmState.NODE_FAIL)
    world.model.begin_run(world.slurm(requeued))
    pass_time(world, 180)
    end(world, ended)
    drain(world)
    charged = {job: world.booked(job) for job in (runs, ended, requeued)}
    world = lose(world, open_provider, serve)
    found = reconcile(world)
    assert acts(found) == {runs: Act.ADOPT, waits: Act.ADOPT, requeued: Act.ADOPT}
    assert reconcile(world).differences == []
    drain(world)
    assert all(world.booked(job) >= charged[job] for job in charged)
    assert world.booked(ended) == charged[ended]
    check(world, runs, ended, requeued)
    world.model.begin_run(world.slurm(waits))
    pass_time(world, 120)
    for job in (runs, waits, requeued):
        end(world, job)
    drain(world)
    assert [world.core.job(job).state for job in (runs, waits, ended, requeued)] == ["SUCCESS"] * 4
    assert [row.stop for row in world.provider.jobs.newest(10)] == [None] * 3
    check(world, runs, waits, ended, requeued)


def test_a_lost_job_is_the_one_with_a_nonce_and_not_an_older_one_of_its_name(
    world: World, open_provider: Open, serve: Serve
) -> None:
    job = started(world)
    true = world.slurm(job)
    bare = true.submission.comment.rpartition(":")[0]
    forged = world.model.add(true.submission._replace(comment=bare))
    forged.runs[-1] = forged.run._replace(submitted=true.run.submitted - 5)
    world = lose(world, open_provider, serve)
    assert acts(reconcile(world)) == {job: Act.ADOPT}
    drain(world)
    assert world.row(job).slurm_id == true.run.id
    assert {forged.run.state, true.run.state} == {SlurmState.PENDING, SlurmState.RUNNING}, "neither is cancelled"


def test_a_job_that_ended_before_the_lost_database_was_rebuilt_gets_its_true_end(
    world: World, open_provider: Open, serve: Serve
) -> None:
    job = started(world)
    pass_time(world, 120)
    world.clock.advance(60)
    end(world, job, SlurmState.TIMEOUT)
    world = lose(world, open_provider, serve)
    drain(world)
    assert world.core.job(job).state == "EXPIRED"
    check(world, job)
