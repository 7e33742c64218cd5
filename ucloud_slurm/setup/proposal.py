"""Products for the machines of a cluster: one for each kind of them in each partition that the provider can use. Pure."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple

from ucloud_slurm.config.types import slurm_word
from ucloud_slurm.slurm.inventory import Machine, PartitionRules

LIKE = 1.05  # nodes whose memory differs by less are of one kind
DEFAULT_QOS = "normal"
GPUS_COUNTED = "gpu"


@dataclass(frozen=True, slots=True)
class Kind:
    """Nodes of a partition that are alike.

    :ivar memory: MiB that jobs can have on each of them; 0 where Slurm does not know it
    :ivar billing: of one node; None where they differ
    """

    partition: PartitionRules
    count: int
    cpus: int
    memory: int
    gpus: tuple[tuple[str, int], ...]
    billing: int | None

    @property
    def number_of_gpus(self) -> int:
        """Of all kinds of GPUs in a node."""
        return sum(number for _, number in self.gpus)


class Counting(NamedTuple):
    """How use is counted.

    :ivar by: node, core, gpu or billing (see products.charge_by); auto: GPUs where a node has some, else cores
    :ivar frequency: minute, hour or day
    """

    by: str
    frequency: str


class Proposal(NamedTuple):
    """Tables of ``products``, and a sentence for each partition that has none."""

    products: tuple[Mapping[str, Any], ...]
    left_out: tuple[str, ...]


def propose(
    provider: str,
    machines: Collection[Machine],
    partitions: Sequence[PartitionRules],
    counting: Counting,
    only: Collection[str] = (),
    taken: Collection[str] = (),
) -> Proposal:
    """Proposes products.

    :param only: names of partitions; without any, all that every user can use
    :param taken: names at UCloud that are those of other products and categories
    """
    products: list[Mapping[str, Any]] = []
    names = _Names(taken)
    left_out = [f"partition {name}: Slurm has none of that name" for name in only if name not in {p.name for p in partitions}]
    for partition in partitions:
        if only and partition.name not in only:
            continue
        found = list(kinds(partition, machines))
        why = _unusable(partition, found) or (None if only else _closed(partition))
        if why is not None:
            left_out.append(f"partition {partition.name}: {why}")
            continue
        products += _products(provider, found, counting, names)
    return Proposal(tuple(products), tuple(left_out))


def kinds(partition: PartitionRules, machines: Collection[Machine]) -> Iterator[Kind]:
    """The kinds of nodes in a partition, the smallest first."""
    groups: dict[tuple[Any, ...], list[Machine]] = {}
    for machine in machines:
        if partition.name in machine.partitions:
            cpus = min(machine.cpus, partition.cpus_max or machine.cpus)
            groups.setdefault((machine.gpus, cpus), []).append(machine)
    for (gpus, cpus), left in sorted(groups.items()):
        while left:
            least = min(machine.memory for machine in left)
            these = [machine for machine in left if machine.memory <= least * LIKE]
            left[:] = [machine for machine in left if machine.memory > least * LIKE]
            billings = {machine.billing for machine in these}
            memory = min(least, partition.memory_max or least, (partition.memory_per_cpu or least) * cpus)
            yield Kind(partition, len(these), cpus, memory, gpus, billings.pop() if len(billings) == 1 else None)


def _unusable(partition: PartitionRules, found: Sequence[Kind]) -> str | None:
    """Why no product can have that partition."""
    try:
        slurm_word(partition.name)
    except ValueError:
        return "its name has characters that products.partition cannot have"
    return None if found else "it has no nodes"


def _closed(partition: PartitionRules) -> str | None:
    """Why jobs of everybody cannot run there; None if they can."""
    if partition.state != "UP":
        return f"its state is {partition.state or 'unknown'}, not UP"
    if partition.root_only:
        return "only root may submit to it (RootOnly)"
    if partition.needs_reservation:
        return "it takes only jobs with a reservation (ReqResv)"
    for what, names in (("accounts", partition.accounts), ("groups", partition.groups)):
        if names:
            return f"only for the {what} {', '.join(names)}"
    if partition.qos and DEFAULT_QOS not in partition.qos:
        return f"only for the QOS {', '.join(partition.qos)}"
    return None


def _products(provider: str, found: Sequence[Kind], counting: Counting, names: "_Names") -> Iterator[Mapping[str, Any]]:
    mixed = len({bool(kind.gpus) for kind in found}) > 1
    for kind in found:
        # All products of a category are counted alike.
        suffix = ("-gpu" if kind.gpus else "-cpu") if mixed else ""
        name = f"{provider}-{kind.partition.name}".removesuffix(suffix) + suffix
        category = names.of((kind.partition.name, suffix), name)
        yield _product(names.of(kind, f"{category}-{_size(kind)}"), category, kind, counting)


class _Names:
    """Names at UCloud, each for one thing."""

    def __init__(self, taken: Collection[str]) -> None:
        self._of: dict[Any, str] = {}
        self._others = {*taken}

    def of(self, thing: Any, wanted: str) -> str:
        """The name of a thing: the wanted one, with a number where that is another thing's."""
        if thing not in self._of:
            tries = (slug(wanted) + (f"-{number}" if number > 1 else "") for number in count(1))
            taken = self._others.union(self._of.values())
            self._of[thing] = next(each for each in tries if each not in taken)
        return self._of[thing]


