"""What squeue and sacct say of a job that is not in its row yet. Pure; :mod:`.poll` records it."""

import json
from collections.abc import Sequence

from ucloud_slurm.bridge.charges import Use
from ucloud_slurm.bridge.states import queued_state
from ucloud_slurm.bridge.waiting import WaitingKind, WaitingReason, waiting_reason
from ucloud_slurm.slurm.identity import BuiltJob, shape
from ucloud_slurm.slurm.records import QueueRecord, RunRecord
from ucloud_slurm.slurm.states import Phase, SlurmState
from ucloud_slurm.store.charges import EndedRun
from ucloud_slurm.store.job_rows import OpenJob
from ucloud_slurm.store.observations import Observation
from ucloud_slurm.ucloud.eras import Era

REASON_SECONDS = 300.0  # in which UCloud hears of one kind of reason of a job once


def is_unchanged(row: OpenJob, record: QueueRecord, era: Era, now: float) -> bool:
    """Whether all that squeue says, except the usage, is recorded, as it is for most jobs in most passes."""
    return (
        record.state_text == row.slurm_state
        and row.state is not None
        and queued_state(record.state, era) is row.state
        and record.submitted == row.run_submitted
        and record.minutes == row.time_limit
        and row.missing_since is None
        and row.submitted_at is not None
        and (shape(record) == row.shape or record.state is SlurmState.COMPLETING)
        and new_reason(row, record, now) is None
    )


def new_reason(row: OpenJob, record: QueueRecord, now: float) -> WaitingReason | None:
    """The reason for which a job waits, when UCloud is to hear of it: of another kind than the last one.

    Of one kind UCloud hears at intervals, so that a reason that comes and goes makes no stream of messages. A job that
    this provider holds has had a message that says why.
    """
    if record.state is None or record.state.phase is not Phase.WAITING or row.held_at is not None:
        return None
    reason = waiting_reason(record.reason)
    if reason.kind in (row.waits_for, WaitingKind.NONE):
        return None
    return reason if _bounded(reason.kind) not in _lately(row, now) else None


def reasons(row: OpenJob, kind: str, now: float) -> str:
    """Of which kinds of reason UCloud has heard lately, with the one of which it hears now."""
    return json.dumps(_lately(row, now) | {_bounded(kind): now})


def _bounded(kind: str) -> str:
    """What the interval of messages counts for: all texts that are in no kind are one."""
    return kind.partition(":")[0]


def _lately(row: OpenJob, now: float) -> dict[str, float]:
    heard: dict[str, float] = json.loads(row.reasons) if row.reasons else {}
    return {kind: when for kind, when in heard.items() if now - when < REASON_SECONDS}


def needs_runs(row: OpenJob, record: QueueRecord | None) -> bool:
    """Whether sacct must be asked: how a job ended, and which runs or sizes it had before, squeue does not say."""
    if record is None:
        return True
    if record.state is None:
        return False
    requeued = record.restarts > 0 if row.run_submitted is None else row.run_submitted != record.submitted
    return record.state.phase is Phase.ENDED or requeued or is_resized(row, record)


def is_resized(row: OpenJob, record: QueueRecord) -> bool:
    """Whether a running job has another size than was seen last, so that sacct may have several of it.

    While a job completes its nodes leave it one by one, which is no new size.
    """
    runs = record.state is not None and record.state.phase is Phase.ALLOCATED and record.state is not SlurmState.COMPLETING
    return runs and (row.shape is None or row.shape.split(" ", 2)[1] != shape(record).split(" ", 2)[1])


def ended_before(row: OpenJob, record: QueueRecord, own: Sequence[RunRecord] | None) -> list[RunRecord] | None:
    """The runs and sizes of a job before those that squeue shows; None while sacct does not have them all.

    :param own: its runs; None when sacct could not be asked
    """
    if not needs_runs(row, record):
        return []
    if own is None:
        return None
    ended = [run for run in own if run.ended is not None]
    earlier = [run for run in ended if run.submitted < record.submitted or run.state is SlurmState.RESIZING]
    if is_resized(row, record) and (not own or (own[-1].nodes, own[-1].cpus) != (record.nodes, record.cpus)):
        return None  # sacct does not have this size yet
    if record.restarts == 0:
        return earlier
    last = row.run_submitted
    return earlier if any(last is None or run.submitted == last for run in earlier) or last == record.submitted else None


def requested(row: OpenJob, record: QueueRecord, own: Sequence[RunRecord] | None) -> str | None:
    """The TRES that a job requests, as Slurm prints them; None where they are those that were seen last.

    :param own: its runs, where sacct was asked
    """
    if own:
        return own[-1].requested
    waits = record.state is not None and record.state.phase is Phase.WAITING
    return record.tres if waits and shape(record) != row.shape else None


def observe(row: OpenJob, record: QueueRecord, earlier: Sequence[RunRecord] | None, times: int | None = None) -> Observation:
    """What of squeue's record is not in the row.

    :param times: what was bought is requested so many times; None: as before
    :param earlier: of :func:`ended_before`; while it is None, the run and the size that were seen last stay recorded
    """
    first = min((run.submitted for run in earlier or ()), default=record.submitted)
    seen = shape(record)
    return Observation(
        slurm_state=record.state_text if row.slurm_state != record.state_text else None,
        submitted_at=min(first, record.submitted) if row.submitted_at is None and earlier is not None else None,
        run_submitted=record.submitted if row.run_submitted != record.submitted and earlier is not None else None,
        time_limit=record.minutes if row.time_limit is None else None,
        uid=record.uid if row.uid is None else None,
        shape=seen if seen != row.shape and earlier is not None and record.state is not SlurmState.COMPLETING else None,
        times=times if times != row.times and earlier is not None else None,
        found=row.missing_since is not None,
    )


def present_use(record: QueueRecord, times: int) -> Use:
    """What the present run of a job holds."""
    return Use.of(record.elapsed, record.nodes, record.cpus, record.tres, record.partition, record.started, times)


def use_of(run: EndedRun) -> Use:
    """What a run that has ended held."""
    return Use.of(run.seconds, run.nodes, run.cpus, run.tres or "", run.partition or "", run.started, run.times)


def ended_run(row: OpenJob, run: RunRecord, built: BuiltJob | None) -> EndedRun:
    """A run of sacct's as the database keeps it."""
    return EndedRun(
        job_id=row.id, submitted=run.submitted, started=run.started, ended=run.ended, seconds=run.elapsed,
        nodes=run.nodes, cpus=run.cpus, state=run.state_text, exit_code=run.exit_code, signal=run.signal,
        partition=run.partition, account=run.account, name=run.name, tres=run.tres,
        times=built.times(run.requested) if built is not None else 1,
    )  # fmt: skip
