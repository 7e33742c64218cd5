"""The bill is Slurm's own number, in whole units with the rest carried."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucloud_slurm.bridge import charges
from ucloud_slurm.bridge.charges import Rounding, Tariff, Use
from ucloud_slurm.config import Product, parse_table
from ucloud_slurm.ucloud.reports import Charge

MINUTES = Tariff(unit=60, by="node", cpus=4)


@dataclass
class Ledger:
    """Charges one job as the worker does."""

    tariff: Tariff
    every: float = 0.0
    charged: int = 0
    made: list[Charge] = field(default_factory=list)

    def look(self, *uses: Use) -> None:
        for due in charges.due_charges("1", 7, uses=uses, charged=self.charged, tariff=self.tariff, every=self.every):
            self.add(due)

    def end(self, *uses: Use, rest: int = 0, rounding: Rounding = "nearest") -> int:
        """The job ends; returns the rest of its wallet."""
        self.look(*uses)
        before, used = self.charged // self.tariff.unit, charges.total(uses, self.tariff)
        units, left = charges.last_units(used, rest, before, self.tariff.unit, rounding)
        if units > before:
            weight = self.tariff.weight(uses[-1])
            self.add(charges.last_charge("1", 7, units=units - before, charged=self.charged, weight=weight, tariff=self.tariff))
        return left

    def add(self, due: Charge) -> None:
        self.made.append(due)
        self.charged += charges.covered(due, self.tariff)


def of(seconds: int, weight: int = 1) -> Use:
    """A run of so many nodes, or CPUs."""
    return Use(seconds, weight, weight)


def looks(runs: list[tuple[list[int], int]]) -> Iterator[list[Use]]:
    """What is seen of a job's runs, step by step."""
    ended: list[Use] = []
    for steps, weight in runs:
        for seconds in itertools.accumulate(steps, initial=0):
            yield [*ended, of(seconds, weight)]
        ended.append(of(sum(steps), weight))


RUNS = st.lists(st.tuples(st.lists(st.integers(0, 4000), max_size=6), st.integers(1, 64)), min_size=1, max_size=4)


@given(RUNS, st.sampled_from([60, 3600]), st.sampled_from([0.0, 60.0, 900.0]))
def test_the_sum_of_charges_is_the_use_to_half_a_unit(runs: list[tuple[list[int], int]], unit: int, every: float) -> None:
    ledger, uses = Ledger(Tariff(unit, "allocated", 1), every), []
    for uses in looks(runs):
        ledger.look(*uses)
        used = charges.total(uses, ledger.tariff)
        interval = max(unit, math.ceil(every / unit) * unit) * max(use.cpus for use in uses)
        assert used - interval < ledger.charged <= used
    rest = ledger.end(*uses)
    assert charges.total(uses, ledger.tariff) - ledger.charged == rest
    assert abs(rest) * 2 <= unit, "whatever the number of CPUs"


@given(
    st.lists(RUNS, min_size=1, max_size=12),
    st.sampled_from([60, 3600]),
    st.sampled_from([0.0, 900.0]),
    st.sampled_from(["nearest", "up", "down"]),
    st.randoms(use_true_random=False),
)
def test_the_sum_of_a_wallet_is_its_use_to_half_a_unit_in_whatever_order_jobs_end(
    jobs: list[list[tuple[list[int], int]]], unit: int, every: float, rounding: Rounding, random: Random
) -> None:
    running: list[tuple[Ledger, list[Use]]] = []
    rest = 0
    for runs in jobs:
        ledger, uses = Ledger(Tariff(unit, "allocated", 1), every), []
        for uses in looks(runs):
            ledger.look(*uses)
        running.append((ledger, uses))
    random.shuffle(running)
    for ledger, uses in running:
        before = ledger.charged
        rest = ledger.end(*uses, rest=rest, rounding=rounding)
        assert ledger.charged >= before
    assert sum(charges.total(uses, ledger.tariff) - ledger.charged for ledger, uses in running) == rest
    assert {"nearest": -unit <= 2 * rest < unit, "up": -unit < rest <= 0, "down": 0 <= rest < unit}[rounding]


