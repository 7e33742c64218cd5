"""P3: what the database, Slurm and UCloud say of a job decides what is done, in every combination."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.factories import new_job
from ucloud_slurm.store.job_rows import JobRow
from ucloud_slurm.store.job_state import JobPhase, Stop
from ucloud_slurm.store.jobs import Jobs
from ucloud_slurm.store.sqlite import Store
from ucloud_slurm.ucloud.reports import JobState
from ucloud_slurm.worker.comparison import FINAL, Act, Circumstances, ClusterJob, JobSides, compare

NOW = 100_000.0
RUNS, ENDED = ClusterJob(7, "RUNNING", ended=False), ClusterJob(7, "COMPLETED", ended=True)
RESTORED, SOUND = Circumstances(NOW, True, "here"), Circumstances(NOW, False, "here")


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> JobRow:
    """A row as the database gives it."""
    store = Store(Path(tmp_path_factory.mktemp("comparison")) / "test.db")
    Jobs(store).accept([new_job("1")])
    row = Jobs(store).get("1")
    store.close()
    assert row is not None
    return row


def live(row: JobRow, **more: Any) -> JobRow:
    known: dict[str, Any] = {"phase": JobPhase.LIVE, "state": JobState.RUNNING, "slurm_id": 7, "cluster": "here"}
    return replace(row, **known, acknowledged_at=1.0, confirmed_at=1.0, **more)


def act(here: Circumstances, row: JobRow | None, ucloud: str | None, slurm: ClusterJob | None, **more: Any) -> Act | None:
    found = compare([JobSides("1", row, ucloud, slurm, since=more.pop("since", 0.0), **more)], here)
    return found[0].act if found else None


@pytest.mark.parametrize("here", [RESTORED, SOUND])
def test_a_job_without_a_row_is_adopted_only_where_slurm_has_it(here: Circumstances) -> None:
    assert act(here, None, "RUNNING", RUNS) is Act.ADOPT
    assert act(here, None, "IN_QUEUE", ENDED) is Act.ADOPT
    assert act(here, None, "RUNNING", None, alike=(8,)) is Act.AWAIT
    assert act(here, None, "RUNNING", None) is Act.END
    assert act(here, None, "RUNNING", None, since=NOW - 10) is None, "its create may be on its way"
    assert act(here, None, "RUNNING", None, can_adopt=False) is Act.LEAVE


@pytest.mark.parametrize("here", [RESTORED, SOUND])
def test_a_job_that_has_ended_at_ucloud_is_closed_unless_slurm_runs_it(here: Circumstances, plain: JobRow) -> None:
    for state in FINAL:
        assert act(here, live(plain), state, ENDED) is Act.CLOSE
        assert act(here, live(plain), state, None) is Act.CLOSE
        assert act(here, plain, state, None) is Act.CLOSE
        assert act(here, live(plain), state, RUNS) is Act.LEAVE


def test_of_a_sound_database_only_what_ucloud_missed_differs(plain: JobRow) -> None:
    row = live(plain)
    assert act(SOUND, row, "RUNNING", RUNS) is None
    assert act(SOUND, row, "IN_QUEUE", RUNS) is Act.STATE
    assert act(SOUND, row, "IN_QUEUE", RUNS, waiting=True) is None, "it is about to be delivered"
    assert act(SOUND, row, "RUNNING", None) is None, "the worker waits for a while"
    assert act(SOUND, replace(row, state=None), "RUNNING", RUNS) is None, "the next pass reports it"
    assert act(SOUND, plain, "IN_QUEUE", None) is None
    assert act(SOUND, replace(row, stop=Stop.ROLLED_BACK), None, RUNS) is None
    assert act(SOUND, row, None, RUNS) is Act.LEAVE
    ended = replace(row, phase=JobPhase.ENDED, state=JobState.SUCCESS)
    assert act(SOUND, ended, "SUCCESS", None) is None
    assert act(SOUND, ended, "RUNNING", None) is Act.REPEAT
    assert act(SOUND, ended, "RUNNING", None, waiting=True) is None


def test_of_an_older_database_nothing_that_waits_is_believed(plain: JobRow) -> None:
    row = live(plain)
    assert act(RESTORED, row, "RUNNING", RUNS) is None
    assert act(RESTORED, row, "RUNNING", RUNS, waiting=True) is Act.STATE
    assert act(RESTORED, replace(row, state=JobState.IN_QUEUE), "RUNNING", RUNS) is Act.STATE
    assert act(RESTORED, row, "RUNNING", None) is Act.END
    assert act(RESTORED, plain, "IN_QUEUE", None) is None, "it is submitted afterwards"
    assert act(RESTORED, plain, "RUNNING", None) is Act.END, "it must have been submitted"
    assert act(RESTORED, plain, "RUNNING", RUNS) is Act.FOUND
    assert act(RESTORED, replace(row, phase=JobPhase.ENDED), "SUCCESS", None, waiting=True) is Act.FORGET


def test_a_job_of_another_cluster_is_left_until_that_is_said_to_be_gone(plain: JobRow) -> None:
    row = live(plain)
    elsewhere = RESTORED._replace(cluster="there")
    assert act(elsewhere, row, "RUNNING", None) is Act.LEAVE
    assert act(elsewhere, row, "SUCCESS", None) is Act.CLOSE
    (found,) = compare([JobSides("1", row, "RUNNING", None, 0.0)], elsewhere._replace(gone=frozenset({"here"})))
    assert found.act is Act.END
    assert "was on the cluster here" in found.why
    assert act(elsewhere._replace(gone=frozenset({"other"})), row, "RUNNING", None) is Act.LEAVE


@given(
    st.sampled_from([None, *JobPhase]),
    st.sampled_from([None, *(state.value for state in JobState)]),
    st.sampled_from([None, RUNS, ENDED]),
    st.booleans(),
    st.booleans(),
)
def test_a_job_that_slurm_runs_never_ends_and_one_that_has_ended_never_runs_again(
    plain: JobRow, phase: JobPhase | None, ucloud: str | None, slurm: ClusterJob | None, waiting: bool, restored: bool
) -> None:
    if phase is None and ucloud is None:
        return  # there is no such job
    row = None if phase is None else replace(live(plain), phase=phase)
    (*found,) = compare([JobSides("1", row, ucloud, slurm, 0.0, waiting)], RESTORED if restored else SOUND)
    for each in found:
        assert not (each.act in (Act.END, Act.CLOSE) and slurm is RUNS)
        assert not (
            each.act in (Act.STATE, Act.ADOPT, Act.FOUND, Act.REPEAT, Act.END) and ucloud in FINAL and phase is not None
        )
        assert (each.act is Act.END) == bool(each.why)
        assert len(each.what) <= 80, "it is a cell of a table"
