"""A job is its number, its owner's uid and its time of submission, whatever people do to its name, comment or size."""

import logging
from typing import Any

import pytest
from pytest_mock import MockerFixture

from tests.conftest import Open, World
from tests.promises.test_one_job_one_slurm_job import submission_of
from tests.support.model import ModelJob, uid_of
from ucloud_slurm.slurm.errors import SchedulerUnavailableError
from ucloud_slurm.slurm.identity import JobIdentity
from ucloud_slurm.slurm.records import QueueRecord, RunRecord, SlurmJobId
from ucloud_slurm.slurm.states import SlurmState
from ucloud_slurm.store.job_state import JobPhase, Stop

CHANGES: list[dict[str, Any]] = [
    {"name": "x"},
    {"name": "ucloud-1"},
    {"name": "allocation"},
    {"name": ""},
    {"comment": "something else"},
    {"partition": "gpu"},
    {"account": "proj-b"},
    {"cpus": 64},
    {"folder": "/elsewhere"},
    {"name": "x", "comment": "", "partition": "gpu", "cpus": 1},
]
changes = pytest.mark.parametrize("change", CHANGES, ids=str)
stages = pytest.mark.parametrize("stage", ["before the first pass", "waiting", "running", "requeued"])


def changed(world: World, stage: str, change: dict[str, Any]) -> tuple[str, ModelJob]:
    """A job that is changed at some stage of its life, and runs in the end."""
    job_id = world.submit()
    job = world.slurm(job_id)
    if stage == "before the first pass":
        world.model.change(job, **change)
    world.work(1)
    if stage == "waiting":
        world.model.change(job, **change)
        world.work(1)
    world.model.begin_run(job)
    world.work(1)
    if stage == "running":
        world.model.change(job, **change)
    if stage == "requeued":
        world.clock.advance(10)
        world.model.requeue(job)
        world.model.change(job, **change)
        world.work(1)
        world.model.begin_run(job)
    world.work(60)
    return job_id, job


@changes
@stages
def test_a_changed_job_is_followed_and_billed_to_its_end(world: World, stage: str, change: dict[str, Any]) -> None:
    job_id, job = changed(world, stage, change)
    assert world.told(job_id)[-1] == "RUNNING"
    world.clock.advance(59)
    world.model.end(job)
    world.model.purge(job)
    world.work(60)
    assert world.told(job_id)[-1] == "SUCCESS"
    # One CPU was bought: a node that holds more of them costs as much as that many.
    by_hand = sum(run.cpus * ((run.ended or 0) - (run.started or 0)) for run in job.runs if run.started)
    assert world.row(job_id).used == by_hand > 100
    assert abs(world.booked(job_id) * 60 - by_hand) <= 30


@changes
@stages
def test_a_changed_job_can_be_stopped(world: World, stage: str, change: dict[str, Any]) -> None:
    job_id, job = changed(world, stage, change)
    world.core.terminate(job_id)
    assert job.run.state is SlurmState.CANCELLED
    world.work(1)
    assert world.told(job_id)[-1] == "SUCCESS"


@changes
def test_a_changed_job_is_stopped_when_there_are_no_funds(world: World, change: dict[str, Any]) -> None:
    job_id, job = changed(world, "running", change)
    world.provider.jobs.stop(job_id, Stop.NO_FUNDS, world.clock())
    world.work(1)
    assert job.run.state is SlurmState.CANCELLED


@changes
def test_a_changed_job_can_be_given_more_time_and_be_suspended(world: World, change: dict[str, Any]) -> None:
    job_id, job = changed(world, "running", change)
    world.core.extend(job_id, minutes=10)
    assert job.minutes == 40
    world.core.suspend(job_id)
    assert job.run.state is SlurmState.SUSPENDED


# -- a number that Slurm uses again -------------------------------------------------------------------------------


def record(**more: Any) -> QueueRecord:
    known = (SlurmJobId(7), "n", "u", SlurmState.RUNNING, "RUNNING", "", 100, 101, 0, 1, 1, "n1", 60, "a", "cpu")
    return QueueRecord(*known)._replace(**({"uid": 1001} | more))


