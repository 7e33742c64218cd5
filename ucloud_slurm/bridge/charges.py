"""Charges of periods, in whole units (2021 and 2022). Integers throughout; the rest of a unit is carried.

Use is counted in node-seconds, CPU-seconds, GPU-seconds or billing-seconds, by the product's ``charge_by``: the seconds
of a run, without suspension, times what Slurm allocated to it. A charge covers whole units. While a job runs, the sum
of its charges never exceeds its use, and is less than one interval below it. At its end the rest of a unit goes to the
wallet that pays (:func:`last_units`): the sum of a wallet differs from its use by at most half a unit, however many
jobs there are (``last_unit = "nearest"``).
"""

import math
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from ucloud_slurm.config import PriceUnit, Product
from ucloud_slurm.slurm import parse
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


ChargeBy = Literal["node", "core", "gpu", "allocated", "billing"]
MEASURES = {"node": "node-seconds", "gpu": "GPU-seconds", "billing": "billing-seconds"}


class Use(NamedTuple):
    """What one run of a job held, as Slurm allocated it.

    :ivar seconds: since ``started``, without suspension
    :ivar cpus: of all nodes; 0: Slurm does not say
    :ivar gpus: of all nodes; None: Slurm does not say
    :ivar billing: the TRES of this name (slurm.conf(5), TRESBillingWeights); None: Slurm does not say
    :ivar partition: empty: that is not known
    :ivar started: seconds since the epoch; None: that is not known
    :ivar times: how many times what was bought was requested on each node
    """

    seconds: int
    nodes: int
    cpus: int
    gpus: int | None = None
    billing: int | None = None
    partition: str = ""
    started: int | None = None
    times: int = 1

    @classmethod
    def of(cls, seconds: int, nodes: int, cpus: int, tres: str, partition: str, started: int | None, times: int) -> "Use":
        """What a run held, whichever of Slurm's commands says so.

        :param tres: allocated, as Slurm prints them
        """
        known = parse.tres(tres)
        return cls(seconds, nodes, cpus, known.gpus, known.billing, partition, started, times)


class Tariff(NamedTuple):
    """How a product is charged.

    :ivar unit: seconds of a unit
    :ivar by: what the seconds of a run are multiplied by
    :ivar cpus: CPUs of one node of the product
    :ivar gpus: GPUs of one node of the product
    :ivar node_billing: Slurm's billing of one node of the product
    :ivar whole_nodes_in: partitions in which the product's jobs have their nodes to themselves (``exclusive``)
    """

    unit: int
    by: ChargeBy
    cpus: int
    gpus: int = 0
    node_billing: int = 0
    whole_nodes_in: tuple[str, ...] = ()

    @property
    def measure(self) -> str:
        """What use is counted in."""
        return MEASURES.get(self.by, "CPU-seconds")

    def weight(self, use: Use) -> int:
        """The nodes, CPUs, GPUs or the billing of a run, at least 1.

        What Slurm does not say is taken to be that of the product's nodes; for ``billing`` the CPUs are taken.
        """
        bought = use.nodes * self.cpus
        cpus = use.cpus or bought
        # Slurm allocates all CPUs of a node that is not shared; the product sells so many of them.
        whole = bool(self.whole_nodes_in) and use.partition in ("", *self.whole_nodes_in)
        held = {
            "node": use.nodes if whole else use.nodes * use.times,
            "core": bought if whole else cpus,
            "gpu": use.nodes * self.gpus if use.gpus is None else use.gpus,
            "allocated": cpus,
            "billing": cpus if use.billing is None else use.billing,
        }
        return max(1, held[self.by])

    @classmethod
    def of(cls, product: Product, unit: int, by: ChargeBy, cpus: int | None) -> "Tariff":
        """The tariff of a product.

        :param cpus: CPUs of a node as UCloud has them; the configured number takes precedence
        """
        whole = tuple(product.partition.split(",")) if product.exclusive else ()
        cpus = product.cpus or cpus or 1
        return cls(unit, by, cpus, product.gpus or 0, product.node_billing or cpus, whole)


def tariff(product: Product, unit: str | None, cpus: int | None) -> Tariff | None:
    """The product's tariff, or None for a product that is not charged by time, or whose unit is unknown.

    :param unit: unitOfPrice as UCloud has it; the configured one takes precedence
    :param cpus: CPUs of a node as UCloud has them; the configured number takes precedence
    """
    name = product.unit or PriceUnit.__members__.get(unit or "")
    if name is None or name not in UNIT_SECONDS:
        return None
    by = product.charge_by or ("core" if name.startswith("UNITS") else "node")
    return Tariff.of(product, UNIT_SECONDS[name], by, cpus)


