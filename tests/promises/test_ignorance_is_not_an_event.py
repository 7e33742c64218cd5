"""P2 and P3: what could not be asked changes nothing; states tell the truth and end once."""

from collections.abc import Collection

import pytest
from pytest_mock import MockerFixture

from tests.conftest import World
from ucloud_slurm.slurm.errors import ActionRefusedError, SchedulerUnavailableError
from ucloud_slurm.slurm.records import SlurmJobId
from ucloud_slurm.slurm.states import SlurmState
from ucloud_slurm.store.breaker import SLURM
from ucloud_slurm.store.job_state import JobPhase, Stop
from ucloud_slurm.worker.run import Result


def running(world: World) -> str:
    job_id = world.submit()
    world.model.begin_run(world.slurm(job_id))
    world.work(1)
    assert world.told(job_id) == ["RUNNING"]
    return job_id


@pytest.mark.parametrize("down", ["controller", "accounting", "both"])
def test_no_job_changes_while_slurm_cannot_be_asked(world: World, down: str) -> None:
    job_id = running(world)
    world.clock.advance(30)
    world.model.end(world.slurm(job_id))
    if down != "controller":
        world.model.accounting = False
    if down != "accounting":
        world.model.controller = False
    world.model.purge(world.slurm(job_id))
    for _ in range(10):
        assert world.work(3600) is Result.NOT_ALL
    assert world.told(job_id) == ["RUNNING"]
    world.model.controller = world.model.accounting = True
    world.work(1)
    assert world.told(job_id) == ["RUNNING", "SUCCESS"]


def test_a_failing_controller_is_seen_on_the_health_page(world: World) -> None:
    running(world)
    world.model.controller = False
    world.work(1)
    assert "Unable to contact" in world.provider.breaker.of(SLURM).reason
    world.model.controller = True
    world.work(1)
    assert world.provider.breaker.of(SLURM).failing_since is None


def test_an_unknown_state_changes_nothing(world: World) -> None:
    job_id = running(world)
    job = world.slurm(job_id)
    job.runs[-1] = job.run._replace(state=None, state_text="FROBNICATED")
    world.work(3600)
    assert world.told(job_id) == ["RUNNING"]
    assert world.row(job_id).slurm_state == "FROBNICATED"


def test_a_job_absent_from_both_is_lost_only_after_the_grace_time(world: World) -> None:
    job_id = running(world)
    job = world.slurm(job_id)
    job.in_queue = job.in_accounting = False
    world.work(1)
    world.work(10)
    world.work(10)
    assert world.told(job_id) == ["RUNNING"]
    world.work(11)
    assert world.told(job_id) == ["RUNNING", "FAILURE"]
    assert "disappeared" in world.core.job(job_id).updates[-1]["status"]


def test_one_look_after_a_long_pause_is_not_enough_to_call_a_job_lost(world: World) -> None:
    job_id = running(world)
    job = world.slurm(job_id)
    job.in_queue = job.in_accounting = False
    world.work(86400)
    assert world.told(job_id) == ["RUNNING"]


def test_what_slurmctld_has_not_delivered_to_the_accounting_is_waited_for(world: World) -> None:
    """After an outage of slurmdbd its records come one after the other, and squeue has forgotten the jobs long ago."""
    job_id = running(world)
    job = world.slurm(job_id)
    world.model.end(job)
    job.in_queue, job.in_accounting, world.model.backlog = False, False, 20_000
    for _ in range(5):
        world.work(600)
    assert world.told(job_id) == ["RUNNING"]
    world.model.backlog, job.in_accounting = 0, True
    world.work(1)
    assert world.told(job_id) == ["RUNNING", "SUCCESS"]


def test_a_preempted_job_is_not_final_while_its_next_run_may_be_undelivered(world: World) -> None:
    job_id = running(world)
    job = world.slurm(job_id)
    world.model.end(job, SlurmState.PREEMPTED)
    job.in_queue, world.model.backlog = False, 1
    for _ in range(5):
        world.work(600)
    assert world.told(job_id) == ["RUNNING"]
    world.model.backlog = 0
    for _ in range(3):
        world.work(20)
    assert world.told(job_id) == ["RUNNING", "FAILURE"]


