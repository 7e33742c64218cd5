"""The state table: every word of Slurm's, and what UCloud is told."""

from pathlib import Path

import pytest

from tests.conftest import configuration
from tests.sandbox.core import SimulatedCore
from ucloud_slurm.bridge.states import final_update, queued_update
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.slurm.records import QueueRecord, RunRecord, SlurmJobId
from ucloud_slurm.slurm.states import Phase, SlurmState, read_state
from ucloud_slurm.ucloud.eras import ERA_2021
from ucloud_slurm.ucloud.reports import JobState

QUEUED = QueueRecord(SlurmJobId(1), "n", "u", SlurmState.PENDING, "PENDING", "Priority", 1, None, 0, 1, 1, "n1", 60, "a", "cpu")
RUN = RunRecord(SlurmJobId(1), "n", "u", SlurmState.COMPLETED, "COMPLETED", 1, 2, 3, 1, 0, 0, 1, 1, "n1")

FINAL = {
    SlurmState.COMPLETED: JobState.SUCCESS,
    SlurmState.FAILED: JobState.SUCCESS,
    SlurmState.CANCELLED: JobState.SUCCESS,
    SlurmState.OUT_OF_MEMORY: JobState.SUCCESS,
    SlurmState.TIMEOUT: JobState.EXPIRED,
    SlurmState.DEADLINE: JobState.EXPIRED,
    SlurmState.NODE_FAIL: JobState.FAILURE,
    SlurmState.BOOT_FAIL: JobState.FAILURE,
    SlurmState.REVOKED: JobState.FAILURE,
    SlurmState.PREEMPTED: JobState.FAILURE,
}
LISTED = {
    SlurmState.PENDING: JobState.IN_QUEUE,
    SlurmState.CONFIGURING: JobState.IN_QUEUE,
    SlurmState.REQUEUED: JobState.IN_QUEUE,
    SlurmState.REQUEUE_HOLD: JobState.IN_QUEUE,
    SlurmState.REQUEUE_FED: JobState.IN_QUEUE,
    SlurmState.RESV_DEL_HOLD: JobState.IN_QUEUE,
    SlurmState.SPECIAL_EXIT: JobState.IN_QUEUE,
    SlurmState.SUSPENDED: JobState.IN_QUEUE,
    SlurmState.RUNNING: JobState.RUNNING,
    SlurmState.COMPLETING: JobState.RUNNING,
    SlurmState.SIGNALING: JobState.RUNNING,
    SlurmState.STAGE_OUT: JobState.RUNNING,
    SlurmState.STOPPED: JobState.RUNNING,
    SlurmState.RESIZING: JobState.RUNNING,
}


def test_every_state_of_slurm_is_in_the_table_once() -> None:
    assert set(FINAL) | set(LISTED) == set(SlurmState)
    assert not set(FINAL) & set(LISTED)


@pytest.mark.parametrize("state", SlurmState)
def test_a_state_is_told_by_one_of_the_two_and_as_the_table_says(state: SlurmState) -> None:
    queued = queued_update(QUEUED._replace(state=state), ERA_2021)
    final = final_update(RUN._replace(state=state), ERA_2021, None)
    assert (queued.state if queued else None) == LISTED.get(state)
    assert (final.state if final else None) == FINAL.get(state)
    assert final is None or (final.state is not None and final.state.final)


@pytest.mark.parametrize("state", SlurmState)
@pytest.mark.parametrize("form", ["{long}", "{short}", "{lower}", "{long}+", "{long} by 1000"])
def test_every_spelling_of_a_state_is_read(state: SlurmState, form: str) -> None:
    assert read_state(form.format(long=state.name, short=state.value, lower=state.name.lower())) is state


@pytest.mark.parametrize("word", ["FROBNICATED", "", " ", "+", "COMPLETED;", "None"])
def test_an_unknown_word_is_no_state_and_changes_nothing(word: str) -> None:
    assert read_state(word) is None
    assert queued_update(QUEUED._replace(state=None), ERA_2021) is None
    assert final_update(RUN._replace(state=None), ERA_2021, None) is None


def test_an_end_without_a_time_is_not_an_end_yet() -> None:
    assert final_update(RUN._replace(ended=None), ERA_2021, None) is None


@pytest.mark.parametrize(
    ("state", "code", "signal", "words"),
    [
        (SlurmState.FAILED, 3, 0, "exit code 3"),
        (SlurmState.FAILED, 0, 9, "signal 9"),
        (SlurmState.OUT_OF_MEMORY, 0, 125, "memory"),
        (SlurmState.TIMEOUT, 0, 0, "time"),
        (SlurmState.NODE_FAIL, 0, 0, "n1"),
    ],
)
def test_the_end_is_told_in_words(state: SlurmState, code: int, signal: int, words: str) -> None:
    update = final_update(RUN._replace(state=state, exit_code=code, signal=signal), ERA_2021, None)
    assert update is not None
    assert words in update.status


def test_output_that_could_not_be_written_is_a_failure_and_not_the_programs() -> None:
    update = final_update(RUN._replace(state=SlurmState.FAILED, exit_code=0, signal=53), ERA_2021, None)
    assert update is not None
    assert update.state is JobState.FAILURE
    assert "output" in update.status


def test_a_cancelled_job_says_why_we_cancelled_it() -> None:
    update = final_update(RUN._replace(state=SlurmState.CANCELLED), ERA_2021, "Insufficient funds")
    assert update is not None
    assert (update.state, update.status) == (JobState.SUCCESS, "Insufficient funds")


def test_a_job_that_ended_by_itself_is_not_said_to_be_cancelled() -> None:
    update = final_update(RUN, ERA_2021, "Insufficient funds")
    assert update is not None
    assert update.status == "The job has ended."


def test_every_state_has_a_phase() -> None:
    assert {state for state in SlurmState if state.phase is Phase.ENDED} == set(FINAL)


@pytest.mark.parametrize(
    ("era", "failed", "state"),
    [
        ("2021", "auto", JobState.SUCCESS),
        ("today", "auto", JobState.FAILURE),
        ("today", "SUCCESS", JobState.SUCCESS),
        ("2022", "FAILURE", JobState.FAILURE),
    ],
)
def test_a_program_that_failed_is_told_as_the_era_or_the_site_wants(
    core: SimulatedCore, tmp_path: Path, failed: str, state: JobState
) -> None:
    provider = Provider.open(configuration(core, tmp_path, jobs={"failed": failed}))
    for ended in (SlurmState.FAILED, SlurmState.OUT_OF_MEMORY):
        update = final_update(RUN._replace(state=ended, exit_code=3), provider.era, None)
        assert update is not None
        assert update.state is state
    provider.close()
