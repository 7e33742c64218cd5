"""Reading what Slurm's commands print. Pure; output that is not whole is an error, never data.

Fields are separated by the ASCII unit separator, and every row of squeue and sinfo ends with a fixed field: a row that
was cut off lacks it. Names, comments and folders of jobs are their users' own texts and may hold anything, so
separators or row ends contain a random mark of the call: no text can pretend to be the row of another job. A row that
is whole but has a value that cannot be read is one job's trouble, not the answer's. Times are asked for in seconds
since the epoch (``SLURM_TIME_FORMAT=%s``).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache

from ucloud_slurm.slurm.records import Candidate, NodeGroup, Partition, QueueRecord, RunRecord, SlurmJobId, Tres
from ucloud_slurm.slurm.states import read_state

SEPARATOR = "\x1f"
END = "\x1e"

# squeue(1), --Format: a width of 0 prints a field whole, and what follows it is its suffix.
QUEUE_FIELDS = (
    "JobID", "State", "SubmitTime", "StartTime", "TimeUsed", "NumNodes", "NumCPUs", "UserID", "UserName", "Reason",
    "NodeList", "TimeLimit", "Account", "Partition", "RestartCnt", "tres-alloc", "Name",
)  # fmt: skip
NAMED_FIELDS = ("JobID", "UserID", "SubmitTime", "NumNodes", "NumCPUs", "Account", "Partition", "WorkDir", "Comment", "Name")

RUN_FIELDS = (
    "JobIDRaw", "State", "Submit", "Start", "End", "ElapsedRaw", "ExitCode", "NNodes", "AllocCPUS", "UID", "User",
    "NodeList", "Partition", "Account", "AllocTRES", "ReqTRES", "WorkDir", "Comment", "JobName",
)  # fmt: skip
SUBMITTED_FIELDS = (RUN_FIELDS[0], "SubmitLine", *RUN_FIELDS[1:])

PARTITION_FIELDS = ("%R", "%a", "%l", "%s", "%D", "%c", "%m", "%G")
PARTITION_FORMAT = SEPARATOR.join((*PARTITION_FIELDS, END))

ADDRESS_FIELDS = ("%N", "%o")
ADDRESS_FORMAT = SEPARATOR.join((*ADDRESS_FIELDS, END))

CAPACITY_FIELDS = ("NodeList:255", "CPUsState:64", "Memory:32", "AllocMem:32")

# Thousands of jobs have few limits, spans and times of submission among them: what was read is read once.
KEPT = 4096
UNREADABLE = "a row that cannot be read"
UNKNOWN_TIMES = frozenset({"", "N/A", "None", "Unknown", "0"})


class ParseError(Exception):
    """The output is not what the command prints when all is well."""


def queue_format(mark: str) -> str:
    """What squeue is asked for (``-O``).

    :param mark: letters and digits that nobody knows beforehand
    """
    return ",".join(f"{field}:0{SEPARATOR}" for field in QUEUE_FIELDS) + END + mark


def named_format(mark: str) -> str:
    """What squeue is asked for (``-O``) of jobs whose users' texts are wanted. See :func:`queue_format`."""
    return ",".join(f"{field}:0{delimiter(mark)}" for field in NAMED_FIELDS)


def delimiter(mark: str) -> str:
    """What sacct puts between fields (``--delimiter``). See :func:`queue_format`."""
    return SEPARATOR + mark


def queue(output: str, mark: str) -> list[QueueRecord]:
    """Rows of ``squeue -h -O`` :func:`queue_format`. One that cannot be read has no state and no uid.

    :raises ParseError: when a row is not whole
    """
    return [_queue_record(fields) for fields in _rows(output, len(QUEUE_FIELDS), SEPARATOR + END + mark)]


def _queue_record(fields: Sequence[str]) -> QueueRecord:
    (id_, state, submitted, started, elapsed, nodes, cpus, uid, user, reason, node_list, limit, account, partition,
        restarts, tres_, name) = fields  # fmt: skip
    try:
        # In the order of the fields: this is done for every job of every pass.
        return QueueRecord(
            SlurmJobId(_integer(id_)),
            name,
            user,
            read_state(state),
            state,
            reason,
            moment(submitted) or 0,
            moment(started),
            seconds(elapsed),
            _count(nodes),
            _count(cpus),
            node_list,
            time_limit(limit),
            account,
            partition,
            _count(uid),
            _count(restarts),
            tres_,
        )
    except ParseError:
        number = SlurmJobId(_integer(id_))
        return QueueRecord(number, name, user, None, UNREADABLE, "", 0, None, 0, 0, 0, "", None, account, partition)