def _product(name: str, category: str, kind: Kind, counting: Counting) -> Mapping[str, Any]:
    partition = kind.partition
    product: dict[str, Any] = {"id": name, "category": category, "partition": partition.name}
    if kind.gpus and all(is_word(type_) for type_, _ in kind.gpus):
        product["gres"] = ",".join(f"gpu:{type_}:{number}" for type_, number in kind.gpus)
    product["cpus"] = kind.cpus
    if kind.memory:
        whole = kind.memory // 1024
        product["memory_gb"] = whole or kind.memory / 1024
    product["gpus"] = kind.number_of_gpus
    if partition.whole_nodes:
        product["exclusive"] = True
    product["nodes_max"] = min(kind.count, partition.nodes_max or kind.count)
    if partition.minutes is not None:
        product["time_max"] = _span(partition.minutes)
    product["charge_by"] = _counted(kind, counting.by)
    if product["charge_by"] == "billing" and kind.billing:
        product["node_billing"] = kind.billing
    product["frequency"] = counting.frequency
    return product


def _counted(kind: Kind, by: str) -> str:
    if by in ("auto", GPUS_COUNTED):
        return GPUS_COUNTED if kind.gpus else "core"
    return by


def _size(kind: Kind) -> str:
    if kind.gpus:
        return "-".join(f"{number}{type_ or 'gpu'}" for type_, number in kind.gpus)
    return f"{kind.cpus}c" + (f"-{kind.memory // 1024}g" if kind.memory >= 1024 else "")


def slug(text: str) -> str:
    """A name at UCloud: small letters, digits, dots, dashes and underscores."""
    return re.sub(r"[^a-z0-9_.-]+", "-", text.lower()).strip("-.")


def is_word(text: str) -> bool:
    """Whether Slurm takes a text as the name of an account or a partition wherever one is named."""
    return re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", text) is not None


def _span(minutes: int) -> str:
    """A duration as the configuration has it."""
    for letter, length in (("d", 24 * 60), ("h", 60)):
        if minutes % length == 0:
            return f"{minutes // length}{letter}"
    return f"{minutes}m"


def missing(proposed: Sequence[Mapping[str, Any]], configured: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The proposals for partitions that no configured product has."""
    there = {product.get("partition") for product in configured}
    return [product for product in proposed if product["partition"] not in there]


def summary(products: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """A row for each product: name, partition, and what a job can have."""
    return [
        (
            product["id"],
            product["partition"],
            product.get("cpus"),
            product.get("memory_gb"),
            product.get("gres") or product.get("gpus") or None,
            product.get("nodes_max"),
            product.get("time_max"),
            product.get("charge_by"),
            product.get("frequency"),
        )
        for product in products
    ]


HEAD = ("PRODUCT", "PARTITION", "CPUS", "GIB", "GPUS", "NODES", "TIME", "COUNTED", "PER")
