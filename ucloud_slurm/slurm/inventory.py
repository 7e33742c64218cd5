"""The machines of a cluster and what its partitions allow, from scontrol(1), show node and show partition. For ``setup``.

sinfo(1) does not say what is kept from jobs: CPUs and memory of a node that are reserved for the system.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ucloud_slurm.errors import one_line
from ucloud_slurm.slurm import parse
from ucloud_slurm.slurm.commands import Commands
from ucloud_slurm.slurm.errors import SchedulerUnavailableError

NOTHING = ("", "(null)", "N/A", "NONE")


class Machine(NamedTuple):
    """A node.

    :ivar cpus: that jobs can have, as Slurm counts them
    :ivar memory: MiB that jobs can have; 0 where Slurm does not know it (slurm.conf(5): RealMemory)
    :ivar gpus: kind and number of its GPUs; the kind is empty where Slurm has none
    :ivar billing: Slurm's billing of the whole node; None: it does not say
    """

    name: str
    cpus: int
    memory: int
    gpus: tuple[tuple[str, int], ...]
    partitions: tuple[str, ...]
    billing: int | None


class PartitionRules(NamedTuple):
    """What a partition allows (slurm.conf(5)).

    :ivar minutes: longest time limit, None for none
    :ivar nodes_max: most nodes of a job, None for no limit
    :ivar cpus_max: most CPUs of a node that its jobs may have, likewise
    :ivar memory_max: MiB of a node that a job may have, likewise
    :ivar memory_per_cpu: MiB of a job for each of its CPUs, likewise
    :ivar accounts: the only ones that may use it; empty for all
    :ivar groups: of this host, likewise
    :ivar qos: likewise
    """

    name: str
    state: str
    minutes: int | None
    nodes_max: int | None
    cpus_max: int | None
    memory_max: int | None
    memory_per_cpu: int | None
    whole_nodes: bool
    root_only: bool
    needs_reservation: bool
    accounts: tuple[str, ...]
    groups: tuple[str, ...]
    qos: tuple[str, ...]


class Inventory:
    """Asks Slurm what there is. Every call has a hard time limit.

    :raises SchedulerUnavailableError: from every call, when Slurm gives no whole answer
    """

    def __init__(self, slurm: Commands) -> None:
        self._slurm = slurm

    def machines(self, within: float) -> list[Machine]:
        """The nodes."""
        return machines(self._slurm.ask("scontrol", ["--all", "--oneliner", "show", "node"], within))

    def partitions(self, within: float) -> list[PartitionRules]:
        """The partitions, hidden ones too."""
        output = self._slurm.ask("scontrol", ["--all", "--oneliner", "show", "partition"], within)
        try:
            return partitions(output)
        except parse.ParseError as error:
            raise SchedulerUnavailableError(f"scontrol printed something unexpected: {one_line(str(error), 200)}") from None


def machines(output: str) -> list[Machine]:
    """Reads ``scontrol --all --oneliner show node``; lines that are no node's are left out."""
    return [_machine(fields) for fields in _records(output, "NodeName")]


def _machine(fields: Mapping[str, str]) -> Machine:
    memory = _number(fields, "RealMemory") or 0
    return Machine(
        name=fields["NodeName"],
        cpus=_number(fields, "CPUEfctv") or _number(fields, "CPUTot") or 1,
        # 1 is what Slurm has where nothing is configured.
        memory=max(memory - (_number(fields, "MemSpecLimit") or 0), 0) if memory > 1 else 0,
        gpus=gpus(fields.get("Gres", "")),
        partitions=_listed(fields, "Partitions"),
        billing=parse.tres(fields.get("CfgTRES", "")).billing,
    )


def gpus(gres: str) -> tuple[tuple[str, int], ...]:
    """Kind and number of the GPUs in a list such as ``gpu:a100:4(S:0-1),mps:400`` or ``gpu:2``: slurm.conf(5), Gres."""
    found: Counter[str] = Counter()  # of one kind may be several entries, one for each socket
    for entry in re.sub(r"\([^)]*\)", "", gres).replace(":no_consume", "").split(","):
        name, *words = entry.split(":")
        if name == "gpu":
            number = int(words.pop()) if words and words[-1].isascii() and words[-1].isdigit() else 1
            found[":".join(words)] += number
    return tuple((kind, number) for kind, number in found.items() if number)


def partitions(output: str) -> list[PartitionRules]:
    """Reads ``scontrol --all --oneliner show partition``; lines that are no partition's are left out."""
    return [_rules(fields) for fields in _records(output, "PartitionName")]


def _rules(fields: Mapping[str, str]) -> PartitionRules:
    return PartitionRules(
        name=fields["PartitionName"],
        state=fields.get("State", ""),
        minutes=parse.time_limit(fields.get("MaxTime", "UNLIMITED")),
        nodes_max=_number(fields, "MaxNodes"),
        cpus_max=_number(fields, "MaxCPUsPerNode"),
        memory_max=_number(fields, "MaxMemPerNode") or None,
        memory_per_cpu=_number(fields, "MaxMemPerCPU") or None,
        whole_nodes=fields.get("OverSubscribe") == "EXCLUSIVE",
        root_only=fields.get("RootOnly") == "YES",
        needs_reservation=fields.get("ReqResv") == "YES",
        accounts=_listed(fields, "AllowAccounts"),
        groups=_listed(fields, "AllowGroups"),
        qos=_listed(fields, "AllowQos"),
    )


def _records(output: str, first: str) -> Iterator[dict[str, str]]:
    """The fields of each line. Administrators' own texts (Reason=, Comment=) come last: a field counts where it is first."""
    for line in output.splitlines():
        if line.startswith(f"{first}="):
            whole = re.match(r"[^=]+=(.*?)(?= +\w+=|$)", line)  # a name with a blank in it, too
            fields = {first: whole[1] if whole else ""}
            for word in line.split():
                name, equals, value = word.partition("=")
                if equals:
                    fields.setdefault(name, value)
            yield fields


def _number(fields: Mapping[str, str], name: str) -> int | None:
    text = fields.get(name, "")
    return int(text) if text.isascii() and text.isdigit() else None


def _listed(fields: Mapping[str, str], name: str) -> tuple[str, ...]:
    text = fields.get(name, "")
    return () if text in (*NOTHING, "ALL") else tuple(text.split(","))
