"""Reports of the total use (today's UCloud, products v2), in units per period.

UCloud's balances, quotas and usage are whole numbers of units times periods: a category with the unit Core and the
frequency "minute" counts core-minutes. What a job holds are nodes, cores, GPUs, CPUs or Slurm's billing, and each of
them costs ``price`` units in a period. The units of a job that runs follow from its node-, CPU-, GPU- or
billing-seconds (:mod:`ucloud_slurm.bridge.charges`) by one division over all of its use. Those of a job that has ended
take in the rest of a unit of its wallet, which all products of a category share.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from ucloud_slurm.bridge.charges import Rounding, Tariff, last_units, rounded_units
from ucloud_slurm.config import Product

PERIOD_SECONDS: Mapping[str, int] = {"minute": 60, "hour": 3600, "day": 86400}


class Unit(StrEnum):
    """What of a job is counted."""

    NODE = "node"
    CORE = "core"
    GPU = "gpu"
    ALLOCATED = "allocated"
    BILLING = "billing"


UNIT_NAMES: Mapping[Unit, str] = {
    Unit.NODE: "Node",
    Unit.CORE: "Core",
    Unit.GPU: "GPU",
    Unit.ALLOCATED: "Core",
    Unit.BILLING: "Billing unit",
}
CREDIT = "Credit"


class Accounting(NamedTuple):
    """How a product is counted.

    :ivar tariff: gives the node-, CPU-, GPU- or billing-seconds of a job
    :ivar price: units of one node, core, GPU or billing unit in one period
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
            case Unit.BILLING:
                return self.price * self.tariff.node_billing

    def units(self, used: int) -> int:
        """The whole units of the use of a job. While it runs they are what is reported: no later report is smaller.

        :param used: node-, CPU-, GPU- or billing-seconds of all of its runs
        """
        return rounded_units(used * self.price, self.frequency_seconds, "down")

    def covered(self, units: int) -> int:
        """The node-, CPU-, GPU- or billing-seconds that so many units of a job pay for."""
        return -(-units * self.frequency_seconds // self.price)

    def last_units(self, used: int, charged: int, rest: int, last_unit: Rounding) -> tuple[int, int]:
        """The units of a job that has ended, and the rest that its wallet has afterwards, in parts of a unit.

        A part is one of :attr:`frequency_seconds`. See :func:`ucloud_slurm.bridge.charges.last_units`.

        :param used: node-, CPU-, GPU- or billing-seconds that the job has used
        :param charged: those of them that were reported before
        :param rest: of the wallet, before
        """
        amount, reported = used * self.price, self.units(charged)
        if not amount and not reported:
            return 0, rest  # what costs nothing pays for no other job
        return last_units(amount, rest, reported, self.frequency_seconds, last_unit)


def product_accounting(product: Product, cpus: int | None) -> Accounting | None:
    """How the product is counted; None for one that is not counted by time.

    :param cpus: CPUs of a node as UCloud has them; the configured number takes precedence
    """
    if product.period is None:
        return None
    by = product.charge_by or ("node" if product.unit and product.unit.startswith("CREDITS") else "core")
    tariff = Tariff.of(product, PERIOD_SECONDS[product.period], by, cpus)
    return Accounting(tariff, 1 if product.price is None else product.price)


def is_money(product: Product) -> bool:
    """Whether the units are millionths of a credit."""
    return product.price is not None and product.unit is not None and product.unit.startswith("CREDITS")


def unit_name(product: Product, unit: Unit) -> tuple[str, str]:
    """The name of one unit of the product's category, and the plural."""
    name = product.unit_name or (CREDIT if is_money(product) else UNIT_NAMES[unit])
    return name, product.unit_name_plural or f"{name}s"
