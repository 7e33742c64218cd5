"""From Slurm's use to UCloud's units. Integers throughout: nothing is lost, what is left is carried.

Use is counted in weighted seconds: the seconds that a run held its nodes times its weight (nodes or CPUs).
A charge covers whole units; the sum of all charges of a job differs from its use by less than one unit while it
runs, and by at most half a unit in the end (``last_unit = "nearest"``).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ucloud_slurm.config import PriceUnit, Product
from ucloud_slurm.ucloud.reports import Charge

UNIT_SECONDS = {
    PriceUnit.CREDITS_PER_MINUTE: 60,
    PriceUnit.UNITS_PER_MINUTE: 60,
    PriceUnit.CREDITS_PER_HOUR: 3600,
    PriceUnit.UNITS_PER_HOUR: 3600,
    PriceUnit.CREDITS_PER_DAY: 86400,
    PriceUnit.UNITS_PER_DAY: 86400,
}


@dataclass(frozen=True, slots=True)
class Use:
    """One run's hold on the cluster: seconds without suspension, nodes, and CPUs of the whole job."""

    seconds: int
    nodes: int
    cpus: int


@dataclass(frozen=True, slots=True)
class Tariff:
    """How a product is charged.

    :ivar unit: seconds of a unit
    :ivar by: what a second is multiplied with
    :ivar cpus: CPUs of one node of the product
    :ivar gpus: GPUs of one node of the product
    """

    unit: int
    by: Literal["node", "core", "gpu", "allocated"]
    cpus: int
    gpus: int = 0

    def weight(self, use: Use) -> int:
        """The multiplier of one run, at least 1."""
        match self.by:
            case "node":
                return max(1, use.nodes)
            case "core":
                return max(1, use.nodes * self.cpus)
            case "gpu":
                return max(1, use.nodes * self.gpus)
            case "allocated":
                return max(1, use.cpus)


def tariff(product: Product, unit: str | None, cpus: int | None) -> Tariff | None:
    """The product's tariff, or None for a product that is not charged by time, or whose unit nobody knows.

    :param unit: unitOfPrice as UCloud has it; the configured one stands before it
    :param cpus: CPUs of a node as UCloud has them; the configured ones stand before them
    """
    name = product.unit or PriceUnit.__members__.get(unit or "")
    if name is None or name not in UNIT_SECONDS:
        return None
    by = product.charge_by or ("core" if name.startswith("UNITS") else "node")
    return Tariff(UNIT_SECONDS[name], by, product.cpus or cpus or 1, product.gpus or 0)


def total(uses: Iterable[Use], tariff: Tariff) -> int:
    """Weighted seconds of all runs of a job."""
    return sum(use.seconds * tariff.weight(use) for use in uses)


def charge(
    job_id: str,
    slurm_id: int,
    *,
    used: int,
    charged: int,
    weight: int,
    tariff: Tariff,
    every: float,
    final: bool,
    last_unit: Literal["nearest", "up", "down"] = "nearest",
) -> Charge | None:
    """The charge that is due, or None.

    :param used: weighted seconds that the job has used
    :param charged: weighted seconds that were charged before
    :param weight: multiplier of the present run
    :param every: seconds of use that are gathered before a running job is charged
    :param final: the job has ended; the rest of a unit is rounded
    """
    unit = tariff.unit * weight
    owed = used - charged
    if not final and owed < every * weight:
        return None
    units, rest = divmod(max(owed, 0), unit)
    if final and (rest * 2 >= unit if last_unit == "nearest" else last_unit == "up" and rest > 0):
        units += 1
    if units == 0:
        return None
    end = charged + units * unit
    seconds = units * tariff.unit
    return Charge(
        charge_id=f"{job_id}-{slurm_id}-{charged}-{end}",
        job_id=job_id,
        units=units,
        multiplier=weight,
        description=f"Slurm job {slurm_id}: {seconds // 60} minutes x {weight}",
    )


def covered(charge: Charge, tariff: Tariff) -> int:
    """The weighted seconds that a charge pays for."""
    return charge.units * charge.multiplier * tariff.unit
