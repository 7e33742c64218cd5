"""How the use of a product is counted in products v2: units, so many for what a job holds in one period.

UCloud's balances, quotas and use are whole numbers of units times periods: a category with the unit Core and the
frequency "minute" counts core-minutes. What a job holds are nodes, cores, GPUs or the CPUs that Slurm allocated, and
each of them is ``price`` units in a period. In weighted seconds, in which the use of a job is kept
(:mod:`ucloud_slurm.bridge.charges`), that is one division, done once for all that a job has used: nothing is carried.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from ucloud_slurm.bridge.charges import Tariff
from ucloud_slurm.config import Product

SECONDS: Mapping[str, int] = {"minute": 60, "hour": 3600, "day": 86400}


class Unit(StrEnum):
    """What of a job is counted."""

    NODE = "node"
    CORE = "core"
    GPU = "gpu"
    ALLOCATED = "allocated"


NAMES: Mapping[Unit, str] = {Unit.NODE: "Node", Unit.CORE: "Core", Unit.GPU: "GPU", Unit.ALLOCATED: "Core"}
CREDIT = "Credit"


@dataclass(frozen=True, slots=True)
class Accounting:
    """How a product is counted.

    :ivar tariff: what turns the runs of a job into weighted seconds
    :ivar price: units of one node, core or GPU in one period
    """

    tariff: Tariff
    price: int

    @property
    def unit(self) -> Unit:
        """What is counted."""
        return Unit(self.tariff.by)

    @property
    def frequency_seconds(self) -> int:
        """The length of a period."""
        return self.tariff.unit

    @property
    def node_price(self) -> int:
        """Units of one whole node in one period: the price of the product at UCloud."""
        match self.unit:
            case Unit.NODE:
                return self.price
            case Unit.GPU:
                return self.price * self.tariff.gpus
            case Unit.CORE | Unit.ALLOCATED:
                return self.price * self.tariff.cpus

    def units(self, used: int, last_unit: Literal["nearest", "up", "down"] = "down") -> int:
        """What UCloud is told that was used.

        :param used: weighted seconds of everything that counts together, such as all runs of a job
        :param last_unit: how the part of a unit that is left is rounded; down while a job runs, so that what is told
            never falls
        """
        whole, rest = divmod(used * self.price, self.frequency_seconds)
        up = rest * 2 >= self.frequency_seconds if last_unit == "nearest" else last_unit == "up" and rest > 0
        return whole + up


@dataclass(frozen=True, slots=True)
class Told:
    """What a job has used, as UCloud is told it.

    :ivar units: in all
    :ivar more: of them, how many are new
    :ivar covered: weighted seconds that the new ones stand for
    """

    units: int
    more: int
    covered: int


def told(
    accounting: Accounting,
    *,
    used: int,
    charged: int,
    gather: float,
    final: bool,
    last_unit: Literal["nearest", "up", "down"],
) -> Told | None:
    """What UCloud should be told of a job's use, or None when it knows it, or it is not time yet.

    :param used: weighted seconds that the job has used
    :param charged: weighted seconds of what UCloud has been told
    :param gather: weighted seconds that are gathered before something is told of a running job
    :param final: the job has ended; the rest of a unit is rounded
    """
    if not final and used - charged < gather:
        return None
    units, before = accounting.units(used, last_unit if final else "down"), accounting.units(charged)
    if units <= before:
        return None
    covered = -(-units * accounting.frequency_seconds // accounting.price)
    return Told(units, units - before, covered - charged)


def accounting(product: Product, cpus: int | None) -> Accounting | None:
    """How the product is counted; None for one that is not counted by time.

    :param cpus: CPUs of a node as UCloud has them; the configured ones stand before them
    """
    if product.period is None:
        return None
    by = product.charge_by or ("node" if product.unit and product.unit.startswith("CREDITS") else "core")
    tariff = Tariff(SECONDS[product.period], by, product.cpus or cpus or 1, product.gpus or 0)
    return Accounting(tariff, 1 if product.price is None else product.price)


def is_money(product: Product) -> bool:
    """Whether the units are millionths of a credit."""
    return product.price is not None and product.unit is not None and product.unit.startswith("CREDITS")


def unit_name(product: Product, unit: Unit) -> tuple[str, str]:
    """What one unit of the product's category is called, and several."""
    name = product.unit_name or (CREDIT if is_money(product) else NAMES[unit])
    return name, product.unit_name_plural or f"{name}s"
