"""Records of Slurm: a submission, and what squeue, sacct and sinfo list. Times are seconds since the epoch."""

from dataclasses import dataclass
from typing import NamedTuple, NewType

from ucloud_slurm.slurm.states import SlurmState

SlurmJobId = NewType("SlurmJobId", int)


class Submission(NamedTuple):
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
    :ivar pages: rank, name and port of web pages that the job serves; Slurm does not get them
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
    pages: tuple[tuple[int, str, int], ...] = ()


class QueueRecord(NamedTuple):
    """A job as squeue lists it. A tuple is made three times as fast, and every pass makes one for each job.

    :ivar state: None for an unknown word
    :ivar submitted: time of submission, or of the last requeue
    :ivar elapsed: seconds for which the present run has had its allocation, without suspension
    :ivar cpus: CPUs of the whole job
    :ivar minutes: time limit, None for no limit
    :ivar uid: of its owner; None where the row could not be read, which says nothing about the job
    :ivar restarts: how often it was requeued
    :ivar tres: what is allocated, or requested while it waits (slurm.conf(5): AccountingStorageTRES)
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
    uid: int | None = None
    restarts: int = 0
    tres: str = ""


class RunRecord(NamedTuple):
    """One run of a job as sacct lists it; a requeued job has several.

    :ivar elapsed: seconds for which the run had its allocation, without suspension
    :ivar ended: None until some seconds after the end
    :ivar cpus: CPUs of the whole allocation
    :ivar uid: of its owner; None where the row could not be read
    :ivar tres: what was allocated
    :ivar requested: what was requested, of which Slurm may have allocated more
    :ivar folder: working directory
    :ivar comment: empty where Slurm does not keep it (slurm.conf(5): AccountingStoreFlags)
    :ivar submit_line: the command line of the submission, which nothing changes; empty where it was not asked for
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
    uid: int | None = None
    partition: str = ""
    account: str = ""
    tres: str = ""
    requested: str = ""
    folder: str = ""
    comment: str = ""
    submit_line: str = ""

    @property
    def is_whole(self) -> bool:
        """False for a row that cannot be read, or that slurmdbd made of the end of a job before it had its beginning."""
        early = self.name == "allocation" and not self.tres and not self.requested and self.ended is not None
        return self.uid is not None and not early


class RunFilter(NamedTuple):
    """Which runs are asked for; of several conditions all must hold. None: any.

    :ivar uids: accounts that may not exist any more
    """

    uids: frozenset[int] | None = None
    names: frozenset[str] | None = None
    partitions: frozenset[str] | None = None


class Tres(NamedTuple):
    """Trackable resources of a job. None: Slurm does not say.

    :ivar billing: the product of TRESBillingWeights (slurm.conf(5))
    """

    nodes: int | None = None
    cpus: int | None = None
    gpus: int | None = None
    billing: int | None = None


class Candidate(NamedTuple):
    """A job that has the name of one of ours, from squeue or sacct.

    :ivar comment: None where the source does not have it
    :ivar nodes: requested, or allocated
    :ivar cpus: requested, or allocated
    """

    id: SlurmJobId
    name: str
    uid: int
    submitted: int
    comment: str | None
    partition: str
    account: str
    nodes: int
    cpus: int
    folder: str


@dataclass(frozen=True, slots=True)
class NodeGroup:
    """Identical nodes of a partition. Memory is MiB."""

    count: int
    cpus: int
    memory: int
    gres: str


class Partition(NamedTuple):
    """A partition and its nodes.

    :ivar minutes: its time limit, None for no limit
    :ivar nodes_max: limit on the nodes of a job, None for no limit
    """

    name: str
    up: bool
    minutes: int | None
    nodes_max: int | None
    groups: tuple[NodeGroup, ...]


class Node(NamedTuple):
    """A node of a job, and the address at which its programs are reached."""

    name: str
    address: str


class Load(NamedTuple):
    """Use of some partitions. Memory is MiB; a node in several of them counts once."""

    cpus: int
    cpus_used: int
    memory: int
    memory_used: int
    running: int
    pending: int


class TerminalCommand(NamedTuple):
    """A command that opens a shell when it is started on a terminal; ``env`` is its whole environment."""

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