def run(submitted: int, state: SlurmState, **more: Any) -> RunRecord:
    known = (SlurmJobId(7), "n", "u", state, state.name, submitted, submitted, submitted + 5, 5, 0, 0, 1, 1, "n1")
    return RunRecord(*known)._replace(**({"uid": 1001} | more))


KNOWN = JobIdentity(SlurmJobId(7), 1001, 100, 100)


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (record(), True),
        (record(name="other", partition="gpu", account="b", cpus=64), True),
        (record(submitted=200, restarts=1), True),
        (record(submitted=200), False),
        (record(submitted=90), False),
        (record(uid=1002), False),
        (record(id=SlurmJobId(8)), False),
        (record(uid=None, submitted=0, state=None), True),
    ],
)
def test_another_job_with_a_number_that_was_used_before_is_not_ours(other: QueueRecord, same: bool) -> None:
    assert KNOWN.is_of(other) is same


def test_before_it_was_seen_a_job_is_known_by_number_and_uid_and_is_not_older_than_its_row() -> None:
    new = JobIdentity(SlurmJobId(7), 1001, 100)
    assert [new.is_of(record(submitted=when)) for when in (99, 100, 200)] == [False, True, True]


@pytest.mark.parametrize(
    ("runs", "kept"),
    [
        ([run(100, SlurmState.COMPLETED)], [100]),
        ([run(50, SlurmState.COMPLETED), run(100, SlurmState.COMPLETED)], [100]),
        ([run(100, SlurmState.COMPLETED), run(900, SlurmState.COMPLETED)], [100]),
        ([run(100, SlurmState.CANCELLED), run(900, SlurmState.RUNNING)], [100]),
        ([run(900, SlurmState.COMPLETED), run(100, SlurmState.REQUEUED)], [100, 900]),
        ([run(100, SlurmState.NODE_FAIL), run(200, SlurmState.PREEMPTED), run(300, SlurmState.TIMEOUT)], [100, 200, 300]),
        ([run(100, SlurmState.RESIZING), run(200, SlurmState.COMPLETED), run(300, SlurmState.COMPLETED)], [100, 200]),
        ([run(100, SlurmState.COMPLETED), run(100, SlurmState.COMPLETED, uid=1002)], [100]),
    ],
)
def test_runs_of_another_job_with_the_same_number_are_not_billed(runs: list[RunRecord], kept: list[int]) -> None:
    assert [each.submitted for each in KNOWN.runs(runs)] == kept


def test_a_job_that_was_requeued_after_its_end_goes_on_while_its_end_is_not_reported() -> None:
    seen_again = KNOWN._replace(run_submitted=900)
    assert len(seen_again.runs([run(100, SlurmState.COMPLETED), run(900, SlurmState.COMPLETED)])) == 2


def test_jobs_of_another_cluster_are_left_as_they_are(world: World, caplog: pytest.LogCaptureFixture) -> None:
    job_id = world.submit()
    world.work(1)
    (job,) = world.model.jobs
    world.model.cluster = "another"
    world.model.jobs.clear()
    for _ in range(5):
        world.work(60)
    assert world.row(job_id).phase is JobPhase.LIVE
    assert "1 jobs are on another cluster than another" in caplog.text
    world.model.cluster = "model"
    world.model.jobs.append(job)
    world.model.begin_run(job)
    world.work(1)
    assert world.told(job_id) == ["RUNNING"]


# -- imitation ----------------------------------------------------------------------------------------------------


def imitation(world: World, job_id: str, **more: Any) -> ModelJob:
    """A job that its owner has submitted by hand, with all that squeue and UCloud show of the genuine one."""
    genuine = submission_of(world, job_id)
    known = genuine.comment.rpartition(":")[0]
    return world.model.add(genuine._replace(**({"comment": known} | more)))


@pytest.mark.parametrize("comment", [None, "ucloud:example:{id}:0123456789abcdef", "", "(null)"])
@pytest.mark.parametrize("when", ["before", "while unknown"])
def test_an_imitation_is_not_adopted_and_nothing_genuine_is_cancelled(world: World, comment: str | None, when: str) -> None:
    world.model.lose_answers = 1
    job_id = world.submit()
    genuine = world.slurm(job_id)
    given = {} if comment is None else {"comment": comment.format(id=job_id)}
    forged = imitation(world, job_id, **given)
    if when == "before":
        world.model.jobs.reverse()
        forged.runs[0], genuine.runs[0] = (
            forged.run._replace(submitted=genuine.run.submitted - 1),
            genuine.run._replace(submitted=genuine.run.submitted + 1),
        )
    for _ in range(4):
        world.work(20)
    assert world.row(job_id).slurm_id == genuine.run.id
    assert [job.run.state for job in (genuine, forged)] == [SlurmState.PENDING, SlurmState.PENDING]


