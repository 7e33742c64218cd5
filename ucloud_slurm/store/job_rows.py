"""Rows of the table jobs, as facts: one that is to be written, a whole one, or the part that every pass reads."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from ucloud_slurm.store.job_state import OPEN, JobPhase, Stop
from ucloud_slurm.store.sqlite import Row, Store
from ucloud_slurm.ucloud.channel import OwnerKind
from ucloud_slurm.ucloud.reports import JobState

if TYPE_CHECKING:
    from ucloud_slurm.ucloud.jobs import Job

_PHASES = {phase.value: phase for phase in JobPhase}
_STATES = {None: None} | {state.value: state for state in JobState}
_STOPS = {None: None} | {stop.value: stop for stop in Stop}


class NewJob(NamedTuple):
    """A job that is to be written. Times are seconds since the epoch.

    :ivar name: of the Slurm job
    :ivar local_user: the Unix user that it runs as, whatever becomes of its owner's link later
    :ivar uid: of that user; None where it has none
    :ivar secret: the nonces of its attempts are made from it (:func:`ucloud_slurm.bridge.naming.nonce`)
    :ivar built: partition, account, size and folder of the batch job, JSON; None while it is not built
    :ivar request_id: of the create that it came with; None where UCloud has not sent one
    :ivar fingerprint: of its owner and specification (:func:`ucloud_slurm.bridge.naming.fingerprint`)
    :ivar body: the Job as UCloud sent it, JSON
    :ivar decision: what a program of the site has changed of it (:class:`ucloud_slurm.config.JobChanges`), JSON
    """

    id: str
    name: str
    local_user: str
    owner: str
    project: str | None
    category: str
    product: str
    fingerprint: str
    body: str
    accepted_at: float
    uid: int | None = None
    secret: str | None = None
    built: str | None = None
    request_id: str | None = None
    decision: str | None = None


@dataclass(frozen=True, slots=True)
class OpenJob:
    """The part of a row that every pass reads of every job that has not ended. Times are seconds since the epoch.

    :ivar run_submitted: when the run that squeue showed last was submitted
    :ivar charged: node-seconds or CPU-seconds that have been charged or reported
    :ivar time_limit: minutes, as UCloud knows it
    :ivar by_periods: of ``charged`` what was charged by periods, to a UCloud that gets no usage reports
    :ivar uid: of the Unix user; None where that is not known
    :ivar shape: partition, size and name as submitted, or as squeue showed them last
    :ivar waits_for: the kind of reason for which it waits, as UCloud heard it
    :ivar reasons: when UCloud heard of which kind of reason lately, JSON
    :ivar times: what was bought is requested so many times on each node
    :ivar ended_runs: runs of it that are recorded as ended
    :ivar held_at: we hold the job in the queue since then
    :ivar external: it was submitted outside UCloud
    """

    id: str
    slurm_id: int | None
    local_user: str
    owner: str
    project: str | None
    category: str
    product: str
    submitted_at: int | None
    slurm_state: str | None
    missing_since: float | None
    missing_reads: int
    run_submitted: int | None
    charged: int
    time_limit: int | None
    by_periods: int
    held_at: float | None
    accepted_at: float
    uid: int | None
    shape: str | None
    waits_for: str | None
    reasons: str | None
    times: int
    ended_runs: int
    phase: JobPhase
    state: JobState | None
    stop: Stop | None
    external: bool

    @property
    def visible_to_ucloud(self) -> bool:
        """Whether UCloud has the job and hears of it: not if its create failed."""
        return self.stop is not Stop.ROLLED_BACK and self.phase is not JobPhase.REFUSED


@dataclass(frozen=True, slots=True)
class JobRow(OpenJob):
    """A whole row of the table.

    :ivar name: with which it is submitted
    :ivar cluster: that it was submitted to; None where that is not known
    :ivar acknowledged_at: create is answered with success since then; a later refusal is a FAILURE of the job
    :ivar lookup_only: look for it in Slurm, never submit it
    :ivar reason: the status message that was enqueued with the state
    :ivar used: node-seconds or CPU-seconds, known at the end
    :ivar extension: the last request for more time, to know its repetition
    :ivar confirmed_at: UCloud has said that it has the job
    :ivar decision: what a program of the site has changed of it, JSON; None: nothing
    :ivar clock_before: minutes of the time limit that had passed when UCloud's clock began
    :ivar request_id: of the create that it came with; None where it came otherwise, or with an earlier release
    """

    name: str
    cluster: str | None
    fingerprint: str
    body: str
    secret: str | None
    built: str | None
    acknowledged_at: float | None
    claimed_until: float | None
    attempted_at: float | None
    attempts: int
    lookup_only: bool
    refused_status: int | None
    refused_why: str | None
    reason: str | None
    stop_at: float | None
    used: int | None
    ended_at: float | None
    extension: str | None
    extended_at: float | None
    confirmed_at: float | None
    clock_before: int
    request_id: str | None
    decision: str | None

    @classmethod
    def read(cls, row: Row) -> Self:
        """The row of the table as a fact."""
        data: dict[str, Any] = dict(row)
        data["phase"] = _PHASES[data["phase"]]
        data["lookup_only"] = bool(data["lookup_only"])
        data["external"] = bool(data["external"])
        data["state"] = _STATES[data["state"]]
        data["stop"] = _STOPS[data["stop"]]
        return cls(**data)

    @property
    def job(self) -> "Job":
        """The job as UCloud sent it."""
        # A pass that only polls never decodes a job, and the models of UCloud's messages take long to load.
        from ucloud_slurm.ucloud.jobs import Job
        from ucloud_slurm.ucloud.wire import decode

        return decode(Job, self.body.encode())


# Columns whose names differ from the fields that they are read into.
_COLUMNS = {"acknowledged_at": "promised_at", "lookup_only": "found_only", "external": "outside"}


def _columns(fact: type[OpenJob]) -> str:
    names = [(field.name, _COLUMNS.get(field.name, field.name)) for field in fields(fact)]
    return ", ".join(column if column == name else f"{column} as {name}" for name, column in names)


LEAN = _columns(OpenJob)
WHOLE = _columns(JobRow)


def whole(store: Store, which: str, parameters: Sequence[Any]) -> list[JobRow]:
    """The rows that a condition names."""
    return [JobRow.read(row) for row in store.rows(f"select {WHOLE} from jobs {which}", parameters)]


def lean(store: Store, which: str, parameters: Sequence[Any] = ()) -> list[OpenJob]:
    """As much of the rows that a condition names as every pass reads."""
    return _open_jobs(store.tuples(f"select {LEAN} from jobs {which}", parameters))


def count_open(store: Store, kind: OwnerKind, owner: str, machine: tuple[str, str] | None) -> int:
    """How many jobs of a person or a project have not ended, those from outside UCloud apart.

    :param owner: the user's name, or the project's id
    :param machine: only of this category and product; None: of all
    """
    column, index = ("project", "jobs_of_project") if kind is OwnerKind.PROJECT else ("owner", "jobs_of_owner")
    which = f"{column} = ? and {OPEN} and outside = 0 and stop is not 'rolled-back'"
    if machine is not None:
        which += " and category = ? and product = ?"
    ((number,),) = store.tuples(f"select count(*) from jobs indexed by {index} where {which}", [owner, *(machine or ())])
    return int(number)


def _open_jobs(rows: Sequence[tuple[Any, ...]]) -> list[OpenJob]:
    """The columns :data:`LEAN` of the table, in the order of the fields.

    Every pass makes thousands of them. It is done column by column: each step is one call for all rows, which takes
    half of the time of a call of the class for each.
    """
    if not rows:
        return []
    *plain, phase, state, stop, external = zip(*rows, strict=True)
    read = [*plain, map(_PHASES.__getitem__, phase), map(_STATES.__getitem__, state), map(_STOPS.__getitem__, stop)]
    made = [OpenJob.__new__(OpenJob) for _ in rows]
    for field, column in zip(fields(OpenJob), [*read, map(bool, external)], strict=True):
        deque(map(getattr(OpenJob, field.name).__set__, made, column), maxlen=0)
    return made


def insert(store: Store, job: NewJob, phase: JobPhase, **columns: Any) -> bool:
    """Writes a job with further columns; False when there is one with its id."""
    row = {**{name: getattr(job, name) for name in NewJob._fields}, "phase": phase, **columns}
    values = ", ".join(f":{column}" for column in row)
    sql = f"insert into jobs ({', '.join(row)}) values ({values}) on conflict (id) do nothing"
    return bool(store.change(sql, row))


def take_number(store: Store, job_id: str, slurm_id: int) -> None:
    """Takes the number of a Slurm job, which is this job's now, from an earlier job that no pass has seen yet.

    A controller that was killed has lost that one, and uses its number again. One that was seen is known by its time of
    submission. Called in the transaction that gives this job the number.
    """
    store.change(
        "update jobs set slurm_id = null "
        "where slurm_id = ?1 and id <> ?2 and phase = 'live' and submitted_at is null and exists (select 1 from jobs as new "
        "where new.id = ?2 and new.cluster is jobs.cluster and new.attempted_at > jobs.attempted_at)",
        [slurm_id, job_id],
    )
