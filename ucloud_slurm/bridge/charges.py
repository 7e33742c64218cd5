"""Charges of periods, in whole units (2021 and 2022). Integers throughout; the rest of a unit is carried.

Use is counted in node-seconds, CPU-seconds or GPU-seconds, by the product's ``charge_by``: the seconds of a run,
without suspension, times its nodes, CPUs or GPUs. A charge covers whole units. While a job runs, the sum of its charges
is less than one unit below its use; in the end it differs by at most half a unit (``last_unit = "nearest"``).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ucloud_slurm.config import PriceUnit, Product
from ucloud_slurm.ucloud.reports import Charge

Rounding = Literal["nearest", "up", "down"]
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
    """What one run of a job held: seconds without suspension, nodes, and CPUs of the whole job."""

    seconds: int
    nodes: int
    cpus: int
    gpus: int | None = None
    billing: int | None = None
    partition: str = ""
    started: int | None = None


@dataclass(frozen=True, slots=True)
class Tariff:
    """How a product is charged.

    :ivar unit: seconds of a unit
    :ivar by: what the seconds of a run are multiplied by
    :ivar cpus: CPUs of one node of the product
    :ivar gpus: GPUs of one node of the product
    """

    unit: int
    by: Literal["node", "core", "gpu", "allocated"]
    cpus: int
    gpus: int = 0

    @property
    def measure(self) -> str:
        """What use is counted in."""
        return {"node": "node-seconds", "gpu": "GPU-seconds"}.get(self.by, "CPU-seconds")

    def weight(self, use: Use) -> int:
        """The nodes, CPUs or GPUs of a run, at least 1."""
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
    """The product's tariff, or None for a product that is not charged by time, or whose unit is unknown.

    :param unit: unitOfPrice as UCloud has it; the configured one takes precedence
    :param cpus: CPUs of a node as UCloud has them; the configured number takes precedence
    """
    name = product.unit or PriceUnit.__members__.get(unit or "")
    if name is None or name not in UNIT_SECONDS:
        return None
    by = product.charge_by or ("core" if name.startswith("UNITS") else "node")
    return Tariff(UNIT_SECONDS[name], by, product.cpus or cpus or 1, product.gpus or 0)


def total(uses: Iterable[Use], tariff: Tariff) -> int:
    """The node-, CPU- or GPU-seconds of all runs of a job."""
    return sum(use.seconds * tariff.weight(use) for use in uses)


def rounded_units(amount: int, unit: int, rounding: Rounding) -> int:
    """How many units an amount is. Every unit that UCloud is charged is rounded here.

    :param amount: at least 0, in the same measure as ``unit``
    :param rounding: what happens to a part of a unit; half a unit is rounded up by "nearest"
    """
    whole, rest = divmod(amount, unit)
    return whole + (rest * 2 >= unit if rounding == "nearest" else rounding == "up" and rest > 0)


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
    last_unit: Rounding = "nearest",
) -> Charge | None:
    """The charge that is due, or None.

    :param used: node-, CPU- or GPU-seconds that the job has used
    :param charged: those of them that were charged before
    :param weight: nodes, CPUs or GPUs of the present run
    :param every: seconds of use after which a running job is charged
    :param final: the job has ended; the part of a unit that is left is rounded by ``last_unit``
    """
    unit = tariff.unit * weight
    uncharged = used - charged
    if not final and uncharged < every * weight:
        return None
    units = rounded_units(max(uncharged, 0), unit, last_unit if final else "down")
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
    """The node-, CPU- or GPU-seconds that a charge pays for."""
    return charge.units * charge.multiplier * tariff.unit