@given(RUNS, RUNS, st.sampled_from([60, 3600]), st.sampled_from([0.0, 100.0, 900.0]), st.randoms(use_true_random=False))
def test_a_charge_that_is_computed_again_has_the_id_and_the_content_that_it_was_booked_with(
    before: list[tuple[list[int], int]], after: list[tuple[list[int], int]], unit: int, every: float, random: Random
) -> None:
    """From any state that a backup can have, seen at other moments, to the same end."""
    tariff = Tariff(unit, "allocated", 1)
    booked, kept = Ledger(tariff, every), [0]
    seen = list(looks([*before, *after]))
    for uses in seen:
        booked.look(*uses)
        kept.append(booked.charged)
    booked.end(*seen[-1], rest=0)
    again = Ledger(tariff, every, charged=random.choice(kept))
    for uses in seen:
        if random.random() < 0.2 and charges.total(uses, tariff) >= again.charged:
            again.look(*uses)
    again.end(*seen[-1], rest=random.randrange(-unit // 2, unit // 2))
    known = {charge.charge_id: charge for charge in booked.made}
    for charge in again.made:
        if charge.charge_id.endswith("-end"):
            # Its units depend on the other jobs of the wallet: UCloud keeps the first.
            assert charge.charge_id in known or not any(each.endswith("-end") for each in known)
        else:
            assert known[charge.charge_id] == charge


def test_a_job_of_an_earlier_release_goes_on_where_it_was_charged_until() -> None:
    ledger = Ledger(MINUTES, every=900, charged=1020)
    ledger.look(of(1799))
    assert ledger.made == []
    ledger.look(of(2000))
    ledger.end(of(2100))
    assert [(each.charge_id, each.units) for each in ledger.made] == [("1-7-1020-1800", 13), ("1-7-1800-end", 5)]


def test_a_thousand_jobs_of_29_seconds_cost_what_they_used() -> None:
    rest = booked = 0
    for _ in range(1000):
        units, rest = charges.last_units(29, rest, 0, 60, "nearest")
        booked += units
    assert booked == round(29 * 1000 / 60)


def test_a_wallet_pays_no_job_twice_after_its_rounding_is_changed() -> None:
    _, rest = charges.last_units(1, 0, 0, 60, "up")
    assert rest == -59
    assert charges.last_units(120, rest, 2, 60, "down") == (2, -59), "two were reported while it ran"
    assert charges.last_units(119, rest, 0, 60, "down") == (1, 0)


@given(RUNS)
def test_no_charge_id_is_used_twice_and_periods_join(runs: list[tuple[list[int], int]]) -> None:
    ledger, uses = Ledger(MINUTES), []
    for uses in looks(runs):
        ledger.look(*uses)
    ledger.end(*uses)
    ids = [charge.charge_id for charge in ledger.made]
    assert len(ids) == len(set(ids))
    periods = [id_.split("-")[2:] for id_ in ids]
    assert all(earlier[1] == later[0] for earlier, later in itertools.pairwise(periods))


def test_a_charge_names_job_slurm_job_and_period() -> None:
    ledger = Ledger(MINUTES, every=120)
    ledger.look(of(125, 3))
    assert ledger.made[0].charge_id == "1-7-0-360"
    assert (ledger.made[0].units, ledger.made[0].multiplier) == (2, 3)


def test_a_running_job_is_charged_at_fixed_boundaries() -> None:
    ledger = Ledger(MINUTES, every=900)
    ledger.look(of(899))
    assert ledger.made == []
    ledger.look(of(2750))
    assert [(charge.charge_id, charge.units) for charge in ledger.made] == [
        ("1-7-0-900", 15),
        ("1-7-900-1800", 15),
        ("1-7-1800-2700", 15),
    ]


@pytest.mark.parametrize(
    ("left", "rounding", "units"), [(29, "nearest", 0), (30, "nearest", 1), (1, "up", 1), (0, "up", 0), (59, "down", 0)]
)
def test_the_last_unit_is_rounded_as_configured(left: int, rounding: Rounding, units: int) -> None:
    assert charges.last_units(120 + left, 0, 2, 60, rounding) == (2 + units, left - 60 * units)


def test_use_that_slurm_corrected_downwards_is_not_charged_back_but_left_to_the_wallet() -> None:
    ledger = Ledger(MINUTES, charged=120)
    ledger.look(of(60))
    assert ledger.made == []
    assert charges.last_units(60, 0, 2, 60, "nearest") == (2, -60)


def test_what_is_left_behind_the_last_boundary_is_one_charge() -> None:
    ledger = Ledger(Tariff(60, "node", 1), charged=240, every=900)
    ledger.end(of(4 * 60 + 170, 4))
    assert [(each.charge_id, each.units, each.multiplier) for each in ledger.made] == [("1-7-240-end", 23, 1)]
    ledger = Ledger(Tariff(60, "node", 1), charged=240, every=900)
    ledger.end(of(4 * 60, 4))
    assert [(each.units, each.multiplier) for each in ledger.made] == [(3, 4)]


@pytest.mark.parametrize(
    ("unit", "charge_by", "weight"),
    [
        ("CREDITS_PER_MINUTE", None, 2),
        ("UNITS_PER_HOUR", None, 5),
        ("UNITS_PER_HOUR", "node", 2),
        ("CREDITS_PER_DAY", "core", 5),
        ("UNITS_PER_MINUTE", "allocated", 5),
        ("UNITS_PER_MINUTE", "gpu", 3),
        ("CREDITS_PER_MINUTE", "billing", 11),
    ],
)
def test_the_multiplier_follows_the_unit_and_the_configuration(unit: str, charge_by: str | None, weight: int) -> None:
    held = Use(seconds=1, nodes=2, cpus=5, gpus=3, billing=11, partition="x")
    assert tariff_of(unit=unit, charge_by=charge_by, gpus=1).weight(held) == weight


def tariff_of(**keys: Any) -> Tariff:
    product = {"id": "p", "category": "c", "partition": "x,y", "cpus": 4, "unit": "UNITS_PER_MINUTE"}
    found = charges.tariff(parse_table(Product, product | keys), None, None)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("keys", "use", "weight"),
    [
        # What Slurm allocated counts, not what was bought.
        ({"charge_by": "core"}, Use(1, nodes=1, cpus=64), 64),
        ({"charge_by": "gpu", "gpus": 1}, Use(1, nodes=1, cpus=4, gpus=4), 4),
        ({"charge_by": "gpu", "gpus": 2}, Use(1, nodes=3, cpus=4, gpus=0), 1),
        ({"charge_by": "billing"}, Use(1, nodes=1, cpus=4, billing=70), 70),
        ({"charge_by": "billing"}, Use(1, nodes=1, cpus=4, billing=0), 1),
        ({"charge_by": "node"}, Use(1, nodes=0, cpus=4), 1),
        # Whole nodes are sold by their number, wherever the product has them.
        ({"charge_by": "core", "exclusive": True}, Use(1, nodes=2, cpus=128, partition="x"), 8),
        ({"charge_by": "core", "exclusive": True}, Use(1, nodes=2, cpus=128, partition="y"), 8),
        ({"charge_by": "core", "exclusive": True}, Use(1, nodes=2, cpus=128, partition=""), 8),
        ({"charge_by": "core", "exclusive": True}, Use(1, nodes=2, cpus=128, partition="gpu"), 128),
        ({"charge_by": "allocated", "exclusive": True}, Use(1, nodes=2, cpus=128, partition="x"), 128),
        # Slurm does not say.
        ({"charge_by": "core"}, Use(1, nodes=3, cpus=0), 12),
        ({"charge_by": "allocated"}, Use(1, nodes=3, cpus=0), 12),
        ({"charge_by": "gpu", "gpus": 2}, Use(1, nodes=3, cpus=4, gpus=None), 6),
        ({"charge_by": "billing"}, Use(1, nodes=3, cpus=7), 7),
        ({"charge_by": "billing"}, Use(1, nodes=3, cpus=0), 12),
    ],
)
def test_the_multiplier_is_what_slurm_allocated(keys: dict[str, Any], use: Use, weight: int) -> None:
    assert tariff_of(**keys).weight(use) == weight


def run(started: int | None, seconds: int, nodes: int = 1) -> Use:
    return Use(seconds, nodes, 0, started=started)


@pytest.mark.parametrize(
    ("uses", "seconds"),
    [
        # A job that shrank from 3 nodes to 1: Slurm counts both of its rows from its only start.
        ([run(100, 23, 3), run(100, 28, 1)], [23, 5]),
        ([run(100, 23), run(100, 28), run(100, 90)], [23, 5, 62]),
        ([run(100, 28), run(100, 23)], [28, 0]),
        ([run(100, 0), run(100, 23)], [0, 23]),
        # A requeued job has other starts.
        ([run(100, 50), run(150, 10), run(300, 7)], [50, 10, 7]),
        ([run(100, 23), run(100, 28), run(500, 7), run(500, 9)], [23, 5, 7, 2]),
        # A row within, behind, before and around others.
        ([run(100, 50), run(110, 10)], [50, 0]),
        ([run(100, 50), run(140, 50)], [50, 40]),
        ([run(140, 50), run(100, 50)], [50, 40]),
        ([run(100, 10), run(130, 10), run(90, 100)], [10, 10, 80]),
        # It is not known when they began.
        ([run(None, 50), run(None, 50), run(100, 5)], [50, 50, 5]),
    ],
)
def test_no_second_of_a_job_counts_twice(uses: list[Use], seconds: list[int]) -> None:
    assert [use.seconds for use in charges.disjoint(uses)] == seconds


def test_a_job_that_shrank_costs_each_size_while_it_had_it() -> None:
    assert charges.total([run(100, 23, 3), run(100, 28, 1)], Tariff(60, "node", 1)) == 23 * 3 + 5


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 40)), max_size=8))
def test_overlapping_rows_count_the_seconds_that_any_of_them_has(rows: list[tuple[int, int]]) -> None:
    held = {second for started, seconds in rows for second in range(started, started + seconds)}
    assert charges.total([run(started, seconds) for started, seconds in rows], Tariff(60, "node", 1)) == len(held)


def test_a_product_that_is_not_sold_by_time_is_not_charged() -> None:
    product = Product(id="p", category="c", partition="x")
    assert charges.tariff(product, "PER_UNIT", 1) is None