def named(output: str, mark: str) -> list[Candidate]:
    """Rows of ``squeue -h -O`` :func:`named_format`. Those that cannot be read are left out.

    :raises ParseError: when a row is not whole
    """
    found = []
    for fields in _unended(output, len(NAMED_FIELDS) + 1, delimiter(mark)):
        id_, uid, submitted, nodes, cpus, account, partition, folder, comment, name, _ = fields
        with suppress(ParseError):
            found.append(
                Candidate(
                    id=SlurmJobId(_integer(id_)),
                    name=name,
                    uid=_integer(uid),
                    submitted=moment(submitted) or 0,
                    comment=comment,
                    partition=partition,
                    account=account,
                    nodes=_integer(nodes),
                    cpus=_integer(cpus),
                    folder=folder,
                )
            )
    return found


def runs(output: str, mark: str, fields: Sequence[str] = RUN_FIELDS) -> list[RunRecord]:
    """Rows of ``sacct -X -D -n -P`` with :func:`delimiter`. One that cannot be read has no state and no uid.

    :param fields: that sacct was asked for
    :raises ParseError: when a row is not whole
    """
    rows = _unended(output, len(fields), delimiter(mark))
    return [_run_record(dict(zip(fields, row, strict=True))) for row in rows]


def _run_record(row: Mapping[str, str]) -> RunRecord:
    code, _, number = row["ExitCode"].partition(":")
    try:
        return RunRecord(
            id=SlurmJobId(_integer(row["JobIDRaw"])),
            state=read_state(row["State"]),
            state_text=row["State"],
            submitted=moment(row["Submit"]) or 0,
            started=moment(row["Start"]),
            ended=moment(row["End"]),
            elapsed=_integer(row["ElapsedRaw"] or "0"),
            exit_code=_integer(code or "0"),
            signal=_integer(number or "0"),
            nodes=_integer(row["NNodes"] or "0"),
            cpus=_integer(row["AllocCPUS"] or "0"),
            uid=_integer(row["UID"]),
            user=row["User"],
            node_list=row["NodeList"],
            partition=row["Partition"],
            account=row["Account"],
            tres=row["AllocTRES"],
            requested=row["ReqTRES"],
            folder=row["WorkDir"],
            comment=row["Comment"],
            submit_line=row.get("SubmitLine", ""),
            name=row["JobName"],
        )
    except ParseError:
        id_ = SlurmJobId(_integer(row["JobIDRaw"]))
        return RunRecord(id_, row["JobName"], row["User"], None, UNREADABLE, 0, None, None, 0, 0, 0, 0, 0, "")


@lru_cache(KEPT)
def tres(text: str) -> Tres:
    """Trackable resources, such as ``billing=2,cpu=2,gres/gpu=1,gres/gpu:a100=1,mem=200M,node=1``."""
    counts = dict(part.partition("=")[::2] for part in text.split(","))
    numbers = {name: int(count) for name, count in counts.items() if count.isascii() and count.isdigit()}
    kinds = [number for name, number in numbers.items() if name.startswith("gres/gpu:")]
    gpus = numbers.get("gres/gpu", sum(kinds) if kinds else None)
    return Tres(numbers.get("node"), numbers.get("cpu"), gpus, numbers.get("billing"))


def partitions(output: str) -> list[Partition]:
    """Rows of ``sinfo -h -a -e -o PARTITION_FORMAT``; a partition has one row for each kind of node.

    :raises ParseError: when a row is not whole
    """
    found: dict[str, Partition] = {}
    for name, available, limit, size, count, cpus, memory, gres in _rows(output, len(PARTITION_FIELDS), SEPARATOR + END):
        before = found.get(name)
        group = NodeGroup(_integer(count), _integer(cpus.rstrip("+")), _integer(memory.rstrip("+")), gres)
        most = size.rpartition("-")[2]
        found[name] = Partition(
            name=name,
            up=available == "up",
            minutes=time_limit(limit),
            nodes_max=None if most == "infinite" else _integer(most),
            groups=(*(before.groups if before else ()), group),
        )
    return list(found.values())


