"""The resources of a job: what it asks of Slurm, checked against product and partition, and its tasks on a node."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ucloud_slurm.bridge.time_limit import MAX_MINUTES, counted, span
from ucloud_slurm.config import LAYOUT, Product
from ucloud_slurm.errors import Refused, one_line
from ucloud_slurm.slurm.records import NodeGroup, Partition

if TYPE_CHECKING:
    from ucloud_slurm.ucloud.applications import Application
    from ucloud_slurm.ucloud.jobs import Job
    from ucloud_slurm.ucloud.products import ComputeProduct

MIB_PER_GIB = 1024
MAX_NODES = 65_533  # slurm.conf(5): MaxNodes
MAX_CPUS = 65_533  # of one task; Slurm counts them in 16 bits
MAX_MEMORY_MIB = 2**40


class Plan(NamedTuple):
    """What to ask of Slurm, each node alike.

    :ivar cpus: per node; None: the partition's default
    :ivar memory: MiB per node; None: the partition's default
    :ivar minutes: time limit; None: the partition's default
    """

    nodes: int
    cpus: int | None
    memory: int | None
    gres: str | None
    minutes: int | None


def plan(
    job: Job, application: Application, product: Product, dimensions: ComputeProduct | None, partition: Partition | None
) -> Plan:
    """Computes what the job asks for.

    :param dimensions: the product as UCloud has it, None if UCloud could not be asked
    :param partition: None if Slurm could not be asked, so that only Slurm itself checks the size
    :raises Refused: with the limit named, in words for the researcher
    """
    nodes = job.replicas
    cpus = product.cpus or (dimensions.cpu if dimensions else None) or None
    memory_gb = product.memory_gb or (dimensions.memory_in_gigs if dimensions else None)
    gpus = product.gpus if product.gpus is not None else (dimensions.gpu if dimensions else None)
    wanted = Plan(
        nodes=nodes,
        cpus=cpus,
        memory=int(memory_gb * MIB_PER_GIB) if memory_gb else None,
        gres=product.gres or (f"gpu:{gpus}" if gpus else None),
        minutes=_minutes(job, application, product),
    )
    if (wanted.cpus or 0) > MAX_CPUS or (wanted.memory or 0) > MAX_MEMORY_MIB:
        raise Refused(f"specification.product: UCloud describes a node of {product.id} as larger than any node can be.")
    if product.nodes_max is not None and nodes > product.nodes_max:
        raise Refused(f"{product.id} allows at most {counted(product.nodes_max, 'node')}; the job asks for {nodes}.")
    if product.time_max is not None and wanted.minutes is not None and wanted.minutes * 60 > product.time_max:
        raise Refused(f"{product.id} allows {span(int(product.time_max // 60))}; the job asks for {span(wanted.minutes)}.")
    if partition is not None:
        _fits(wanted, product, partition)
    if nodes > MAX_NODES:
        raise Refused(f"specification.replicas: a job may have at most {MAX_NODES} nodes.")
    return wanted


def _minutes(job: Job, application: Application, product: Product) -> int | None:
    """The time limit in whole minutes, rounded up: what the user asked for, else the tool's default."""
    asked = job.specification.time_allocation.total
    if asked is not None and asked <= 0:
        raise Refused("specification.timeAllocation: a job needs more than 0 seconds.")
    span = asked or application.description.default_time_allocation.total or None
    if span is None:
        return None if product.time_max is None else max(1, int(product.time_max // 60))
    minutes = -(-span // 60)
    if minutes > MAX_MINUTES:
        raise Refused("specification.timeAllocation: longer than any job may run.")
    return minutes


def _fits(wanted: Plan, product: Product, partition: Partition) -> None:
    if wanted.minutes is not None and partition.minutes is not None and wanted.minutes > partition.minutes:
        raise Refused(f"Jobs on {product.id} run at most {span(partition.minutes)}; it asks for {span(wanted.minutes)}.")
    most = sum(group.count for group in partition.groups)
    if partition.nodes_max is not None:
        most = min(most, partition.nodes_max)
    if wanted.nodes > most:
        raise Refused(f"A job on {product.id} may use at most {counted(most, 'node')}; this one asks for {wanted.nodes}.")
    fitting = sum(group.count for group in partition.groups if _holds(group, wanted))
    if wanted.nodes > fitting:
        raise Refused(_too_large(wanted, product, partition.groups, fitting))


def _holds(group: NodeGroup, wanted: Plan) -> bool:
    return (
        group.cpus >= (wanted.cpus or 1)
        and group.memory >= (wanted.memory or 0)
        and grescounted(group.gres, wanted.gres) >= gres_wanted(wanted.gres)
    )


def _too_large(wanted: Plan, product: Product, groups: Iterable[NodeGroup], fitting: int) -> str:
    if fitting:
        return f"{product.id} has {counted(fitting, 'node')} large enough for this job; it asks for {wanted.nodes}."
    cpus, memory = max(g.cpus for g in groups), max(g.memory for g in groups)
    return (
        f"No machine of {product.id} is large enough for this job: it asks for {counted(wanted.cpus or 1, 'CPU')}, "
        f"{wanted.memory or 0} MiB of memory and {wanted.gres or 'no GPU'} on a node; the largest has "
        f"{counted(cpus, 'CPU')} and {memory} MiB. Please tell the provider's support."
    )


def gres_wanted(gres: str | None) -> int:
    """The number in ``gpu``, ``gpu:2`` or ``gpu:a100:2`` (sbatch(1): --gres)."""
    if gres is None:
        return 0
    last = gres.split(",")[0].split(":")[-1]
    return int(last) if last.isdigit() else 1


def grescounted(available: str, gres: str | None) -> int:
    """How many of what ``gres`` asks for are in sinfo's list of a node, such as ``gpu:a100:4(S:0),craynetwork:4``."""
    if gres is None:
        return 0
    wanted = [part for part in gres.split(",")[0].split(":") if not part.isdigit()]
    total = 0
    for entry in re.sub(r"\([^)]*\)", "", available).split(","):
        name, _, rest = entry.partition(":")
        kind, _, number = rest.rpartition(":")
        if number.isdigit() and name == wanted[0] and (len(wanted) == 1 or kind == wanted[1]):
            total += int(number)
    return total


class Layout(NamedTuple):
    """How the CPUs of a node are shared among tasks.

    :ivar tasks: of each node
    :ivar cpus: of each task, None for the partition's default
    :ivar more: further sbatch options
    """

    tasks: int
    cpus: int | None
    more: tuple[str, ...]


def layout(options: Mapping[str, str], allowed: Sequence[str], plan: Plan) -> Layout:
    """Checks the sbatch options that an application asks for.

    :param options: name -> value, which may be empty
    :param allowed: the options that applications may set (``applications.sbatch_options``)
    :raises Refused: naming the option
    """
    for name, value in options.items():
        if name not in allowed:
            raise Refused(f"the option '{one_line(name, 40)}' of sbatch is not one that an application may set here.")
        if not re.fullmatch(r"[\x21-\x7e]{0,200}", value):
            raise Refused(f"the option '{name}' of sbatch has an invalid value ('{one_line(value, 40)}').")
    more = tuple(f"--{name}={value}" if value else f"--{name}" for name, value in options.items() if name not in LAYOUT)
    numbers = {name: _positive(name, value) for name, value in options.items() if name in LAYOUT}
    if not numbers:
        return Layout(1, plan.cpus, more)
    if plan.cpus is None:
        raise Refused("the tasks of a node cannot be chosen: the number of its CPUs is unknown.")
    tasks = _tasks(numbers, plan)
    cpus = numbers.get("cpus-per-task", max(1, plan.cpus // tasks))
    if tasks * cpus > plan.cpus:
        raise Refused(f"it asks for {tasks} tasks of {cpus} CPUs on a node, which has {plan.cpus}.")
    return Layout(tasks, cpus, more)


def _tasks(numbers: Mapping[str, int], plan: Plan) -> int:
    tasks = numbers.get("ntasks-per-node")
    whole = numbers.get("ntasks")
    if whole is None:
        return tasks or 1
    if whole % plan.nodes or tasks not in (None, whole // plan.nodes):
        raise Refused(f"ntasks is {whole}; it should be the same number of tasks on each of {plan.nodes} nodes.")
    return whole // plan.nodes


def _positive(name: str, value: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,5}", value):
        raise Refused(f"the option '{name}' of sbatch should be a number above 0, not '{one_line(value, 40)}'.")
    return int(value)