def test_while_only_an_imitation_is_there_the_job_is_submitted_again_and_its_owner_hears_of_it(world: World) -> None:
    world.model.drop_requests = 1
    job_id = world.submit()
    forged = imitation(world, job_id)
    for _ in range(6):
        world.work(20)
    (genuine,) = [job for job in world.model.jobs if job is not forged]
    assert world.row(job_id).slurm_id == genuine.run.id
    assert forged.run.state is SlurmState.PENDING
    said = [update["status"] for update in world.core.job(job_id).updates]
    assert sum(f"({forged.run.id})" in text for text in said) == 1


def test_of_two_jobs_with_one_nonce_the_older_is_ours_and_the_other_is_not_touched(world: World) -> None:
    world.model.lose_answers = 1
    job_id = world.submit()
    world.clock.advance(3)
    copy = world.model.add(submission_of(world, job_id))  # the command line of a submission can be seen while it runs
    world.work(1)
    assert world.row(job_id).slurm_id != copy.run.id
    assert copy.run.state is SlurmState.PENDING


@changes
def test_a_lost_answer_is_found_whatever_was_changed_of_the_job_since(world: World, change: dict[str, Any]) -> None:
    world.model.lose_answers = 1
    job_id = world.submit()
    job = world.slurm(job_id)
    world.model.change(job, **change)
    for _ in range(6):
        world.work(20)
    assert (len(world.model.of(job_id)), world.row(job_id).slurm_id) == (1, job.run.id)


def test_a_found_job_of_another_size_than_was_built_is_not_ours(world: World) -> None:
    world.model.drop_requests = 1
    job_id = world.submit()
    genuine = submission_of(world, job_id)
    for more in ({"partition": "gpu"}, {"nodes": 9}, {"folder": "/elsewhere"}):
        world.model.add(genuine._replace(**more))
    world.work(1)
    assert world.row(job_id).slurm_id is None


@pytest.mark.parametrize("submit_lines", [True, False])
def test_a_job_that_was_moved_before_it_was_found_is_not_submitted_again_however_late_sacct_is(
    world: World, submit_lines: bool
) -> None:
    world.model.lose_answers, world.model.submit_lines = 1, submit_lines
    job_id = world.submit()
    job = world.slurm(job_id)
    world.model.change(job, partition="gpu", account="other")
    job.in_accounting = False
    for _ in range(10):
        world.work(60)
    assert world.model.of(job_id) == [job]
    job.in_accounting = True
    world.work(60)
    assert world.row(job_id).slurm_id == job.run.id
    assert not any("not submitted by this provider" in update["status"] for update in world.core.job(job_id).updates)


def test_a_copy_of_a_command_line_with_another_size_is_not_ours(world: World) -> None:
    world.model.drop_requests = 1
    job_id = world.submit()
    larger = world.model.add(submission_of(world, job_id)._replace(nodes=9))
    for _ in range(6):
        world.work(20)
    assert world.row(job_id).slurm_id not in (None, larger.run.id)


def test_a_slurm_without_command_lines_does_not_adopt_an_imitation_that_squeue_has_shown(world: World) -> None:
    world.model.drop_requests, world.model.submit_lines = 1, False
    job_id = world.submit()
    forged = imitation(world, job_id)
    world.work(1)
    assert world.row(job_id).slurm_id is None
    for _ in range(6):
        world.work(20)
    assert world.row(job_id).slurm_id not in (None, forged.run.id)


