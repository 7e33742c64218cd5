"""What becomes of a job follows from how it stands and who has nothing left."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucloud_slurm.bridge import wallets
from ucloud_slurm.bridge.wallets import BilledJob, Stage, WalletAction, decide
from ucloud_slurm.slurm.records import QueueRecord, SlurmJobId
from ucloud_slurm.slurm.states import Phase, SlurmState
from ucloud_slurm.ucloud.channel import OwnerKind, Payer

ADA = Payer(OwnerKind.USER, "Ada#1", "cpu")
OTHERS = (
    Payer(OwnerKind.USER, "Ada#1", "gpu"),
    Payer(OwnerKind.USER, "Bob#1", "cpu"),
    Payer(OwnerKind.PROJECT, "Ada#1", "cpu"),
)


def what(stage: Stage, queued: wallets.Queued, *, locked: bool = True, held: bool = False, ours: bool = False) -> object:
    found = list(decide([BilledJob("1", ADA, stage, held, ours)], {ADA} if locked else set(OTHERS), queued))
    assert len(found) <= 1
    return found[0][1] if found else None


def test_a_running_job_without_funds_is_stopped_whatever_becomes_of_others() -> None:
    for held, ours in itertools.product((False, True), repeat=2):
        assert what(Stage.RUNNING, "hold", held=held, ours=ours) is WalletAction.STOP
        assert what(Stage.RUNNING, "cancel", held=held, ours=ours) is WalletAction.STOP


@pytest.mark.parametrize("stage", [Stage.UNSUBMITTED, Stage.WAITING])
def test_a_job_that_has_not_begun_is_held_or_stopped_as_configured(stage: Stage) -> None:
    assert what(stage, "hold") is WalletAction.HOLD
    assert what(stage, "cancel") is WalletAction.STOP
    assert what(stage, "cancel", held=True, ours=True) is WalletAction.STOP


def test_a_job_that_is_held_is_left_alone_while_the_lock_stands() -> None:
    assert what(Stage.WAITING, "hold", held=True, ours=True) is None
    assert what(Stage.UNSUBMITTED, "hold", ours=True) is None


def test_a_job_that_should_be_held_and_is_not_is_held_again() -> None:
    assert what(Stage.WAITING, "hold", held=False, ours=True) is WalletAction.HOLD


def test_what_somebody_else_holds_is_neither_held_nor_released() -> None:
    assert what(Stage.WAITING, "hold", held=True) is None
    assert what(Stage.WAITING, "hold", held=True, locked=False) is None


@pytest.mark.parametrize("stage", Stage)
def test_what_we_hold_is_released_when_there_is_something_again(stage: Stage) -> None:
    assert what(stage, "hold", locked=False, ours=True) is WalletAction.RELEASE
    assert what(stage, "cancel", locked=False, ours=True) is WalletAction.RELEASE


payers = st.sampled_from((ADA, *OTHERS))
standings = st.builds(BilledJob, st.uuids().map(str), payers, st.sampled_from(Stage), st.booleans(), st.booleans())


@given(st.lists(standings, max_size=8), st.sets(payers), st.sampled_from(("hold", "cancel")))
def test_jobs_of_those_who_are_not_locked_are_never_stopped_or_held(
    jobs: list[BilledJob], locked: set[Payer], queued: wallets.Queued
) -> None:
    by_id = {job.id: job for job in jobs}
    for job_id, todo in decide(jobs, locked, queued):
        assert (todo is WalletAction.RELEASE) == (by_id[job_id].payer not in locked)
        assert by_id[job_id].ours or todo is not WalletAction.RELEASE


def record(state: SlurmState | None, reason: str = "None") -> QueueRecord:
    return QueueRecord(
        id=SlurmJobId(1),
        name="ucloud-1",
        user="ada",
        state=state,
        state_text="",
        reason=reason,
        submitted=1,
        started=None,
        elapsed=0,
        nodes=1,
        cpus=1,
        node_list="",
        minutes=60,
        account="",
        partition="cpu",
    )


def test_a_job_that_has_nodes_counts_as_running_and_one_that_ends_not_at_all() -> None:
    stages = {state: wallets.stage(record(state)) for state in SlurmState}
    assert stages[SlurmState.CONFIGURING] is Stage.RUNNING
    assert stages[SlurmState.SUSPENDED] is Stage.RUNNING
    assert stages[SlurmState.PENDING] is Stage.WAITING
    assert stages[SlurmState.COMPLETING] is None
    assert {stages[state] for state in SlurmState if state.phase is Phase.ENDED} == {None}
    assert wallets.stage(record(None)) is None


def test_slurms_words_for_a_held_job_are_known() -> None:
    for reason in ("JobHeldUser", "JobHeldAdmin"):
        assert wallets.is_held(record(SlurmState.PENDING, reason))
    assert wallets.is_held(record(SlurmState.REQUEUE_HOLD))
    assert not wallets.is_held(record(SlurmState.PENDING, "Priority"))
