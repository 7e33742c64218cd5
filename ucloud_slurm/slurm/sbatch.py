"""sbatch(1): its options, a started sbatch that waits for its script, and what its answer means."""

import re

from ucloud_slurm.errors import one_line
from ucloud_slurm.slurm.errors import OutcomeUnknownError, SchedulerUnavailableError, SubmissionRefusedError, is_refusal
from ucloud_slurm.slurm.records import SlurmJobId, Submission
from ucloud_slurm.system.process import CommandMissingError, CommandTimeoutError, Started

# sbatch prints this when the controller refuses the request. After any other failure the job may exist: a request that
# timed out may still be served.
_REFUSED = re.compile(r"error: (?:Batch job submission failed: )?(.+)")


class Sbatch:
    """An sbatch(1) that waits for its script. See :class:`PendingSubmission`."""

    def __init__(self, command: Started, script: str, timeout: float) -> None:
        self._command = command
        self._script = script
        self._timeout = timeout

    def send(self, within: float) -> SlurmJobId:
        try:
            done = self._command.finish(self._script, min(within, self._timeout))
        except CommandMissingError as error:
            raise SchedulerUnavailableError(str(error)) from None
        except CommandTimeoutError as error:
            raise OutcomeUnknownError(str(error)) from None
        text = done.output.strip()
        # A federated cluster prints "id;cluster".
        if done.status == 0 and (match := re.fullmatch(r"([1-9][0-9]{0,9})(?:;\S+)?", text)):
            return SlurmJobId(int(match[1]))
        if done.status > 0 and not text and (reason := refusal(done.errors)):
            raise SubmissionRefusedError(reason)
        raise OutcomeUnknownError(f"sbatch ended with {done.status}: {one_line(done.errors or text, 200)}")

    def abandon(self) -> None:
        self._command.kill()


def options(submission: Submission) -> list[str]:
    """The options of sbatch, all as arguments: an argument overrides a directive in the script.

    The job gets the environment of sbatch, which :func:`environment` makes. With --export=NONE, or a list of variables,
    slurmd would run the login profile of the user on the node (su - user), which may hang or exit.
    """
    given = {
        "job-name": submission.name,
        "comment": submission.comment,
        "partition": submission.partition,
        "account": submission.account,
        "qos": submission.qos,
        "constraint": submission.constraint,
        "reservation": submission.reservation,
        "nodes": submission.nodes,
        # With one task on a node it says the number of nodes too.
        "ntasks": submission.nodes if "nodes" in submission.omit and submission.nodes > 1 else None,
        "ntasks-per-node": submission.tasks,
        "cpus-per-task": submission.cpus,
        "mem": None if submission.memory is None else f"{submission.memory}M",
        "gres": submission.gres,
        "time": submission.minutes,
        "chdir": submission.folder,
        "output": _literal(submission.output),
        "error": _literal(submission.error),
        "open-mode": "append",
        "export": "ALL",
        "signal": submission.signal,
    }
    ours = [f"--{key}={value}" for key, value in given.items() if value is not None and key not in submission.omit]
    # Of two equal options the later one counts.
    return ["--parsable", *submission.more, *(["--exclusive"] if submission.exclusive else []), *ours]


def _literal(path: str) -> str:
    """A path in which Slurm replaces nothing (sbatch(1): filename pattern): with a backslash it replaces no patterns."""
    return path.replace("\\", "\\\\") if "\\" in path else path.replace("%", "%%")


def refusal(errors: str) -> str | None:
    """Slurm's reason if sbatch or the controller refused, else None.

    :param errors: what sbatch printed on its error output
    """
    if not is_refusal(errors):
        return None
    reasons = [match[1].strip() for match in _REFUSED.finditer(errors)]
    return "; ".join(dict.fromkeys(reasons)) or None
