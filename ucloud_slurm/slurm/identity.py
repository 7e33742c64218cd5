"""What makes a Slurm job the one that was submitted: its number, its owner's uid, and its time of submission. Pure.

Neither its name nor anything else that ``scontrol update`` changes counts.
"""

import json
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from ucloud_slurm.slurm.parse import tres
from ucloud_slurm.slurm.records import Candidate, QueueRecord, RunRecord, SlurmJobId, Submission
from ucloud_slurm.slurm.sbatch import options
from ucloud_slurm.slurm.states import Phase, SlurmState

# A run that sacct shows in one of these states may be followed by another run of the same job.
_CONTINUED = frozenset(
    {
        SlurmState.BOOT_FAIL,
        SlurmState.NODE_FAIL,
        SlurmState.PREEMPTED,
        SlurmState.REQUEUED,
        SlurmState.REQUEUE_FED,
        SlurmState.REQUEUE_HOLD,
        SlurmState.RESIZING,
        SlurmState.REVOKED,
        SlurmState.SPECIAL_EXIT,
    }
)


# Options of sbatch that say this, in letters that no release of Slurm quotes in a command line.
_WHERE_AND_HOW_LARGE = re.compile(r"--(partition|account|nodes|ntasks-per-node|cpus-per-task|chdir)=[\w./:,@+-]+", re.ASCII)


class JobIdentity(NamedTuple):
    """The identity of a Slurm job. Times are seconds since the epoch.

    :ivar uid: None where it is not known: a database of an earlier release
    :ivar earliest: it was not submitted before; where a run was seen, it was submitted then
    :ivar run_submitted: when the run was submitted that was seen last; None before the first
    """

    id: SlurmJobId
    uid: int | None
    earliest: int
    run_submitted: int | None = None

    def is_of(self, record: QueueRecord) -> bool:
        """Whether squeue's record is of this job. Slurm uses its numbers again; a requeue sets the time of submission.

        A record that cannot be read counts as of this job: it says nothing, and the job is not absent.
        """
        if record.id != self.id or record.uid is None:
            return record.id == self.id
        if self.uid is not None and self.uid != record.uid:
            return False
        if self.run_submitted is None:
            return record.submitted >= self.earliest
        return record.submitted == self.run_submitted or (record.restarts > 0 and record.submitted > self.run_submitted)

    def runs(self, records: Iterable[RunRecord]) -> list[RunRecord]:
        """Those of sacct's records that are runs of this job, oldest first.

        A run that has ended for good is the last, unless squeue has shown a later one of the same job.
        """
        found: list[RunRecord] = []
        first = None if self.run_submitted is None else {self.earliest, self.run_submitted}
        of_this = [each for each in records if each.id == self.id and (self.uid is None or each.uid in (None, self.uid))]
        for run in sorted(of_this, key=lambda each: each.submitted):
            if run.uid is not None and run.submitted < self.earliest:
                continue
            if found and run.submitted > (self.run_submitted or 0) and not _continues(found[-1]):
                break
            if not found and run.uid is not None and first is not None and run.submitted not in first:
                break  # the rows of this job are gone, and its number is used again
            found.append(run)
        return found


def _continues(run: RunRecord) -> bool:
    return run.state is None or run.state in _CONTINUED or run.state.phase is not Phase.ENDED


def shape(record: QueueRecord) -> str:
    """What people may change of a job that waits or runs: its partition, its nodes, CPUs and GPUs, and its name."""
    return f"{_size(record.partition, record.nodes, record.cpus, record.tres)} {record.name}"


@lru_cache(4096)
def _size(partition: str, nodes: int, cpus: int, allocated: str) -> str:
    # Thousands of jobs have few sizes among them.
    return f"{partition} {nodes}/{cpus}/{tres(allocated).gpus or 0}"


class BuiltJob(NamedTuple):
    """What was asked of Slurm for a job. None: nothing, and the cluster's own default counts.

    :ivar cpus: of the whole job
    :ivar gpus: of the whole job
    :ivar options: of sbatch, those that say this
    :ivar pages: rank, name and port of web pages that the job serves
    """

    partition: str
    account: str | None
    nodes: int | None
    cpus: int | None
    gpus: int | None
    folder: str
    options: tuple[str, ...] = ()
    pages: tuple[tuple[int, str, int], ...] = ()

    @classmethod
    def of(cls, submission: Submission) -> "BuiltJob":
        """What a submission asks for."""
        tasks = submission.nodes * submission.tasks
        return cls(
            partition=submission.partition,
            account=submission.account,
            nodes=None if "nodes" in submission.omit else submission.nodes,
            cpus=None if submission.cpus is None else tasks * submission.cpus,
            gpus=None if "gres" in submission.omit else submission.nodes * _gpus(submission.gres or ""),
            folder=submission.folder,
            options=tuple(option for option in options(submission) if _WHERE_AND_HOW_LARGE.fullmatch(option)),
            pages=submission.pages,
        )

    @classmethod
    def read(cls, text: str | None) -> "BuiltJob | None":
        """The reverse of :meth:`text`."""
        return None if text is None else cls(**json.loads(text))

    def shape(self, name: str) -> str | None:
        """Its shape as :func:`shape` gives that of squeue's record; None where it is up to the cluster."""
        known = None not in (self.nodes, self.cpus, self.gpus)
        return None if not known else f"{self.partition} {self.nodes}/{self.cpus}/{self.gpus} {name}"

    def times(self, requested: str) -> int:
        """How many times what was bought is requested on each node: more after somebody has enlarged the job.

        :param requested: TRES as Slurm prints them
        """
        now, most = tres(requested), 1
        for wanted, bought in ((now.cpus, self.cpus), (now.gpus, self.gpus)):
            if wanted and bought and self.nodes:
                most = max(most, -(-wanted * self.nodes // (bought * (now.nodes or self.nodes))))
        return most

    @property
    def text(self) -> str:
        """As the database keeps it."""
        return json.dumps(self._asdict())

    def is_as_built(self, found: Candidate) -> bool:
        """Whether a job is what was asked for. Slurm may allocate more CPUs than that: whole cores, or whole nodes."""
        return (
            {*found.partition.split(",")} <= {*self.partition.split(",")}
            and (self.account is None or found.account.lower() == self.account.lower())
            and (self.nodes is None or found.nodes == self.nodes)
            and (self.cpus is None or found.cpus >= self.cpus)
            and found.folder == self.folder
        )

    def is_line_of(self, submit_line: str) -> bool:
        """Whether a command line has these options. Of the job itself any may have been changed since."""
        return all(option in submit_line for option in self.options)


def _gpus(gres: str) -> int:
    """The GPUs in ``gpu:a100:2,disk:1`` (sbatch(1): --gres)."""
    parts = [part.split(":") for part in gres.split(",")]
    return sum(int(part[-1]) if part[-1].isdigit() else 1 for part in parts if part[0] == "gpu")