def disjoint(uses: Iterable[Use]) -> list[Use]:
    """The uses of one job, each with only those of its seconds that no earlier use has.

    A job whose size changes has one row in sacct for each size, and all of them count from its first start. Of rows with
    the same start, each therefore has the difference to the longest before it. Where that is not known, nothing is
    subtracted.
    """
    spans: list[tuple[int, int]] = []  # do not overlap
    found = []
    for use in uses:
        if use.started is None:
            found.append(use)
            continue
        begin, end = use.started, use.started + use.seconds
        touched = [span for span in spans if span[0] <= end and begin <= span[1]]
        begin, end = min([begin, *(span[0] for span in touched)]), max([end, *(span[1] for span in touched)])
        found.append(use._replace(seconds=end - begin - sum(span[1] - span[0] for span in touched)))
        spans = [*(span for span in spans if span not in touched), (begin, end)]
    return found


def total(uses: Iterable[Use], tariff: Tariff) -> int:
    """The node-, CPU-, GPU- or billing-seconds of all runs of a job, in their order; no second counts twice."""
    return sum(use.seconds * tariff.weight(use) for use in disjoint(uses))


def rounded_units(amount: int, unit: int, rounding: Rounding) -> int:
    """How many units an amount is. Every unit that UCloud is charged is rounded here.

    :param amount: in the same measure as ``unit``
    :param rounding: what happens to a part of a unit; half a unit is rounded up by "nearest"
    """
    whole, rest = divmod(amount, unit)
    return whole + (rest * 2 >= unit if rounding == "nearest" else rounding == "up" and rest > 0)


def last_units(amount: int, rest: int, reported: int, unit: int, rounding: Rounding) -> tuple[int, int]:
    """How many units a job costs that has ended, and the rest of a unit that its wallet has afterwards.

    The sum of the wallet's use and the sum of its units differ by that rest, whatever the order in which jobs end. By
    "nearest" it is at most half a unit, so that units reported before, which never exceed the amount, are not too many.

    :param amount: of the job, in the same measure as ``unit``
    :param rest: of the wallet, by the jobs that have ended before; below 0 where they were charged more than they used
    :param reported: units reported while the job ran
    """
    units = max(reported, rounded_units(amount + rest, unit, rounding))
    return units, amount + rest - units * unit


def due_charges(
    job_id: str, slurm_id: int, *, uses: Iterable[Use], charged: int, tariff: Tariff, every: float
) -> Iterator[Charge]:
    """The charges that are due of a job, each up to the next boundary.

    Boundaries follow from the runs alone, and not from when a job is looked at: each is so many whole periods of a run
    behind the one before. So a charge that is computed again, after an older database was restored, has the id that it
    was booked under.

    :param uses: of all runs of the job, in their order
    :param charged: node-, CPU-, GPU- or billing-seconds that were charged before
    :param every: seconds of a run from one boundary to the next, at least
    """
    unit, used, last = tariff.unit, 0, 0
    step = max(1, math.ceil(every / unit)) * unit
    for use in disjoint(uses):
        if not use.seconds:
            continue
        weight = tariff.weight(use)
        used += use.seconds * weight
        interval = step * weight
        passed = (used - last) // interval
        for number in range(max(1, (charged - last) // interval + 1), passed + 1):
            end = last + number * interval
            yield _charge(job_id, slurm_id, charged, str(end), (end - charged) // unit, weight, tariff)
            charged = end
        last += passed * interval


def last_charge(job_id: str, slurm_id: int, *, units: int, charged: int, weight: int, tariff: Tariff) -> Charge:
    """The charge of a job that has ended, of what is left behind the last boundary.

    Its id is the same, however its units are rounded: that depends on the other jobs of the wallet.

    :param units: that are due
    :param charged: as for :func:`due_charges`
    :param weight: nodes, CPUs, GPUs or billing of the last run
    """
    return _charge(job_id, slurm_id, charged, "end", units, weight, tariff)


def _charge(job_id: str, slurm_id: int, start: int, end: str, units: int, weight: int, tariff: Tariff) -> Charge:
    multiplier = weight if units % weight == 0 else 1
    periods = units // multiplier
    return Charge(
        charge_id=f"{job_id}-{slurm_id}-{start}-{end}",
        job_id=job_id,
        units=periods,
        multiplier=multiplier,
        description=f"Slurm job {slurm_id}: {periods * tariff.unit // 60} minutes x {multiplier}",
    )


def covered(charge: Charge, tariff: Tariff) -> int:
    """The node-, CPU-, GPU- or billing-seconds that a charge pays for."""
    return charge.units * charge.multiplier * tariff.unit