def test_a_row_without_a_uid_does_not_hide_the_renamed_jobs_of_others(world: World) -> None:
    world.model.lose_answers = 2
    renamed = world.submit()
    world.clock.advance(20)  # until Slurm is asked again
    other = world.submit()
    world.model.change(world.slurm(renamed), name="x")
    world.model.change(world.slurm(other), name="y")
    world.provider.store.change("update jobs set uid = null, local_user = 'nobody' where id = ?", [other])
    for _ in range(4):
        world.work(20)
    assert world.row(renamed).slurm_id == world.slurm(renamed).run.id


@pytest.mark.parametrize("behind", [150, 3000])
def test_a_number_that_sbatch_gave_counts_whatever_the_clock_of_slurmctld_says(world: World, behind: int) -> None:
    job_id = world.submit()
    job = world.slurm(job_id)
    job.runs[0] = job.run._replace(submitted=job.run.submitted - behind)
    world.model.begin_run(job)
    world.work(60)
    assert world.told(job_id) == ["RUNNING"]


def test_after_a_lost_database_the_job_of_a_stranger_is_not_adopted(world: World) -> None:
    world.model.drop_requests = 1
    job_id = world.submit()
    world.provider.store.change("update jobs set uid = null, local_user = 'nobody', found_only = 1 where id = ?", [job_id])
    known = submission_of(world, job_id).comment.rpartition(":")[0]
    world.model.add(submission_of(world, job_id)._replace(comment=known), user="mallory")
    world.work(1)
    assert world.row(job_id).slurm_id is None


def test_after_a_lost_database_a_job_that_ended_days_ago_is_found_with_its_end(world: World) -> None:
    job_id = world.submit()
    job = world.slurm(job_id)
    world.model.begin_run(job)
    world.clock.advance(60)
    world.model.end(job)
    world.model.purge(job)
    world.clock.advance(3 * 24 * 3600)
    lost = "phase = 'submitting', slurm_id = null, claimed_until = null, attempts = 0, found_only = 1"
    sql = f"update jobs set {lost}, attempted_at = ?"
    world.provider.store.change(sql, [world.clock()])
    for _ in range(4):
        world.work(20)
    assert world.told(job_id)[-1] == "SUCCESS"
    assert world.row(job_id).slurm_id == job.run.id


def test_a_job_that_is_requeued_after_its_end_is_cancelled(world: World) -> None:
    job_id, job = changed(world, "running", {"name": "x"})
    world.model.end(job)
    world.work(1)
    assert world.told(job_id)[-1] == "SUCCESS"
    job.runs.append(job.run._replace(submitted=job.run.submitted + 500, state=SlurmState.RUNNING, ended=None))
    world.work(60)
    assert job.run.state is SlurmState.CANCELLED
    world.work(60)
    assert world.told(job_id)[-1] == "SUCCESS"
    assert world.model.counts["scancel"] == 1


def test_a_waiting_job_that_is_renamed_as_slurmdbd_names_what_it_does_not_know_ends(world: World) -> None:
    job_id = world.submit()
    world.model.change(world.slurm(job_id), name="allocation")
    world.work(1)
    world.core.terminate(job_id)
    world.model.purge(world.slurm(job_id))
    world.work(1)
    assert world.told(job_id) == ["SUCCESS"]


def test_a_row_of_sacct_that_is_never_whole_holds_a_job_up_for_the_grace_only(world: World) -> None:
    job_id, job = changed(world, "running", {})
    world.model.end(job)
    world.model.purge(job)
    odd = job.run._replace(submitted=0, uid=None, state=None, state_text="a row that cannot be read", ended=None)
    job.runs.insert(0, odd)
    world.work(1)
    assert world.told(job_id)[-1] == "RUNNING"
    for _ in range(4):
        world.work(60)
    assert world.told(job_id)[-1] == "SUCCESS"


def test_a_number_used_again_after_the_rows_of_its_job_are_gone_is_not_billed(world: World) -> None:
    assert KNOWN.runs([run(900, SlurmState.COMPLETED)]) == []


def test_an_answer_that_names_a_job_of_somebody_else_cancels_nothing(world: World) -> None:
    world.model.drop_requests = 1
    job_id = world.submit()
    victim = world.model.add(submission_of(world, job_id)._replace(name="other", comment="other"), user="mallory")
    world.provider.jobs.submitted(job_id, victim.run.id, None)
    world.work(1)
    world.core.terminate(job_id)
    world.work(1)
    assert victim.run.state is SlurmState.PENDING