def addresses(output: str) -> dict[str, str]:
    """Rows of ``sinfo -h -N -o ADDRESS_FORMAT``: the address of each node.

    :raises ParseError: when a row is not whole
    """
    return dict(_rows(output, len(ADDRESS_FIELDS), SEPARATOR + END))


def capacity(output: str) -> tuple[int, int, int, int]:
    """Rows of ``sinfo -h -N -O CAPACITY_FIELDS``: CPUs, those in use, MiB, those in use; a node counts once.

    CPUs and memory of nodes that are not in service do not count as there.

    :raises ParseError: when a row is not whole
    """
    nodes: dict[str, tuple[int, int, int, int]] = {}
    for line in output.splitlines():
        fields = line.split()
        if len(fields) != len(CAPACITY_FIELDS):
            raise ParseError(f"a row has {len(fields)} fields instead of {len(CAPACITY_FIELDS)}: {line[:80]!r}")
        name, cpus, memory, memory_used = fields
        used, idle, out_of_service, _ = (_integer(number) for number in cpus.split("/"))
        there = 0 if out_of_service and not used + idle else _integer(memory)
        nodes[name] = (used + idle, used, there, min(_integer(memory_used), there))
    totals = [sum(column) for column in zip(*nodes.values(), strict=True)] or [0, 0, 0, 0]
    return totals[0], totals[1], totals[2], totals[3]


@lru_cache(KEPT)
def time_limit(text: str) -> int | None:
    """A time limit in minutes, None for no limit."""
    return None if text in ("infinite", "UNLIMITED", "NOT_SET", "Partition_Limit") else -(-seconds(text) // 60)


@lru_cache(KEPT)
def seconds(text: str) -> int:
    """A span as squeue and sinfo print it: ``[days-][hours:]minutes:seconds``. Nothing known yet is 0.

    :raises ParseError: when it is something else
    """
    if text in ("", "INVALID", "N/A", "UNLIMITED"):
        return 0
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text)
    if match is None:
        raise ParseError(f"{text[:40]!r} is not a span of time")
    days, hours, minutes, rest = (int(part or 0) for part in match.groups())
    return days * 86400 + hours * 3600 + minutes * 60 + rest


def _rows(output: str, count: int, end: str) -> Iterable[list[str]]:
    """Rows of ``count`` fields, each ended by ``end`` and a line feed. The last field may hold anything else."""
    if output and not output.endswith(f"{end}\n"):
        raise ParseError("the last row is cut off")
    for row in output.split(f"{end}\n")[:-1]:
        fields = row.split(SEPARATOR, count - 1)
        if len(fields) != count:
            raise ParseError(f"a row has {len(fields)} fields instead of {count}: {row[:80]!r}")
        yield fields


def _unended(output: str, count: int, separator: str) -> Iterable[list[str]]:
    """Rows of ``count`` fields whose end is not marked. Any field but the first may hold line feeds."""
    if not output:
        return
    if not output.endswith("\n"):
        raise ParseError("the last row is cut off")
    # The last field of a row and the first one of the next are one piece with a line feed between them.
    pieces = output[:-1].split(separator)
    if len(pieces) == 1 or (len(pieces) - 1) % (count - 1):
        raise ParseError(f"the answer has {len(pieces)} fields, which make no rows of {count}")
    first = pieces[0]
    for start in range(1, len(pieces), count - 1):
        *fields, last = pieces[start : start + count - 1]
        end, _, following = last.rpartition("\n") if start + count - 1 < len(pieces) else (last, "", "")
        yield [first, *fields, end]
        first = following


def _integer(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ParseError(f"{text[:40]!r} is not a number")
    return int(text)


# Of numbers that many jobs share.
_count = lru_cache(KEPT)(_integer)


@lru_cache(KEPT)
def moment(text: str) -> int | None:
    """Seconds since the epoch, None for no time."""
    return None if text in UNKNOWN_TIMES else _integer(text)