def test_an_answer_of_sacct_that_lacks_a_job_once_does_not_end_one_whose_end_slurm_lost(world: World) -> None:
    """A killed slurmctld has lost its end: for many passes it is not in the queue, and sacct shows it as running."""
    job_id = running(world)
    job = world.slurm(job_id)
    job.in_queue = False
    for _ in range(10):
        world.work(60)
    job.in_accounting = False
    world.work(60)
    job.in_accounting = True
    world.work(60)
    job.in_accounting = False
    for _ in range(2):
        world.work(14)
    assert world.told(job_id) == ["RUNNING"]
    job.in_accounting = True
    world.model.end(job)
    world.work(60)
    assert world.told(job_id) == ["RUNNING", "SUCCESS"]


def test_a_backlog_that_is_not_known_ends_no_job(world: World, mocker: MockerFixture) -> None:
    job_id = running(world)
    job = world.slurm(job_id)
    job.in_queue = job.in_accounting = False
    mocker.patch.object(world.model, "accounting_backlog", side_effect=SchedulerUnavailableError("sdiag hangs"))
    for _ in range(5):
        world.work(600)
    assert world.told(job_id) == ["RUNNING"]


def test_a_job_that_comes_back_is_not_lost(world: World) -> None:
    job_id = running(world)
    job = world.slurm(job_id)
    job.in_queue = job.in_accounting = False
    world.work(20)
    job.in_queue = job.in_accounting = True
    world.work(20)
    assert world.row(job_id).missing_since is None
    job.in_queue = job.in_accounting = False
    world.work(20)
    assert world.told(job_id) == ["RUNNING"]


def test_an_end_is_not_settled_before_sacct_knows_its_time(world: World) -> None:
    job_id = running(world)
    job = world.slurm(job_id)
    job.in_queue = False
    job.runs[-1] = job.run._replace(state=SlurmState.COMPLETED, state_text="COMPLETED", ended=None)
    for _ in range(5):
        world.work(100)
    assert world.told(job_id) == ["RUNNING"]
    job.runs[-1] = job.run._replace(ended=int(world.clock()), elapsed=500)
    world.work(1)
    assert world.told(job_id) == ["RUNNING", "SUCCESS"]


def test_a_job_that_accounting_does_not_know_by_name_yet_waits_for_it(world: World) -> None:
    job_id = world.submit()
    job = world.slurm(job_id)
    world.model.begin_run(job)
    world.clock.advance(30)
    world.model.end(job)
    job.in_queue = False
    # The end of a short job can reach slurmdbd before its beginning.
    whole, job.runs[-1] = job.run, job.run._replace(name="allocation", tres="", requested="")
    world.work(1)
    assert world.told(job_id) == []
    job.runs[-1] = whole
    world.work(1)
    assert world.told(job_id) == ["RUNNING", "SUCCESS"]


def test_squeue_wins_while_it_lists_a_job(world: World) -> None:
    job_id = running(world)
    world.clock.advance(10)
    world.model.requeue(world.slurm(job_id), SlurmState.PREEMPTED)
    world.work(1)
    assert world.told(job_id) == ["RUNNING", "IN_QUEUE"]
    world.model.begin_run(world.slurm(job_id))
    world.work(100)
    assert world.told(job_id) == ["RUNNING", "IN_QUEUE", "RUNNING"]


def test_a_preempted_job_is_final_only_after_an_unbroken_absence(world: World) -> None:
    job_id = running(world)
    job = world.slurm(job_id)
    world.model.end(job, SlurmState.PREEMPTED)
    job.in_queue = False
    world.work(1)
    world.work(10)
    assert world.told(job_id) == ["RUNNING"]
    world.work(25)
    assert world.told(job_id) == ["RUNNING", "FAILURE"]


def test_the_last_state_is_final_whatever_happens_later(world: World) -> None:
    job_id = running(world)
    job = world.slurm(job_id)
    world.model.end(job)
    world.work(1)
    job.runs[-1] = job.run._replace(state=SlurmState.RUNNING, state_text="RUNNING", ended=None)
    for _ in range(3):
        world.work(100)
    world.core.terminate(job_id)
    world.work(1)
    assert world.core.job(job_id).state == "SUCCESS"
    assert set(world.told(job_id)[1:]) == {"SUCCESS"}


