"""What stands in a row of the jobs table, as facts: all of it, or what watching needs of thousands of them."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

from ucloud_slurm.store.job_state import JobPhase, Stop
from ucloud_slurm.store.sqlite import Row
from ucloud_slurm.ucloud.reports import JobState

if TYPE_CHECKING:
    from ucloud_slurm.ucloud.jobs import Job


_PHASES = {phase.value: phase for phase in JobPhase}
_STATES = {None: None} | {state.value: state for state in JobState}
_STOPS = {None: None} | {stop.value: stop for stop in Stop}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job that is to be written. Times are seconds since the epoch.

    :ivar name: of the Slurm job
    :ivar local_user: the Unix user that it runs as, whatever becomes of its owner's link later
    :ivar fingerprint: of its owner and specification (:func:`ucloud_slurm.bridge.naming.fingerprint`)
    :ivar body: the Job as UCloud sent it, JSON
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


@dataclass(frozen=True, slots=True)
class OpenJob:
    """What is read in every pass of every job that has not ended. Times are seconds since the epoch."""

    id: str
    slurm_id: int | None
    phase: JobPhase
    name: str
    local_user: str
    owner: str
    project: str | None
    category: str
    product: str
    submitted_at: int | None
    state: JobState | None
    slurm_state: str | None
    stop: Stop | None
    missing_since: float | None
    missing_reads: int
    run_submitted: int | None
    charged: int
    time_limit: int | None
    external: bool
    by_periods: int
    held_at: float | None

    @classmethod
    def of(
        cls,
        id_: str,
        slurm_id: int | None,
        phase: str,
        name: str,
        local_user: str,
        owner: str,
        project: str | None,
        category: str,
        product: str,
        submitted_at: int | None,
        state: str | None,
        slurm_state: str | None,
        stop: str | None,
        missing_since: float | None,
        missing_reads: int,
        run_submitted: int | None,
        charged: int,
        time_limit: int | None,
        external: int,
        by_periods: int,
        held_at: float | None,
    ) -> "OpenJob":
        """The columns of the table as a fact, in the order of the fields."""
        return OpenJob(
            id_,
            slurm_id,
            _PHASES[phase],
            name,
            local_user,
            owner,
            project,
            category,
            product,
            submitted_at,
            _STATES[state],
            slurm_state,
            _STOPS[stop],
            missing_since,
            missing_reads,
            run_submitted,
            charged,
            time_limit,
            bool(external),
            by_periods,
            held_at,
        )

    @property
    def visible_to_ucloud(self) -> bool:
        """Whether UCloud knows the job and hears of it: not if its create failed."""
        return self.stop is not Stop.ROLLED_BACK and self.phase is not JobPhase.REFUSED


@dataclass(frozen=True, slots=True)
class JobRow(OpenJob):
    """A whole row of the table."""

    fingerprint: str
    body: str
    accepted_at: float
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
        # What is only watched is never read as a message, and those have many parts to be loaded.
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
