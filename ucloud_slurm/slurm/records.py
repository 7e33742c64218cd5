"""Records of Slurm: a submission, and what squeue, sacct and sinfo list. Times are seconds since the epoch."""

from dataclasses import dataclass
from typing import NewType

from ucloud_slurm.slurm.states import SlurmState

SlurmJobId = NewType("SlurmJobId", int)


@dataclass(frozen=True, slots=True)
class Submission:
    """A batch job to submit (sbatch(1)).

    :ivar user: the user that the job runs as
    :ivar name: the job's name, by which it is looked up
    :ivar comment: shown by squeue
    :ivar script: the batch script, without directives
    :ivar nodes: number of nodes
    :ivar cpus: CPUs of each task
    :ivar memory: MiB per node, None for the partition's default
    :ivar gres: generic resources per node
    :ivar minutes: time limit, None for the partition's default
    :ivar folder: working directory, absolute; it must exist
    :ivar output: file for standard output, absolute
    :ivar error: file for standard error, absolute
    :ivar exclusive: no other job shares its nodes
    :ivar signal: signal before the end, as sbatch --signal takes it
    :ivar more: further options that the site configures
    :ivar tasks: tasks of each node
    :ivar omit: options of sbatch that are left out although they have a value above
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
    omit: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class QueueRecord:
    """A job as squeue lists it.

    :ivar state: None for an unknown word
    :ivar submitted: time of submission, or of the last requeue
    :ivar elapsed: seconds for which the present run has had its allocation, without suspension
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
    """One run of a job as sacct lists it; a requeued job has several.

    :ivar elapsed: seconds for which the run had its allocation, without suspension
    :ivar ended: None until some seconds after the end
    :ivar cpus: CPUs of the whole allocation
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
    """Identical nodes of a partition. Memory is MiB."""

    count: int
    cpus: int
    memory: int
    gres: str


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition and its nodes.

    :ivar minutes: its time limit, None for no limit
    :ivar nodes_max: limit on the nodes of a job, None for no limit
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
    """Use of some partitions. Memory is MiB; a node in several of them counts once."""

    cpus: int
    cpus_used: int
    memory: int
    memory_used: int
    running: int
    pending: int


@dataclass(frozen=True, slots=True)
class TerminalCommand:
    """A command that opens a shell when it is started on a terminal; ``env`` is its whole environment."""

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
