"""How a call to Slurm can fail, and what its commands say on their error output. Pure."""

import re
from collections.abc import Collection

from ucloud_slurm.errors import NotNow, one_line
from ucloud_slurm.slurm.records import SlurmJobId

# With these texts Slurm says that the controller or the database was not reached, did not answer, or asks for a retry; the
# request may have been served all the same. Anything else is an answer. The list is closed, and a text counts as a whole:
# what a site prints may contain any word. From slurm_errno.c of Slurm 20.11 to 26.05, its start-up, and glibc's errno(3).
_TEXTS = """
Unexpected message received | Communication connection failure | Message send failure | Message receive failure |
Communication shutdown failure | Incompatible versions of client and server code | I/O stream version number error |
Protocol authentication error | Insane message length | Can't find an address, check slurm.conf |
Unexpected missing socket error | Unable to process incoming file descriptor |
Unable to process outgoing file descriptor | Unable to process incoming and outgoing file descriptors |
Read would block | Write would block | Connection rejected by handler | Connection forced closed by quiesce timeout |
Connection timed out establishing | Connection timed out writing | Connection timed out reading |
Kernel reported delayed socket error after successful write(), client side likely closed |
Process is shutting down and closing all communications | Unable to contact slurm controller (connect failure) |
Unable to contact slurm controller (send failure) | Unable to contact slurm controller (receive failure) |
Unable to contact slurm controller (shutdown failure) | Rate limit exceeded, please retry momentarily |
Rate limit exceeded, please retry later | Slurm backup controller in standby mode |
Controller is in standby mode, try a different controller | Unable to create job record, try again |
MaxJobCount limit reached | Requested nodes are busy | Required ports are in use | Received zero length message |
Received message length < 0 | Failed to send entire message | Header lengths are longer than data received |
Socket timed out on send/recv operation | Zero Bytes were transmitted or received | Invalid authentication credential |
Failed to open authentication public key | Failed to connect to authentication agent | Bad argument to plugin function |
Memory management error | Authentication credential invalid | Authentication credential expired |
Cannot unpack credential | Authentication does not apply to request |
Unable to query kernel for socket peer credential | TLS missing but required for connection |
Unable to connect to database | Database connection reference is invalid | Could not establish a configuration source |
Unable to process configuration file | failed to initialize auth plugin | Interrupted system call | Input/output error |
Resource temporarily unavailable | Cannot allocate memory | Too many open files in system | Too many open files |
Broken pipe | Protocol error | Machine is not on the network | Address already in use |
Cannot assign requested address | Network is down | Network is unreachable | Network dropped connection on reset |
Software caused connection abort | Connection reset by peer | No buffer space available |
Transport endpoint is not connected | Cannot send after transport endpoint shutdown | Connection timed out |
Connection refused | Host is down | No route to host | Operation already in progress | Operation now in progress |
Unknown host | Name or service not known | Temporary failure in name resolution
"""
_NOT_NOW = frozenset(" ".join(text.split()).casefold() for text in _TEXTS.split("|"))
_ENDED_ALREADY = re.compile(r"Invalid job id specified|already completing or completed", re.IGNORECASE)
INVALID_JOB = "Invalid job id specified"  # slurm_errno.c
_OF_A_JOB = re.compile(r" for job \S+$")
_NOT_KILLED = re.compile(r"Kill job error on job id (\d+)")


def is_communication_error(text: str) -> bool:
    """Whether an error text of Slurm's, as a whole, says that it was not asked or did not answer."""
    return text.strip().rstrip(".").casefold() in _NOT_NOW


def ends_in_communication_error(line: str) -> bool:
    """Whether a line of a command's error output has such a text behind what the command puts in front of it."""
    return is_communication_error(_OF_A_JOB.sub("", line.strip()).rpartition(": ")[2])


def is_of_a_job(line: str) -> bool:
    """Whether scontrol(1) says in this line that a change of a job has failed."""
    return _OF_A_JOB.search(line.strip()) is not None


def is_unknown_job(errors: str) -> bool:
    """Whether a command says that slurmctld does not know the one job that it was asked about."""
    return INVALID_JOB in errors


def complaints(errors: str) -> list[str]:
    """The lines of a command's error output that report an error."""
    return [line.strip() for line in errors.splitlines() if "error:" in line or "fatal:" in line]


def is_answer(command: str, status: int, output: str, errors: str) -> bool:
    """Whether a command that was asked something has answered.

    Some commands exit with 0 although they had no answer. An empty list may be one; beside a complaint it is none, except
    squeue's: it ends no job and repeats none, as others' do.
    """
    if status != 0 or any(ends_in_communication_error(line) for line in errors.splitlines()):
        return False
    return bool(output.strip()) or command == "squeue" or not complaints(errors)


class SchedulerUnavailableError(NotNow):
    """Slurm could not be asked, or did not give a whole answer."""


class OutcomeUnknownError(NotNow):
    """The submission may have reached Slurm or not. It must be looked up before a retry."""


class SubmissionRefusedError(Exception):
    """Slurm refused the submission; ``reason`` is the site's and Slurm's own text, its lines joined by ``"; "``."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ActionRefusedError(Exception):
    """Slurm refused an action on a job; ``reason`` is Slurm's own text, its lines joined by ``"; "``."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def action_failed(command: str, status: int, lines: list[str]) -> SchedulerUnavailableError | ActionRefusedError:
    """What it means that a command that changes a job has failed. The last line decides: a site's own words precede it.

    :param lines: what it printed
    """
    text = "; ".join(one_line(line, 200) for line in lines)
    if not lines or ends_in_communication_error(lines[-1]):
        return SchedulerUnavailableError(f"{command} ended with {status}: {one_line(text, 300)}")
    return ActionRefusedError(one_line(text))


def not_cancelled(jobs: Collection[SlurmJobId], status: int, printed: str) -> dict[SlurmJobId, ActionRefusedError]:
    """The refusals among what scancel(1) printed. Of the other jobs the request was taken, or they have ended already.

    :param jobs: that it was given
    :returns: by job; a refusal that names none of them is one of all
    :raises SchedulerUnavailableError: it had no answer for one of them, at least
    """
    lines = [line for line in printed.splitlines() if line.strip() and not _ENDED_ALREADY.search(line)]
    if status == 0:  # beside it a plugin may complain
        lines = [line for line in lines if _NOT_KILLED.search(line) or ends_in_communication_error(line)]
    if not lines and (status == 0 or printed.strip()):
        return {}
    of_job = {int(match[1]): line for line in lines if (match := _NOT_KILLED.search(line))}
    unanswered = [line for line in of_job.values() if ends_in_communication_error(line)]
    failed = action_failed("scancel", status, [*lines, *unanswered])
    if isinstance(failed, SchedulerUnavailableError):
        raise failed
    if len(jobs) == 1 or not of_job.keys() & set(jobs):
        return dict.fromkeys(jobs, failed)
    return {job: ActionRefusedError(one_line(of_job[job])) for job in jobs if job in of_job}
