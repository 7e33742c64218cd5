"""Reading what Slurm's commands print. Pure; output that is not whole is an error, never data.

Fields are separated by the ASCII unit separator, and every row of squeue and sinfo ends with a fixed field: a row that
was cut off lacks it. The name of a job is its user's own text and may hold anything, so it is
the last field, and separators and row ends contain a random mark of the call: no name can pretend to be the row of
another job. Times are asked for in seconds since the epoch
(``SLURM_TIME_FORMAT=%s``).
"""

import re
from collections.abc import Iterable
from functools import lru_cache

from ucloud_slurm.slurm.records import NodeGroup, Partition, QueueRecord, RunRecord, SlurmJobId
from ucloud_slurm.slurm.states import read_state

SEPARATOR = "\x1f"
END = "\x1e"

QUEUE_FIELDS = ("%A", "%T", "%V", "%S", "%M", "%D", "%C", "%u", "%r", "%N", "%l", "%a", "%P", "%j")

RUN_FIELDS = (
    "JobIDRaw", "State", "Submit", "Start", "End", "ElapsedRaw", "ExitCode", "NNodes", "AllocCPUS",
    "User", "NodeList", "JobName",
)  # fmt: skip
RUN_FORMAT = ",".join(RUN_FIELDS)

PARTITION_FIELDS = ("%R", "%a", "%l", "%s", "%D", "%c", "%m", "%G")
PARTITION_FORMAT = SEPARATOR.join((*PARTITION_FIELDS, END))

ADDRESS_FIELDS = ("%N", "%o")
ADDRESS_FORMAT = SEPARATOR.join((*ADDRESS_FIELDS, END))

CAPACITY_FIELDS = ("NodeList:255", "CPUsState:64", "Memory:32", "AllocMem:32")

# Thousands of jobs have few limits, spans and times of submission among them: what was read is read once.
KEPT = 4096
UNKNOWN_TIMES = frozenset({"", "N/A", "None", "Unknown", "0"})


class ParseError(Exception):
    """The output is not what the command prints when all is well."""


def queue_format(mark: str) -> str:
    """What squeue is asked for (``-o``).

    :param mark: letters and digits that nobody knows beforehand
    """
    return SEPARATOR.join((*QUEUE_FIELDS, END + mark))


def delimiter(mark: str) -> str:
    """What sacct puts between fields (``--delimiter``). See :func:`queue_format`."""
    return SEPARATOR + mark


def queue(output: str, mark: str) -> list[QueueRecord]:
    """Rows of ``squeue -h -o`` :func:`queue_format`.

    :raises ParseError: when a row is not whole
    """
    records = []
    for fields in _rows(output, len(QUEUE_FIELDS), SEPARATOR + END + mark):
        (id_, state, submitted, started, elapsed, nodes, cpus, user, reason, node_list, limit, account, partition,
            name) = fields  # fmt: skip
        records.append(
            QueueRecord(
                id=SlurmJobId(_integer(id_)),
                state=read_state(state),
                state_text=state,
                submitted=_time(submitted) or 0,
                started=_time(started),
                elapsed=seconds(elapsed),
                nodes=_integer(nodes),
                cpus=_integer(cpus),
                user=user,
                reason=reason,
                node_list=node_list,
                minutes=_limit(limit),
                account=account,
                partition=partition,
                name=name,
            )
        )
    return records


def runs(output: str, mark: str) -> list[RunRecord]:
    """Rows of ``sacct -X -D -n -P -o RUN_FORMAT`` with :func:`delimiter`.

    :raises ParseError: when a row is not whole
    """
    records = []
    for fields in _unended(output, len(RUN_FIELDS), delimiter(mark)):
        id_, state, submitted, started, ended, elapsed, exit_code, nodes, cpus, user, node_list, name = fields
        code, _, number = exit_code.partition(":")
        records.append(
            RunRecord(
                id=SlurmJobId(_integer(id_)),
                state=read_state(state),
                state_text=state,
                submitted=_time(submitted) or 0,
                started=_time(started),
                ended=_time(ended),
                elapsed=_integer(elapsed or "0"),
                exit_code=_integer(code or "0"),
                signal=_integer(number or "0"),
                nodes=_integer(nodes or "0"),
                cpus=_integer(cpus or "0"),
                user=user,
                node_list=node_list,
                name=name,
            )
        )
    return records


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
            minutes=_limit(limit),
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
def _limit(text: str) -> int | None:
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
    """Rows whose end cannot be marked. A line without a separator goes on with the last field of the row before."""
    if output and not output.endswith("\n"):
        raise ParseError("the last row is cut off")
    rows: list[str] = []
    for line in output.split("\n")[:-1]:
        if separator in line or not rows:
            rows.append(line)
        else:
            rows[-1] += f"\n{line}"
    for row in rows:
        fields = row.split(separator, count - 1)
        if len(fields) != count:
            raise ParseError(f"a row has {len(fields)} fields instead of {count}: {row[:80]!r}")
        yield fields


def _integer(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ParseError(f"{text[:40]!r} is not a number")
    return int(text)


@lru_cache(KEPT)
def _time(text: str) -> int | None:
    return None if text in UNKNOWN_TIMES else _integer(text)