# -- accounts that are gone ---------------------------------------------------------------------------------------


def test_a_user_without_an_account_does_not_blind_the_provider(world: World) -> None:
    gone, other = world.submit(), world.submit()
    job = world.slurm(gone)
    job.user = "deleted"
    job.runs[-1] = job.run._replace(user=str(uid_of("deleted")), uid=uid_of("deleted"))
    world.provider.store.change("update jobs set local_user = 'deleted', uid = ? where id = ?", [uid_of("deleted"), gone])
    for each in (gone, other):
        world.model.begin_run(world.slurm(each))
    world.work(60)
    assert [world.told(each) for each in (gone, other)] == [["RUNNING"], ["RUNNING"]]
    world.core.terminate(gone)
    world.work(1)
    assert world.told(gone) == ["RUNNING", "SUCCESS"]


def test_a_row_of_squeue_that_cannot_be_read_changes_nothing_about_its_job(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    odd, other = world.submit(), world.submit()
    for each in (odd, other):
        world.model.begin_run(world.slurm(each))
    world.work(1)
    whole = world.slurm(odd).run
    world.slurm(odd).runs[-1] = whole._replace(state=None, state_text="a row that cannot be read", uid=None)
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            world.work(60)
    assert (world.row(odd).phase, world.told(odd), world.told(other)) == (JobPhase.LIVE, ["RUNNING"], ["RUNNING"])
    world.slurm(odd).runs[-1] = whole
    world.model.end(world.slurm(odd))
    world.work(1)
    assert world.told(odd) == ["RUNNING", "SUCCESS"]


def test_a_job_of_an_earlier_release_gets_its_uid_from_slurm(world: World) -> None:
    job_id = world.submit()
    world.provider.store.change("update jobs set uid = null, secret = null, built = null where id = ?", [job_id])
    world.work(1)
    assert world.row(job_id).uid == uid_of(world.model.user)


def test_the_unknown_outcome_of_a_job_of_an_earlier_release_is_found(world: World) -> None:
    world.model.lose_answers = 1
    job_id = world.submit()
    job = world.slurm(job_id)
    job.changed_comment = job.submission.comment.rpartition(":")[0]
    world.provider.store.change("update jobs set uid = null, secret = null, built = null where id = ?", [job_id])
    world.work(1)
    assert world.row(job_id).slurm_id == job.run.id


def test_slurm_that_cannot_be_asked_about_a_job_cancels_nothing(world: World, open_provider: Open) -> None:
    job_id = world.submit()
    world.work(1)
    world.model.controller = False
    with pytest.raises(SchedulerUnavailableError):
        world.provider.scheduler.job(SlurmJobId(world.row(job_id).slurm_id or 0), 1.0)
    world.core.terminate(job_id)
    assert world.model.counts["scancel"] == 0
    world.model.controller = True
    world.work(20)
    assert world.slurm(job_id).run.state is SlurmState.CANCELLED


def test_no_two_jobs_have_a_number_that_was_used_again_whenever_the_process_dies(world: World, mocker: MockerFixture) -> None:
    first = world.submit()
    number = world.row(first).slurm_id
    assert number is not None
    world.model.lose_answers = 1
    second = world.submit()
    mocker.patch("ucloud_slurm.store.jobs.take_number", side_effect=SystemExit)
    with pytest.raises(SystemExit):
        world.provider.jobs.submitted(second, number, None, cluster=world.row(first).cluster)
    assert (world.row(first).slurm_id, world.row(second).slurm_id) == (number, None)


def test_a_number_that_a_killed_controller_has_used_again_is_the_second_jobs(world: World) -> None:
    first = world.submit()
    lost = world.slurm(first)
    world.model.jobs.remove(lost)  # before slurmctld has saved it
    world.model.next_id = lost.run.id
    second = world.submit()
    again = world.slurm(second)
    assert again.run.id == lost.run.id
    world.model.begin_run(again)
    world.core.terminate(first)
    for _ in range(3):
        world.work(60)
    assert (world.told(first), world.told(second)) == (["FAILURE"], ["RUNNING"])
    world.model.end(again)
    world.work(1)
    assert (world.booked(first), world.booked(second)) == (0, 3)