def test_an_id_that_is_used_again_is_not_our_job(world: World) -> None:
    job_id = running(world)
    job = world.slurm(job_id)
    world.model.end(job)
    job.in_queue = False
    world.model.next_id = job.run.id
    other = world.model.add(job.submission._replace(name="someone-elses", comment="x"))
    assert other.run.id == SlurmJobId(world.row(job_id).slurm_id or 0)
    world.core.terminate(job_id)
    world.work(1)
    assert other.run.state_text == "PENDING"
    assert world.told(job_id)[-1] == "SUCCESS"


def test_a_job_that_ran_between_two_looks_is_told_to_have_run(world: World) -> None:
    job_id = world.submit()
    world.model.begin_run(world.slurm(job_id))
    world.clock.advance(3)
    world.model.end(world.slurm(job_id))
    world.work(1)
    assert world.told(job_id) == ["RUNNING", "SUCCESS"]


def test_verify_of_a_job_that_nobody_knows_ends_it_after_both_were_asked(world: World) -> None:
    job_id = world.submit()
    world.provider.store.change("delete from jobs")
    world.model.jobs.clear()
    world.core.verify(job_id)
    world.work(1)
    assert world.told(job_id) == []
    world.work(31)
    world.work(1)
    assert world.told(job_id) == ["FAILURE"]


def test_verify_finds_a_job_whose_row_was_lost(world: World) -> None:
    job_id = world.submit()
    world.model.begin_run(world.slurm(job_id))
    world.clock.advance(3600)
    world.provider.store.change("delete from jobs")
    world.core.verify(job_id)
    world.work(1)
    world.work(1)
    assert world.row(job_id).phase is JobPhase.LIVE
    assert world.told(job_id) == ["RUNNING"]


def test_one_broken_job_does_not_stop_the_others(world: World, caplog: pytest.LogCaptureFixture) -> None:
    first, second = running(world), running(world)
    world.provider.store.change("update jobs set category = 1, product = '' where id = ?", [first])
    object.__setattr__(world.slurm(first), "minutes", "no number")
    world.model.end(world.slurm(second))
    world.work(1)
    assert world.told(second) == ["RUNNING", "SUCCESS"]
    assert "polling it failed" in caplog.text


def test_a_cancel_that_slurm_refuses_does_not_hold_up_the_others(world: World) -> None:
    ids = [running(world) for _ in range(3)]
    real = world.model.cancel

    def refusing(jobs: Collection[SlurmJobId], within: float) -> dict[SlurmJobId, ActionRefusedError]:
        refused = {job: ActionRefusedError("Access/permission denied") for job in jobs if job == world.row(ids[0]).slurm_id}
        return real([job for job in jobs if job not in refused], within) | refused

    world.model.cancel = refusing  # type: ignore[method-assign]
    for job_id in ids:
        world.provider.jobs.stop(job_id, Stop.TERMINATED, world.clock())
    world.work(1)
    world.work(1)
    assert [world.told(job_id)[-1] for job_id in ids] == ["RUNNING", "SUCCESS", "SUCCESS"]


def test_a_job_whose_end_slurm_lost_is_given_up_after_a_day_and_not_before(world: World) -> None:
    job_id = running(world)
    world.slurm(job_id).in_queue = False
    for _ in range(23):
        world.work(3600)
    assert world.told(job_id) == ["RUNNING"]
    world.work(3600)
    world.work(3600)
    assert world.told(job_id) == ["RUNNING", "FAILURE"]


def test_the_health_page_heals_without_a_job(world: World) -> None:
    world.provider.breaker.record_failure(SLURM, "away", world.clock(), 15)
    world.work(1)
    assert world.provider.breaker.of(SLURM).failing_since is None


def test_verify_tells_a_state_that_core_has_missed(world: World) -> None:
    job_id = running(world)
    world.model.end(world.slurm(job_id))
    world.work(1)
    world.core.verify(job_id)
    world.work(1)
    assert world.core.job(job_id).state == "SUCCESS"
