"""The bill is Slurm's own number, in whole units with the rest carried."""

import itertools
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucloud_slurm.bridge import charges
from ucloud_slurm.bridge.charges import Tariff, Use
from ucloud_slurm.config import Product
from ucloud_slurm.ucloud.reports import Charge

MINUTES = Tariff(unit=60, by="node", cpus=4)


@dataclass
class Ledger:
    """Charges one job as the worker does."""

    tariff: Tariff
    every: float = 0.0
    charged: int = 0
    made: list[Charge] = field(default_factory=list)

    def look(self, used: int, weight: int, *, final: bool = False) -> None:
        due = charges.charge(
            "1", 7, used=used, charged=self.charged, weight=weight, tariff=self.tariff, every=self.every, final=final
        )
        if due is not None:
            self.made.append(due)
            self.charged += charges.covered(due, self.tariff)


RUNS = st.lists(st.tuples(st.lists(st.integers(0, 4000), max_size=6), st.integers(1, 64)), min_size=1, max_size=4)


@given(RUNS, st.sampled_from([60, 3600]), st.sampled_from([0.0, 60.0, 900.0]))
def test_the_sum_of_charges_is_the_use_to_half_a_unit(runs: list[tuple[list[int], int]], unit: int, every: float) -> None:
    ledger = Ledger(Tariff(unit, "allocated", 1), every)
    before = 0
    for steps, weight in runs:
        seconds = 0
        for step in steps:
            seconds += step
            ledger.look(before + seconds * weight, weight)
            assert ledger.charged <= before + seconds * weight
        before += seconds * weight
    weight = runs[-1][1]
    ledger.look(before, weight, final=True)
    assert abs(before - ledger.charged) * 2 <= unit * weight


@given(RUNS)
def test_no_charge_id_is_used_twice_and_periods_join(runs: list[tuple[list[int], int]]) -> None:
    ledger = Ledger(MINUTES)
    used = 0
    for steps, weight in runs:
        for step in steps:
            used += step * weight
            ledger.look(used, weight)
    ids = [charge.charge_id for charge in ledger.made]
    assert len(ids) == len(set(ids))
    periods = [tuple(int(part) for part in id_.split("-")[2:]) for id_ in ids]
    assert all(earlier[1] == later[0] for earlier, later in itertools.pairwise(periods))


def test_a_charge_names_job_slurm_job_and_period() -> None:
    ledger = Ledger(MINUTES)
    ledger.look(3 * 125, 3)
    assert ledger.made[0].charge_id == "1-7-0-360"
    assert (ledger.made[0].units, ledger.made[0].multiplier) == (2, 3)


def test_a_running_job_is_charged_when_enough_has_gathered() -> None:
    ledger = Ledger(MINUTES, every=900)
    ledger.look(899, 1)
    assert ledger.made == []
    ledger.look(950, 1)
    assert [charge.units for charge in ledger.made] == [15]


@pytest.mark.parametrize(
    ("left", "rounding", "units"), [(29, "nearest", 0), (30, "nearest", 1), (1, "up", 1), (0, "up", 0), (59, "down", 0)]
)
def test_the_last_unit_is_rounded_as_configured(left: int, rounding: str, units: int) -> None:
    due = charges.charge(
        "1",
        7,
        used=120 + left,
        charged=120,
        weight=1,
        tariff=MINUTES,
        every=0,
        final=True,
        last_unit=rounding,  # type: ignore[arg-type]
    )
    assert (due.units if due else 0) == units


def test_use_that_slurm_corrected_downwards_is_never_charged_back() -> None:
    assert charges.charge("1", 7, used=60, charged=120, weight=1, tariff=MINUTES, every=0, final=True) is None


@pytest.mark.parametrize(
    ("unit", "charge_by", "weight"),
    [
        ("CREDITS_PER_MINUTE", None, 2),
        ("UNITS_PER_HOUR", None, 8),
        ("UNITS_PER_HOUR", "node", 2),
        ("CREDITS_PER_DAY", "core", 8),
        ("UNITS_PER_MINUTE", "allocated", 5),
    ],
)
def test_the_multiplier_follows_the_unit_and_the_configuration(unit: str, charge_by: str | None, weight: int) -> None:
    product = Product.model_validate(
        {"id": "p", "category": "c", "partition": "x", "cpus": 4, "charge_by": charge_by} | {"unit": unit}
    )
    tariff = charges.tariff(product, None, None)
    assert tariff is not None
    assert tariff.weight(Use(seconds=1, nodes=2, cpus=5)) == weight


def test_a_product_that_is_not_sold_by_time_is_not_charged() -> None:
    product = Product(id="p", category="c", partition="x")
    assert charges.tariff(product, "PER_UNIT", 1) is None
