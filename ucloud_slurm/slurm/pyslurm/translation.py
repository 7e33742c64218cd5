"""Translation between the records of this package and pyslurm's classes. Pure, and exact or refused.

Every name of pyslurm that is used is listed here once, with the type and the unit that its documentation of release
25.11 gives.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ucloud_slurm.slurm import errors
from ucloud_slurm.slurm.records import QueueRecord, SlurmJobId, Submission
from ucloud_slurm.slurm.states import read_state

UNKNOWN_JOB = 2017
FIRST_OF_SLURM = 2000  # smaller numbers are errors of the system (errno(3)) and of the communication
UNSPECIFIED = -1  # a job_submit plugin refused


class Name(NamedTuple):
    """An attribute of a class of pyslurm.

    :ivar type: from its documentation
    :ivar unit: words of its documentation that give its unit or its meaning
    """

    name: str
    type: str
    unit: str = ""


DESCRIPTION = (
    Name("name", "str", "--job-name"), Name("comment", "str", "--comment"),
    Name("script", "str", "content"), Name("partitions", "Union[list, str]", "--partition"),
    Name("account", "str", "--account"), Name("qos", "str", "--qos"),
    Name("constraints", "str", "--constraint"), Name("reservations", "Union[list, str]", "--reservation"),
    Name("nodes", "Union[dict, str, int]", "--nodes"), Name("ntasks", "int", "--ntasks"),
    Name("ntasks_per_node", "int", "--ntasks-per-node"), Name("cpus_per_task", "int", "--cpus-per-task"),
    Name("memory_per_node", "Union[str, int]", "Mebibytes"), Name("gres_per_node", "Union[dict, str]", "--gres"),
    Name("time_limit", "str", "--time"), Name("working_directory", "str", "--chdir"),
    Name("standard_output", "str", "--output"), Name("standard_error", "str", "--error"),
    Name("log_files_open_mode", "str", "append"), Name("signal", "Union[dict, str]", "--signal"),
    Name("resource_sharing", "str", "exclusive"), Name("environment", "Union[dict, str]", ""),
    Name("user_id", "Union[str, int]", "--uid"), Name("group_id", "Union[str, int]", "--gid"),
    Name("priority", "int", "--hold"),
)  # fmt: skip
JOB = (
    Name("id", "int"), Name("name", "str"), Name("user_name", "str"),
    Name("state", "str"), Name("state_reason", "str"), Name("submit_time", "int", "unix timestamp"),
    Name("start_time", "int", "unix timestamp"), Name("run_time", "int", "seconds"), Name("num_nodes", "int"),
    Name("cpus", "int", "Total amount"), Name("allocated_nodes", "str"), Name("time_limit", "int", "minutes"),
    Name("account", "str"), Name("partition", "str"), Name("user_id", "int"), Name("requeue_count", "int"),
)  # fmt: skip
ACTIONS = ("cancel", "suspend", "unsuspend", "hold", "release", "modify")

_GRES = re.compile(r"[A-Za-z0-9_-]+(?::[A-Za-z0-9_.-]*[A-Za-z_.-][A-Za-z0-9_.-]*)?:[1-9][0-9]*")
_SIGNAL = re.compile(r"(B:)?(HUP|TERM|USR1|USR2)@([1-9][0-9]*)")
_DIRECTIVE = re.compile(r"^#(SBATCH|PBS|BSUB)", re.MULTILINE)
_LARGEST = 0xFFFF  # Slurm keeps these numbers in 16 bits

# They make the launchers of MPI programs start their steps through Slurm.
_LAUNCHERS = {
    "OMPI_MCA_plm_slurm_args": "--external-launcher",
    "PRTE_MCA_plm_slurm_args": "--external-launcher",
    "HYDRA_BOOTSTRAP": "slurm",
    "HYDRA_LAUNCHER_EXTRA_ARGS": "--external-launcher",
    "I_MPI_HYDRA_BOOTSTRAP": "slurm",
    "I_MPI_HYDRA_BOOTSTRAP_EXEC_EXTRA_ARGS": "--external-launcher",
}


class UnsupportedError(Exception):
    """It has no exact translation."""


def description(submission: Submission) -> dict[str, Any]:
    """The keywords of a JobSubmitDescription that submits the same job as sbatch.

    :raises UnsupportedError: there is no exact translation
    """
    if submission.more or submission.omit:
        raise UnsupportedError("only sbatch takes the site's own options, and leaves others out")
    _check_script(submission.script)
    ntasks, cpus = submission.nodes * submission.tasks, submission.cpus
    if cpus is None or submission.memory == 0 or submission.minutes == 0:
        raise UnsupportedError("the cluster's own default is meant")
    if max(cpus, submission.tasks) > _LARGEST or min(cpus, submission.tasks, submission.nodes) < 1:
        raise UnsupportedError("a number is out of range")
    wanted: dict[str, Any] = {
        "name": submission.name,
        "comment": submission.comment,
        "script": submission.script,
        "partitions": submission.partition,
        "account": submission.account,
        "qos": submission.qos,
        "constraints": submission.constraint,
        "reservations": submission.reservation,
        "nodes": submission.nodes,
        "ntasks": ntasks,
        "ntasks_per_node": submission.tasks,
        "cpus_per_task": cpus,
        "memory_per_node": submission.memory,
        "gres_per_node": None if submission.gres is None else _gres(submission.gres),
        "time_limit": None if submission.minutes is None else clock(submission.minutes),
        "working_directory": submission.folder,
        # Slurm replaces patterns such as %j in paths.
        "standard_output": submission.output.replace("%", "%%"),
        "standard_error": submission.error.replace("%", "%%"),
        "log_files_open_mode": "append",
        "signal": None if submission.signal is None else _signal(submission.signal),
        "resource_sharing": "exclusive" if submission.exclusive else None,
        "environment": _environment(submission, cpus),
    }
    # The library cuts a text at a NUL, and takes UTF-8 only.
    for value in (*wanted.values(), *wanted["environment"].values()):
        if isinstance(value, str) and ("\0" in value or not _is_text(value)):
            raise UnsupportedError("a text contains a character that libslurm cannot take")
    for name in ("name", "comment", "partitions", "account", "qos", "constraints", "reservations"):
        if wanted[name] == "":
            raise UnsupportedError(f"{name} is empty")
    return {name: value for name, value in wanted.items() if value is not None}


def clock(minutes: int) -> str:
    """A time limit as sbatch --time takes it: hours, minutes and seconds."""
    return f"{minutes // 60}:{minutes % 60:02}:00"


def record(attributes: Mapping[str, Any]) -> QueueRecord:
    """A job as squeue lists it.

    :param attributes: the values of :data:`JOB`
    :raises UnsupportedError: a value is not what the documentation says
    """
    texts = ("name", "user_name", "state", "state_reason", "partition")
    numbers = ("id", "submit_time", "run_time", "num_nodes", "cpus", "user_id", "requeue_count")
    for kind, names in ((str, texts), (int, numbers)):
        for name in names:
            # Such as a job name "None", which the module turns into None.
            if not isinstance(attributes.get(name), kind):
                raise UnsupportedError(f"the job has no {name}")
    started, minutes = (attributes.get(name) for name in ("start_time", "time_limit"))
    if not all(value is None or isinstance(value, int) for value in (started, minutes)):
        raise UnsupportedError("a time of the job is no number")
    return QueueRecord(
        id=SlurmJobId(attributes["id"]),
        name=attributes["name"],
        user=attributes["user_name"],
        state=read_state(attributes["state"]),
        state_text=attributes["state"],
        reason=attributes["state_reason"],
        submitted=attributes["submit_time"],
        started=started,
        elapsed=attributes["run_time"],
        nodes=attributes["num_nodes"],
        cpus=attributes["cpus"],
        node_list=attributes.get("allocated_nodes") or "",
        minutes=minutes,
        # As squeue prints it where Slurm keeps no accounts.
        account=attributes.get("account") or "(null)",
        partition=attributes["partition"],
        uid=attributes["user_id"],
        restarts=attributes["requeue_count"],
    )


def submitted(answer: Mapping[str, Any]) -> SlurmJobId:
    done = answer.get("done")
    if isinstance(done, int) and not isinstance(done, bool) and done > 0:
        return SlurmJobId(done)
    if refused(answer):
        raise errors.SubmissionRefusedError(text(answer))
    raise errors.OutcomeUnknownError(f"pyslurm: {text(answer)}")


def refused(answer: Mapping[str, Any]) -> bool:
    """Whether Slurm served the request and refused it."""
    number = answer.get("errno")
    if not isinstance(number, int) or errors.is_communication_error(text(answer)):
        return False
    return number >= FIRST_OF_SLURM or number == UNSPECIFIED


def text(answer: Mapping[str, Any]) -> str:
    return str(answer.get("text") or answer.get("unfit") or "its answer cannot be read")


def _check_script(script: str) -> None:
    """Refuses a text that the module would take for a path, or in which sbatch would find directives."""
    if not script.startswith("#!") or "\n" not in script or "\r\n" in script:
        raise UnsupportedError("the script does not consist of plain lines")
    if _DIRECTIVE.search(script):
        raise UnsupportedError("the script contains directives, which only sbatch applies")


def _environment(submission: Submission, cpus: int) -> dict[str, str]:
    """The variables that sbatch --export=ALL sets from its options; the child adds those of its process."""
    return {
        "SLURM_NTASKS_PER_NODE": str(submission.tasks),
        "SLURM_CPUS_PER_TASK": str(cpus),
        "SLURM_TRES_PER_TASK": f"cpu={cpus}",
        **_LAUNCHERS,
    }


def _gres(text: str) -> dict[str, int]:
    """``gpu:a100:2,disk:1`` as the module takes it."""
    found: dict[str, int] = {}
    for part in text.split(","):
        name, _, count = part.rpartition(":")
        if not _GRES.fullmatch(part) or name in found:
            raise UnsupportedError("the generic resources are not a list of names and numbers")
        found[name] = int(count)
    return found


def _signal(text: str) -> str:
    match = _SIGNAL.fullmatch(text)
    if match is None:
        raise UnsupportedError("the signal is unknown")
    return f"{match[1] or ''}SIG{match[2]}@{match[3]}"


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
