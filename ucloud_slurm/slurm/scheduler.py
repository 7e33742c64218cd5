"""The interface to Slurm, implemented by ``commands`` and, where it can be used, by ``pyslurm``."""

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from ucloud_slurm.slurm.errors import ActionRefusedError
from ucloud_slurm.slurm.records import (
    Candidate,
    Load,
    Node,
    Partition,
    QueueRecord,
    RunFilter,
    RunRecord,
    SlurmJobId,
    Submission,
    TerminalCommand,
)
from ucloud_slurm.system.process import Start


class PendingSubmission(Protocol):
    """A batch job that is ready to be sent to Slurm. It is sent once or abandoned."""

    def send(self, within: float) -> SlurmJobId:
        """Submits the job.

        :param within: seconds after which the answer is given up
        :raises SubmissionRefusedError: Slurm took no job
        :raises OutcomeUnknownError: there may be a job or not
        :raises SchedulerUnavailableError: nothing was sent
        """

    def abandon(self) -> None:
        """Releases what was prepared. Slurm has not heard of the job."""


class Changes(Protocol):
    """What is changed of a job that Slurm has. The caller has compared its identity with squeue's record.

    :raises SchedulerUnavailableError: from every call, when Slurm gives no answer; the change may have been made or not
    """

    def set_time_limit(self, job: SlurmJobId, minutes: int, within: float) -> None:
        """Sets the time limit of a job, counted from its start.

        :raises ActionRefusedError: Slurm refuses
        """

    def suspend(self, job: SlurmJobId, within: float) -> None:
        """Suspends a running job; it keeps its allocation.

        :raises ActionRefusedError: Slurm refuses
        """

    def resume(self, job: SlurmJobId, within: float) -> None:
        """Resumes a suspended job.

        :raises ActionRefusedError: Slurm refuses
        """

    def hold(self, job: SlurmJobId, within: float) -> None:
        """Holds a pending job.

        :raises ActionRefusedError: Slurm refuses
        """

    def release(self, job: SlurmJobId, within: float) -> None:
        """Releases a held job.

        :raises ActionRefusedError: Slurm refuses
        """


class Scheduler(Changes, Protocol):
    """What this package asks of Slurm. Every call has a hard time limit.

    :raises SchedulerUnavailableError: from every call, when Slurm gives no whole answer
    """

    @property
    def cluster(self) -> str | None:
        """Slurm's name of the cluster (slurm.conf(5): ClusterName); None where it is not known."""

    def begin(self) -> None:
        """Prepares for many calls, without waiting. Optional."""

    def close(self) -> None:
        """Releases what is kept between calls. No call follows."""

    def start(self, submission: Submission, as_user: Start) -> PendingSubmission:
        """Prepares the submission of a batch job. Slurm does not hear of the job before it is sent.

        :param as_user: starts a command as the user who is to own the job
        :raises SchedulerUnavailableError: Slurm's command cannot be started
        """

    def queue(self, uids: Collection[int] | None) -> list[QueueRecord]:
        """All jobs of these users that slurmctld knows, including ended ones until it forgets them (MinJobAge).

        :param uids: accounts that may not exist any more; None for all users
        """

    def job(self, job: SlurmJobId, within: float) -> QueueRecord | None:
        """One job, or None if slurmctld does not know it. Costs the same however many jobs there are."""

    def some(self, jobs: Collection[SlurmJobId], within: float) -> Mapping[SlurmJobId, QueueRecord]:
        """Those of these jobs that slurmctld knows. Few of them cost the same however many others there are."""

    def runs(self, ids: Collection[SlurmJobId]) -> list[RunRecord]:
        """Every run of these jobs, from the accounting database."""

    def accounting_backlog(self, within: float) -> int:
        """How many records slurmctld has that the accounting database does not have yet.

        While slurmdbd is away they wait in slurmctld, for hours where it must be, and then come one after the other: until
        there are none, what :meth:`runs` does not have may still come.
        """

    def queue_named(self, names: Collection[str] | None) -> list[Candidate]:
        """All jobs with one of these names that slurmctld knows, of any user.

        :param names: None for any name
        """

    def runs_since(self, since: float, which: RunFilter) -> list[RunRecord]:
        """Every run that was submitted or active since then, with its command line where Slurm keeps it.

        :param since: seconds since the epoch
        """

    def cancel(self, jobs: Collection[SlurmJobId], within: float) -> Mapping[SlurmJobId, ActionRefusedError]:
        """Asks Slurm to cancel these jobs. The caller has compared their identities with squeue's records.

        Success does not mean that a job has ended. Idempotent: a job that has ended is no error.

        :returns: what Slurm refuses, by job
        :raises SchedulerUnavailableError: Slurm gave no answer about one of them, at least; others may be cancelled
        """

    def changing(self) -> AbstractContextManager[Changes]:
        """For one change, which the caller decides on while what makes it gets ready. Without one nothing has happened."""

    def terminal(self, job: SlurmJobId, rank: int, folder: str, shell: str) -> TerminalCommand:
        """The command that runs a login shell in a step on the job's node number ``rank``.

        It is to be started on a terminal as the job's user, whose login shell ``shell`` is; it ends with the job.
        """

    def ping(self, within: float) -> None:
        """Returns if slurmctld answers. The cheapest question."""

    def partitions(self, within: float) -> list[Partition]:
        """The partitions and their nodes."""

    def nodes(self, node_list: str, within: float) -> list[Node]:
        """The nodes of a list such as ``n[1-3,7]``, in its order."""

    def load(self, partitions: Collection[str], within: float) -> Load:
        """The use of these partitions by all users."""

    def accounts(self, user: str, within: float) -> list[str]:
        """The Slurm accounts under which that user may submit, by name."""

    def is_operator(self, user: str, within: float) -> bool:
        """Whether that user may change jobs of others and raise limits (sacctmgr(1): AdminLevel)."""

    def version(self) -> str:
        """Slurm's version, such as ``22.05.8``."""
