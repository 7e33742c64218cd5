"""What Slurm would do with a job: sbatch(1) --test-only, and a held job whose fields are read back. For ``check``."""

from typing import NamedTuple

from ucloud_slurm.errors import one_line
from ucloud_slurm.slurm.commands import Commands
from ucloud_slurm.slurm.errors import SchedulerUnavailableError
from ucloud_slurm.slurm.records import SlurmJobId, Submission
from ucloud_slurm.slurm.sbatch import refusal
from ucloud_slurm.system.process import CommandMissingError, CommandTimeoutError, Start

SEPARATOR = "\x1f"
# Of a job, as squeue(1) prints them.
FIELDS = {"name": "%j", "comment": "%k", "partition": "%P", "account": "%a", "time limit": "%l", "nodes": "%D", "CPUs": "%C"}


class Association(NamedTuple):
    """That jobs of a user may be submitted with an account (sacctmgr(1)).

    :ivar user: empty for the account itself
    :ivar partition: empty for all partitions
    """

    account: str
    user: str
    partition: str


class Trial:
    """Asks Slurm about jobs that are not to run."""

    def __init__(self, slurm: Commands) -> None:
        self._slurm = slurm

    def refusal(self, submission: Submission, as_user: Start, within: float) -> str | None:
        """Why Slurm would not take a job, in its own words; None if it would. Nothing is submitted.

        :param as_user: starts a command as the user of the job
        :raises SchedulerUnavailableError: it does not say
        """
        try:
            done = as_user(*self._slurm.trial(submission)).finish(submission.script, within)
        except (CommandMissingError, CommandTimeoutError) as error:
            raise SchedulerUnavailableError(str(error)) from None
        if done.status == 0:
            return None
        words = refusal(done.errors)
        if words is None:
            raise SchedulerUnavailableError(f"sbatch ended with {done.status}: {one_line(done.errors, 300)}")
        return one_line(words, 300)

    def changes(self, submission: Submission, as_user: Start, within: float) -> list[str]:
        """What Slurm makes of a job that is held and cancelled at once, where it differs from what was submitted.

        :param as_user: see :meth:`refusal`
        :raises SubmissionRefusedError: Slurm took no job
        :raises OutcomeUnknownError: there may be a held job of that name
        :raises SchedulerUnavailableError: Slurm does not say, or the job could not be cancelled
        """
        held = submission._replace(more=(*submission.more, "--hold"))
        job = self._slurm.start(held, as_user).send(within)
        try:
            made = self._made(job, within)
        finally:
            for refused in self._slurm.cancel([job], within).values():
                raise refused
        return [
            f"the {what} from {wanted!r} to {one_line(made[what], 60)!r}"
            for what, wanted in _fields(submission).items()
            if wanted not in (None, made[what])
        ]

    def _made(self, job: SlurmJobId, within: float) -> dict[str, str]:
        formats = SEPARATOR.join(FIELDS.values())
        argv = ["--noheader", "--states=all", f"--jobs={job},{job}", f"--format={formats}"]
        values = self._slurm.ask("squeue", argv, within).removesuffix("\n").split(SEPARATOR)
        if len(values) != len(FIELDS):
            raise SchedulerUnavailableError(f"squeue does not list the held job {job}, which was cancelled")
        return dict(zip(FIELDS, values, strict=True))

    def associations(self, cluster: str, within: float) -> list[Association]:
        """All associations of a cluster (sacctmgr(1)), in one call."""
        argv = ["--noheader", "--parsable2", "show", "associations", "where", f"cluster={cluster}"]
        lines = self._slurm.ask("sacctmgr", [*argv, "format=account,user,partition"], within).splitlines()
        rows = [line.split("|") for line in lines]
        return [Association(*row) for row in rows if len(row) == 3]


def _fields(submission: Submission) -> dict[str, str | None]:
    """The fields of a job as they were submitted; None where Slurm decides."""
    cpus = submission.cpus and submission.cpus * submission.tasks * submission.nodes
    return {
        "name": submission.name,
        "comment": submission.comment,
        "partition": submission.partition,
        "account": submission.account and submission.account.lower(),  # Slurm's names of accounts have no case
        "time limit": _span(submission.minutes) if submission.minutes else None,
        "nodes": str(submission.nodes),
        "CPUs": str(cpus) if cpus else None,
    }


def _span(minutes: int) -> str:
    """A time limit as squeue(1) prints it."""
    days, rest = divmod(minutes, 24 * 60)
    hours, left = divmod(rest, 60)
    text = f"{hours:02}:{left:02}:00" if days else f"{hours}:{left:02}:00" if hours else f"{left}:00"
    return f"{days}-{text}" if days else text
