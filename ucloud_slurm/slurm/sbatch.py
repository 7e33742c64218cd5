"""sbatch(1): its options, a started sbatch that waits for its script, and what its answer means."""

import re

from ucloud_slurm.errors import one_line
from ucloud_slurm.slurm.errors import (
    OutcomeUnknownError,
    SchedulerUnavailableError,
    SubmissionRefusedError,
    ends_in_communication_error,
    is_communication_error,
)
from ucloud_slurm.slurm.records import SlurmJobId, Submission
from ucloud_slurm.system.process import CommandMissingError, CommandTimeoutError, Finished, Started

MOST_LINES = 10  # of a refusal

# A federated cluster prints "id;cluster". Without the end of its line it may be the beginning of a longer number.
_ID = re.compile(r"\s*([1-9][0-9]{0,9})(?:;\S+)?[ \t\r]*\n\s*")
# The last word of an sbatch whose submission failed, or its --test-only. Before it is what a job_submit plugin says.
_FAILED = re.compile(r"(?:.*error: )?(?:Batch job submission failed|(?:sbatch: )?allocation failure):\s*(.*)")
_NOISE = re.compile(r".*(?:sleeping and retrying|Job creation temporarily disabled, retrying)\.?|Try .sbatch --help.*")
_SAYS_NOTHING = re.compile(r"Unspecified error|Unknown negative error number|Unknown error -?\d+")
_PREFIX = re.compile(r"(?:sbatch:\s*)?(?:(?:error|fatal):\s*)?")
_COMPLAINT = re.compile(r"\b(?:error|fatal): |: (?:un(?:recognized|known)|invalid|ambiguous) option|: option .*argument")


class Sbatch:
    """An sbatch(1) that waits for its script. See :class:`PendingSubmission`."""

    def __init__(self, command: Started, script: str, timeout: float) -> None:
        self._command = command
        self._script = script
        self._timeout = timeout

    def send(self, within: float) -> SlurmJobId:
        return read_id(self.finish(within))

    def finish(self, within: float) -> Finished:
        """What came of it, see :meth:`send`. Where Slurm's library has done it instead it has an answer."""
        try:
            return self._command.finish(self._script, min(within, self._timeout))
        except CommandMissingError as error:
            raise SchedulerUnavailableError(str(error)) from None
        except CommandTimeoutError as error:
            raise OutcomeUnknownError(str(error)) from None

    def abandon(self) -> None:
        self._command.kill()


def read_id(done: Finished) -> SlurmJobId:
    """The job that sbatch has submitted.

    :raises SubmissionRefusedError: Slurm took no job
    :raises OutcomeUnknownError: there may be a job or not
    """
    text = done.output.strip()
    if done.status == 0 and (match := _ID.fullmatch(done.output)):
        return SlurmJobId(int(match[1]))
    # After any other failure the job may exist: a request that timed out may still be served.
    if done.status > 0 and not text and (reason := refusal(done.errors)):
        raise SubmissionRefusedError(reason)
    raise OutcomeUnknownError(f"sbatch ended with {done.status}: {one_line(done.errors or text, 200)}")


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
    """The reason if sbatch or the controller refused, in the site's own words, else None.

    :param errors: what sbatch printed on its error output
    :returns: the lines joined by ``"; "``, Slurm's own last
    """
    lines = [line.strip() for line in errors.splitlines() if line.strip() and not _NOISE.fullmatch(line.strip())]
    failed = [(number, match[1]) for number, line in enumerate(lines) if (match := _FAILED.fullmatch(line))]
    if failed:
        last, own = failed[-1]
        if own in ("", "No error", "Success") or is_communication_error(own):
            return None
        words = _words(lines[:last])
        if own not in words and not (words and _SAYS_NOTHING.fullmatch(own)):
            words.append(own)
    elif any(ends_in_communication_error(line) for line in lines) or not any(_COMPLAINT.search(line) for line in lines):
        return None
    else:
        words = _words(lines)
    return "; ".join(words) or None


def _words(lines: list[str]) -> list[str]:
    words = (one_line(_PREFIX.sub("", line, count=1), 300) for line in lines)
    return [*dict.fromkeys(word for word in words if word)][:MOST_LINES]
