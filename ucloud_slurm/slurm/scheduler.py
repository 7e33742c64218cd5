"""The one interface to a scheduler; `commands` stands behind it, and `pyslurm` where it can be used."""

from collections.abc import Collection
from typing import Protocol

from ucloud_slurm.slurm.records import Launch, Load, Node, Partition, QueueRecord, RunRecord, SlurmJobId, Submission
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


class Scheduler(Protocol):
    """What the product asks of Slurm. Every call has a hard time limit.

    :raises SchedulerUnavailableError: from every call that could not be answered
    """

    def begin(self) -> None:
        """Makes ready for many calls, without waiting. Not needed before a call."""

    def close(self) -> None:
        """Lets go of what is kept between calls. No call follows."""

    def start(self, submission: Submission, as_user: Start) -> PendingSubmission:
        """Prepares the submission of a batch job. Slurm does not hear of the job before it is sent.

        :param as_user: starts a command as the user who is to own the job
        :raises SchedulerUnavailableError: Slurm's command cannot be started
        """

    def queue(self, users: Collection[str] | None) -> list[QueueRecord]:
        """All jobs of these users that slurmctld holds, ended ones too while it remembers them.

        :param users: None for everybody
        """

    def job(self, job: SlurmJobId, within: float) -> QueueRecord | None:
        """One job, or None when slurmctld does not hold it."""

    def runs(self, ids: Collection[SlurmJobId]) -> list[RunRecord]:
        """Every run of these jobs, from the accounting database."""

    def runs_named(self, names: Collection[str], users: Collection[str], since: float) -> list[RunRecord]:
        """Every run with one of these names, of one of these users, submitted since then."""

    def cancel(self, job: SlurmJobId, name: str, user: str, within: float) -> None:
        """Asks Slurm to end that job if it bears that name and belongs to that user.

        Success does not mean that the job has ended: look. A job that has ended is left alone.

        :raises ActionRefusedError: Slurm does not do it
        """

    def set_time_limit(self, job: SlurmJobId, minutes: int, within: float) -> None:
        """Gives the job that time limit, counted from its start.

        :raises ActionRefusedError: Slurm does not do it
        """

    def suspend(self, job: SlurmJobId, within: float) -> None:
        """Stops the processes of a running job; it keeps its nodes.

        :raises ActionRefusedError: Slurm does not do it
        """

    def resume(self, job: SlurmJobId, within: float) -> None:
        """Lets the processes of a suspended job go on.

        :raises ActionRefusedError: Slurm does not do it
        """

    def hold(self, job: SlurmJobId, within: float) -> None:
        """Keeps a waiting job from beginning.

        :raises ActionRefusedError: Slurm does not do it
        """

    def release(self, job: SlurmJobId, within: float) -> None:
        """Lets a job that is held begin when it is its turn.

        :raises ActionRefusedError: Slurm does not do it
        """

    def terminal(self, job: SlurmJobId, rank: int, folder: str, shell: str) -> Launch:
        """The command that runs a login shell on the job's node number ``rank``, when started on a terminal.

        It must be started as the job's own user, whose login shell is given, and ends with the job.
        """

    def partitions(self, within: float) -> list[Partition]:
        """The partitions and their nodes."""

    def nodes(self, node_list: str, within: float) -> list[Node]:
        """The nodes of a list such as ``n[1-3,7]``, in its order."""

    def load(self, partitions: Collection[str], within: float) -> Load:
        """How full these partitions are, with everybody's jobs."""

    def accounts(self, user: str, within: float) -> list[str]:
        """The Slurm accounts under which that user may submit, by name."""

    def is_operator(self, user: str, within: float) -> bool:
        """Whether Slurm lets that account change jobs of others, and raise limits (sacctmgr(1): AdminLevel)."""

    def version(self) -> str:
        """Slurm's version, such as ``22.05.8``."""
