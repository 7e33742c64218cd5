"""What the database, Slurm and UCloud say of each job, where they differ, and what is done about it. Pure."""

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import NamedTuple

from ucloud_slurm.store.job_rows import JobRow
from ucloud_slurm.store.job_state import JobPhase, Stop
from ucloud_slurm.ucloud.reports import JobState

RECENT_SECONDS = 60.0  # of age, in which a job may still be on its way to one of the three
FINAL = frozenset(state.value for state in JobState if state.final)
UNSUBMITTED = (JobPhase.ACCEPTED, JobPhase.SUBMITTING)
LOST = "The provider does not know this job, and neither does the cluster; it is not known how it ended."
GONE = "The job disappeared from the cluster; nothing is known of how it ended."
MOVED = "The job was on the cluster {cluster}, which this provider does not use any more; it is not known how it ended."


class Act(StrEnum):
    """What is done about a difference."""

    ADOPT = "adopt"  # the row is written again, with its Slurm job
    AWAIT = "await"  # likewise; its Slurm job is recognised when its owner is connected
    FOUND = "found"  # a job that was not submitted, as the database says, is a Slurm job
    CLOSE = "close"  # it has ended at UCloud: it ends here, and nothing is reported
    FORGET = "forget"  # messages that UCloud has had before
    STATE = "state"  # UCloud's state is taken for what it has been sent; it hears what has changed since
    REPEAT = "repeat"  # UCloud hears the last state again
    END = "end"  # it ends as a failure
    LEAVE = "leave"  # somebody must look at it


class ClusterJob(NamedTuple):
    """The Slurm job of a job.

    :ivar state: in Slurm's word
    """

    id: int
    state: str
    ended: bool


class JobSides(NamedTuple):
    """One job on the three sides.

    :ivar row: what the database has; None: nothing
    :ivar ucloud: UCloud's state; None: it does not have the job
    :ivar slurm: None: Slurm does not have it
    :ivar since: when it was created or accepted, in seconds since the epoch
    :ivar waiting: messages about it wait
    :ivar alike: Slurm jobs that look like it, and of which nothing says whose they are
    :ivar can_adopt: a row of it can be written; not while the mapping of users does not answer
    """

    id: str
    row: JobRow | None
    ucloud: str | None
    slurm: ClusterJob | None
    since: float
    waiting: bool = False
    alike: tuple[int, ...] = ()
    can_adopt: bool = True


class Circumstances(NamedTuple):
    """What the decisions depend on beside the job.

    :ivar behind: the database is older than what was reported from it, or new
    :ivar cluster: Slurm's name of the cluster; None where it is not known
    :ivar gone: clusters that are not used any more, by the word of the administrator
    """

    now: float
    behind: bool
    cluster: str | None
    gone: frozenset[str] = frozenset()


class Difference(NamedTuple):
    """One job about which the three do not agree.

    :ivar why: the sentence for its owner, of a job that ends
    :ivar what: what is done, and why
    """

    job: JobSides
    act: Act
    what: str
    why: str = ""

    @property
    def database(self) -> str:
        """What the database says."""
        row = self.job.row
        return "-" if row is None else " ".join(filter(None, (row.phase, row.state)))

    @property
    def slurm(self) -> str:
        """What Slurm says."""
        return "-" if self.job.slurm is None else f"{self.job.slurm.id} {self.job.slurm.state}"

    @property
    def slurm_id(self) -> int | None:
        """The number of the Slurm job."""
        known = self.job.row.slurm_id if self.job.row else None
        return self.job.slurm.id if self.job.slurm else known


def compare(jobs: Iterable[JobSides], here: Circumstances) -> list[Difference]:
    """The differences, in the order of the jobs."""
    return [found for job in jobs for found in _difference(job, here)]


def _difference(job: JobSides, here: Circumstances) -> Iterator[Difference]:
    """At most one difference."""
    row, recent = job.row, here.now - job.since < RECENT_SECONDS
    if row is None:
        if not recent or job.slurm is not None:
            yield _missing(job)
    elif row.phase in (JobPhase.ENDED, JobPhase.REFUSED):
        yield from _over(job, row, here)
    elif row.stop is Stop.ROLLED_BACK:
        return  # UCloud does not have it; it is cancelled
    elif job.ucloud is None:
        if row.acknowledged_at is not None and row.confirmed_at is not None and not recent:
            yield Difference(job, Act.LEAVE, "UCloud does not have this job any more; it is followed, and nobody may see it")
    elif job.ucloud in FINAL:
        yield _final(job)
    elif here.cluster is not None and row.cluster not in (None, here.cluster):
        yield _elsewhere(job, row, here)
    else:
        yield from _open(job, row, here, recent=recent)


def _missing(job: JobSides) -> Difference:
    if not job.can_adopt:
        return Difference(job, Act.LEAVE, "the mapping of users does not answer; run this again")
    if job.slurm is not None:
        return Difference(job, Act.ADOPT, f"it is Slurm job {job.slurm.id}, and is followed again")
    if job.alike:
        numbers = ", ".join(map(str, job.alike))
        return Difference(job, Act.AWAIT, f"Slurm job {numbers} looks like it; it is followed when its owner is connected")
    return Difference(job, Act.END, "neither the database nor Slurm knows it; it ends as FAILURE", LOST)


def _over(job: JobSides, row: JobRow, here: Circumstances) -> Iterator[Difference]:
    if job.ucloud in FINAL:
        if here.behind and job.waiting:
            yield Difference(job, Act.FORGET, "UCloud has had its last messages; they are not sent again")
    elif job.ucloud is not None and not job.waiting:
        state = JobState.FAILURE if row.phase is JobPhase.REFUSED else row.state
        yield Difference(job, Act.REPEAT, f"UCloud hears again that it is {state}")


def _final(job: JobSides) -> Difference:
    if job.slurm is not None and not job.slurm.ended:
        what = f"Slurm still has it; unless somebody needs it: scancel {job.slurm.id}"
        return Difference(job, Act.LEAVE, what)
    return Difference(job, Act.CLOSE, f"it is closed as {job.ucloud}; nothing is reported or charged again")


def _elsewhere(job: JobSides, row: JobRow, here: Circumstances) -> Difference:
    if row.cluster in here.gone:
        return Difference(
            job, Act.END, f"its cluster {row.cluster} is gone; it ends as FAILURE", MOVED.format(cluster=row.cluster)
        )
    what = f"it is on the cluster {row.cluster}, not on {here.cluster}; if that one is gone: --gone {row.cluster}"
    return Difference(job, Act.LEAVE, what)


def _open(job: JobSides, row: JobRow, here: Circumstances, *, recent: bool) -> Iterator[Difference]:
    ran = job.ucloud in (JobState.RUNNING, JobState.SUSPENDED)
    if row.phase in UNSUBMITTED:
        if job.slurm is not None:
            yield Difference(job, Act.FOUND, f"it is Slurm job {job.slurm.id}, and is followed")
        elif here.behind and not recent and not job.alike and (ran or row.lookup_only):
            yield Difference(job, Act.END, "Slurm does not have it any more; it ends as FAILURE", GONE)
    elif job.slurm is None and here.behind and not recent:
        yield Difference(job, Act.END, "Slurm does not have it any more; it ends as FAILURE", GONE)
    elif (row.state != job.ucloud or job.waiting) if here.behind else (row.state not in (None, job.ucloud) and not job.waiting):
        yield Difference(job, Act.STATE, f"UCloud has {job.ucloud}; it hears what has changed since then, and nothing twice")
