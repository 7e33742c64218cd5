"""Options of sbatch that an application asks for, and how its tasks share the CPUs of a node."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ucloud_slurm.bridge.plan import Plan
from ucloud_slurm.config import LAYOUT
from ucloud_slurm.errors import Refused, one_line


@dataclass(frozen=True, slots=True)
class Layout:
    """What is asked of Slurm.

    :ivar tasks: of each node
    :ivar cpus: of each task, None for the partition's default
    :ivar more: further options
    """

    tasks: int
    cpus: int | None
    more: tuple[str, ...]


def layout(options: Mapping[str, str], allowed: Sequence[str], plan: Plan) -> Layout:
    """Decides what becomes of the options that an application asks for.

    :param options: name -> value, which may be empty
    :param allowed: those that an application may set (``applications.sbatch_options``)
    :raises Refused: naming the option
    """
    for name, value in options.items():
        if name not in allowed:
            raise Refused(f"the option '{one_line(name, 40)}' of sbatch is not one that an application may set here.")
        if not re.fullmatch(r"[\x21-\x7e]{0,200}", value):
            raise Refused(f"the option '{name}' of sbatch has an impossible value ('{one_line(value, 40)}').")
    more = tuple(f"--{name}={value}" if value else f"--{name}" for name, value in options.items() if name not in LAYOUT)
    numbers = {name: _count(name, value) for name, value in options.items() if name in LAYOUT}
    if not numbers:
        return Layout(1, plan.cpus, more)
    if plan.cpus is None:
        raise Refused("the tasks of a node cannot be chosen: the machine does not say how many CPUs it has.")
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


def _count(name: str, value: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,5}", value):
        raise Refused(f"the option '{name}' of sbatch should be a number above 0, not '{one_line(value, 40)}'.")
    return int(value)
