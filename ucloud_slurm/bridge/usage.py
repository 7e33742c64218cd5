"""Reports of the total use (today's UCloud, products v2), in units per period.

UCloud's balances, quotas and usage are whole numbers of units times periods: a category with the unit Core and the
frequency "minute" counts core-minutes. What a job holds are nodes, cores, GPUs or the CPUs that Slurm allocated, and
each of them costs ``price`` units in a period. The units of a job follow from its node-, CPU- or GPU-seconds
(:mod:`ucloud_slurm.bridge.charges`) by one division over all of its use, so that no rest is carried.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from ucloud_slurm.bridge.charges import Rounding, Tariff, rounded_units
from ucloud_slurm.config import Product

PERIOD_SECONDS: Mapping[str, int] = {"minute": 60, "hour": 3600, "day": 86400}


class Unit(StrEnum):
    """What of a job is counted."""

    NODE = "node"
    CORE = "core"
    GPU = "gpu"
    ALLOCATED = "allocated"


UNIT_NAMES: Mapping[Unit, str] = {Unit.NODE: "Node", Unit.CORE: "Core", Unit.GPU: "GPU", Unit.ALLOCATED: "Core"}
CREDIT = "Credit"


@dataclass(frozen=True, slots=True)
class Accounting:
    """How a product is counted.

    :ivar tariff: gives the node-, CPU- or GPU-seconds of a job
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

    def units(self, used: int, last_unit: Rounding = "down") -> int:
        """The units that are reported for an amount of use.

        :param used: node-, CPU- or GPU-seconds of all that counts together, such as all runs of a job
        :param last_unit: how a part of a unit is rounded; down while a job runs, so that no later report is smaller
        """
        return rounded_units(used * self.price, self.frequency_seconds, last_unit)


@dataclass(frozen=True, slots=True)
class UsageReport:
    """What is to be reported of a job's use.

    :ivar units: all units of the job so far
    :ivar new_units: those of them that were not reported before
    :ivar covered: node-, CPU- or GPU-seconds that the new units pay for
    """

    units: int
    new_units: int
    covered: int


def usage_report(
    accounting: Accounting, *, used: int, charged: int, threshold: float, final: bool, last_unit: Rounding
) -> UsageReport | None:
    """The report that is due for a job, or None.

    :param used: node-, CPU- or GPU-seconds that the job has used
    :param charged: those of them that were reported before
    :param threshold: those that a running job must have used since then
    :param final: the job has ended; the part of a unit that is left is rounded by ``last_unit``
    """
    if not final and used - charged < threshold:
        return None
    units, before = accounting.units(used, last_unit if final else "down"), accounting.units(charged)
    if units <= before:
        return None
    covered = -(-units * accounting.frequency_seconds // accounting.price)
    return UsageReport(units, units - before, covered - charged)


def product_accounting(product: Product, cpus: int | None) -> Accounting | None:
    """How the product is counted; None for one that is not counted by time.

    :param cpus: CPUs of a node as UCloud has them; the configured number takes precedence
    """
    if product.period is None:
        return None
    by = product.charge_by or ("node" if product.unit and product.unit.startswith("CREDITS") else "core")
    tariff = Tariff(PERIOD_SECONDS[product.period], by, product.cpus or cpus or 1, product.gpus or 0)
    return Accounting(tariff, 1 if product.price is None else product.price)


def is_money(product: Product) -> bool:
    """Whether the units are millionths of a credit."""
    return product.price is not None and product.unit is not None and product.unit.startswith("CREDITS")


def unit_name(product: Product, unit: Unit) -> tuple[str, str]:
    """The name of one unit of the product's category, and the plural."""
    name = product.unit_name or (CREDIT if is_money(product) else UNIT_NAMES[unit])
    return name, product.unit_name_plural or f"{name}s"
