"""Reading what ``scontrol show job`` prints of one job. Pure.

Names, comments and folders of jobs are their users' own texts and may hold anything, also what looks like a line of
scontrol's. Each line that counts must therefore be there exactly once, and a text that cannot be read with certainty is
none: squeue is asked then. Times are asked for in seconds since the epoch (``SLURM_TIME_FORMAT=%s``).
"""

import re

from ucloud_slurm.slurm import parse
from ucloud_slurm.slurm.parse import ParseError
from ucloud_slurm.slurm.records import QueueRecord, SlurmJobId
from ucloud_slurm.slurm.states import read_state

_INDENT = "   "
_HEAD = re.compile(r"JobId=(?P<id>\d+) JobName=(?P<name>.*)")
# Slurm 20.11 to 26.05.
_LINES = {
    "UserId=": r"(?P<user>\S+)\((?P<uid>\d+)\) GroupId=.*",
    "Priority=": r"\d+ Nice=-?\d+ Account=(?P<account>\S+) QOS=.*",
    "JobState=": r"(?P<state>\S+) Reason=(?P<reason>.*) Dependency=.*",
    "Requeue=": r"\d+ Restarts=(?P<restarts>\d+) BatchFlag=.*",
    "RunTime=": r"(?P<elapsed>\S+) TimeLimit=(?P<limit>\S+) TimeMin=.*",
    "SubmitTime=": r"(?P<submitted>\d+) EligibleTime=.*",
    "StartTime=": r"(?P<started>\S+) EndTime=.*",
    "Partition=": r"(?P<partition>\S+) AllocNode:Sid=.*",
    "NodeList=": r"(?P<node_list>\S*)",
    "NumNodes=": r"(?P<nodes>\d+)(?:-\d+)? NumCPUs=(?P<cpus>\d+)(?:-\d+)? .*",
}
_TRES = ("AllocTRES=", "TRES=", "ReqTRES=")  # the first is of newer releases, which have the last for a job that waits
_NOTHING = "(null)"
_SECOND = "UserId="  # the beginning of the line after the name


def record(output: str) -> QueueRecord:
    """A job as squeue lists it.

    :raises ParseError: it is not certain what is printed, or it is not one job
    """
    head, *lines = output.strip("\n").split("\n")
    found = _match(_HEAD, head)
    if not lines or not lines[0].startswith(_INDENT + _SECOND):
        raise ParseError("the name has several lines")
    for begin, pattern in _LINES.items():
        found |= _match(re.compile(pattern), _only(begin, lines))
    return QueueRecord(
        id=SlurmJobId(int(found["id"])),
        name=found["name"],
        user=found["user"],
        state=read_state(found["state"]),
        state_text=found["state"],
        reason=found["reason"],
        submitted=int(found["submitted"]),
        started=parse.moment(found["started"]),
        elapsed=parse.seconds(found["elapsed"]),
        nodes=int(found["nodes"]),
        cpus=int(found["cpus"]),
        node_list="" if found["node_list"] == _NOTHING else found["node_list"],
        minutes=parse.time_limit(found["limit"]),
        account=found["account"],
        partition=found["partition"],
        uid=int(found["uid"]),
        restarts=int(found["restarts"]),
        tres=_tres(lines),
    )


def _tres(lines: list[str]) -> str:
    for begin in _TRES:
        if any(line.startswith(_INDENT + begin) for line in lines) and (text := _only(begin, lines)) != _NOTHING:
            return text
    raise ParseError("no TRES")


def _only(begin: str, lines: list[str]) -> str:
    """What follows the beginning of a line of which there is one."""
    found = [line.removeprefix(_INDENT + begin) for line in lines if line.startswith(_INDENT + begin)]
    if len(found) != 1:
        raise ParseError(f"{len(found)} lines begin with {begin}")
    return found[0]


def _match(pattern: re.Pattern[str], text: str) -> dict[str, str]:
    match = pattern.fullmatch(text)
    if match is None:
        raise ParseError(f"{text[:80]!r} cannot be read")
    return match.groupdict()
