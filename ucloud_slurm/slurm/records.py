"""Facts about Slurm: what is submitted, what squeue, sacct and sinfo say. Times are seconds since the epoch."""

from dataclasses import dataclass
from typing import NewType

from ucloud_slurm.slurm.states import SlurmState

SlurmJobId = NewType("SlurmJobId", int)


@dataclass(frozen=True, slots=True)
class Submission:
    """A batch job to submit (sbatch(1)).

    :ivar user: the local account that the job is to be of
    :ivar name: the job's name, by which it is found again
    :ivar comment: for people who look at squeue
    :ivar script: the batch script; options are never in it
    :ivar nodes: number of nodes
    :ivar cpus: CPUs of each task
    :ivar memory: MiB per node, None for the partition's default
    :ivar gres: generic resources per node
    :ivar minutes: time limit, None for the partition's default
    :ivar folder: working directory, absolute; it must exist
    :ivar output: file for standard output, absolute
    :ivar error: file for standard error, absolute
    :ivar exclusive: the job has its nodes for itself
    :ivar signal: signal before the end, as sbatch --signal takes it
    :ivar more: further options of the site's own
    :ivar tasks: tasks of each node
    """

    user: str
    name: str
    comment: str
    script: str
    partition: str
    nodes: int
    cpus: int | None
    memory: int | None
    gres: str | None
    minutes: int | None
    account: str | None
    qos: str | None
    constraint: str | None
    reservation: str | None
    folder: str
    output: str
    error: str
    exclusive: bool = False
    signal: str | None = None
    more: tuple[str, ...] = ()
    tasks: int = 1


@dataclass(frozen=True, slots=True)
class QueueRecord:
    """A job as squeue lists it.

    :ivar state: None for a state that is not known here
    :ivar submitted: time of submission, or of the last requeue
    :ivar elapsed: seconds that the present run holds its nodes, without suspension
    :ivar cpus: CPUs of the whole job
    :ivar minutes: time limit, None for no limit
    """

    id: SlurmJobId
    name: str
    user: str
    state: SlurmState | None
    state_text: str
    reason: str
    submitted: int
    started: int | None
    elapsed: int
    nodes: int
    cpus: int
    node_list: str
    minutes: int | None
    account: str
    partition: str


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run of a job as sacct lists it: a requeued job has several, one for each time it was queued.

    :ivar elapsed: seconds that the run held its nodes, without suspension
    :ivar ended: None while the run goes on, and for some seconds after it ended
    :ivar cpus: CPUs that were allocated to the whole job
    """

    id: SlurmJobId
    name: str
    user: str
    state: SlurmState | None
    state_text: str
    submitted: int
    started: int | None
    ended: int | None
    elapsed: int
    exit_code: int
    signal: int
    nodes: int
    cpus: int
    node_list: str


@dataclass(frozen=True, slots=True)
class NodeGroup:
    """Nodes of a partition that are alike. Memory is MiB."""

    count: int
    cpus: int
    memory: int
    gres: str


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition and what it has.

    :ivar minutes: its time limit, None for no limit
    :ivar nodes_max: most nodes of one job, None for no limit
    """

    name: str
    up: bool
    minutes: int | None
    nodes_max: int | None
    groups: tuple[NodeGroup, ...]


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a job, and the address at which its programs are reached."""

    name: str
    address: str


@dataclass(frozen=True, slots=True)
class Load:
    """How full some partitions are. Memory is MiB; a node that is in several of them counts once."""

    cpus: int
    cpus_used: int
    memory: int
    memory_used: int
    running: int
    pending: int


@dataclass(frozen=True, slots=True)
class TerminalCommand:
    """A command that somebody else starts: its words and its whole environment."""

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
