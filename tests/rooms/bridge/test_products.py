"""What a product costs, and what a category is: by the configuration, old keys and new."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rooms.config.test_config import GOOD
from ucloud_slurm import config
from ucloud_slurm.bridge import charges
from ucloud_slurm.bridge.charges import Tariff, Use
from ucloud_slurm.bridge.products import compare
from ucloud_slurm.bridge.usage import Accounting, Unit, product_accounting
from ucloud_slurm.config import Product, parse_table
from ucloud_slurm.errors import Misconfigured
from ucloud_slurm.ucloud.products import ProductV2


def product(**more: Any) -> Product:
    return parse_table(Product, {"id": "p", "category": "c", "partition": "cpu", "cpus": 4} | more)


def counted(**more: Any) -> Accounting:
    found = product_accounting(product(**more), None)
    assert found is not None
    return found


def made(*products: Product) -> ProductV2:
    return compare(products, "example", []).products[0].product


@pytest.mark.parametrize(
    ("keys", "unit", "seconds", "price"),
    [
        ({}, Unit.CORE, 60, 4),
        ({"charge_by": "node"}, Unit.NODE, 60, 1),
        ({"charge_by": "node", "price": 3, "frequency": "day"}, Unit.NODE, 86400, 3),
        ({"charge_by": "gpu", "gpus": 2, "price": 5}, Unit.GPU, 60, 10),
        ({"charge_by": "allocated", "frequency": "hour"}, Unit.ALLOCATED, 3600, 4),
        ({"charge_by": "billing", "price": 5}, Unit.BILLING, 60, 20),
        ({"charge_by": "billing", "price": 5, "node_billing": 70}, Unit.BILLING, 60, 350),
        ({"unit": "CREDITS_PER_HOUR", "price": 1000}, Unit.NODE, 3600, 1000),
        ({"unit": "UNITS_PER_DAY"}, Unit.CORE, 86400, 4),
        ({"unit": "UNITS_PER_DAY", "frequency": "hour"}, Unit.CORE, 3600, 4),
        ({"unit": "PER_UNIT", "frequency": "hour"}, Unit.CORE, 3600, 4),
        ({"price": 0}, Unit.CORE, 60, 0),
    ],
)
def test_unit_period_and_price_follow_from_the_keys(keys: Any, unit: Unit, seconds: int, price: int) -> None:
    found = counted(**keys)
    assert (found.unit, found.frequency_seconds, found.node_price) == (unit, seconds, price)


@pytest.mark.parametrize(
    ("keys", "name", "plural", "money"),
    [
        ({}, "Core", "Cores", False),
        ({"charge_by": "node"}, "Node", "Nodes", False),
        ({"charge_by": "gpu", "gpus": 1}, "GPU", "GPUs", False),
        ({"charge_by": "allocated"}, "Core", "Cores", False),
        ({"charge_by": "billing"}, "Billing unit", "Billing units", False),
        ({"unit": "CREDITS_PER_HOUR"}, "Node", "Nodes", False),
        ({"unit": "CREDITS_PER_HOUR", "price": 1000}, "Credit", "Credits", True),
        ({"unit": "CREDITS_PER_HOUR", "price": 9, "unit_name": "DKK", "unit_name_plural": "DKK"}, "DKK", "DKK", True),
    ],
)
def test_the_unit_has_a_name(keys: Any, name: str, plural: str, money: bool) -> None:
    unit = made(product(**keys)).category.accounting_unit
    assert (unit.name, unit.name_plural, unit.floating_point) == (name, plural, money)
    assert unit.display_frequency_suffix is not money


def test_ucloud_knows_the_cores_that_are_not_configured() -> None:
    bare = parse_table(Product, {"id": "p", "category": "c", "partition": "cpu"})
    found = product_accounting(bare, 12)
    assert found is not None
    assert found.node_price == 12
    assert found.tariff.weight(Use(seconds=1, nodes=2, cpus=0)) == 24


def test_the_billing_of_a_node_must_be_known_or_its_cpus() -> None:
    bare = {"id": "p", "category": "c", "partition": "cpu", "charge_by": "billing"}
    with pytest.raises(Misconfigured, match=r"products\[1\]\.cpus is missing"):
        made(parse_table(Product, bare))
    made(parse_table(Product, bare | {"node_billing": 70}))


def test_gpus_are_counted_by_node_where_slurm_does_not_say_how_many() -> None:
    assert counted(charge_by="gpu", gpus=4).tariff.weight(Use(seconds=1, nodes=3, cpus=99)) == 12
    tariff = charges.tariff(product(charge_by="gpu", gpus=4, unit="UNITS_PER_HOUR"), None, None)
    assert tariff == Tariff(3600, "gpu", 4, 4, 4)


@pytest.mark.parametrize(
    ("used", "last_unit", "units"),
    [
        (119, "down", 1),
        (119, "nearest", 2),
        (119, "up", 2),
        (120, "up", 2),
        (89, "nearest", 1),
        (90, "nearest", 2),
        (61, "up", 2),
        (0, "up", 0),
    ],
)
def test_the_part_of_a_unit_is_rounded_as_asked(used: int, last_unit: Any, units: int) -> None:
    assert counted(charge_by="node").last_units(used, 0, 0, last_unit) == (units, used - 60 * units)


@given(
    st.lists(st.tuples(st.integers(0, 10**5), st.integers(0, 10**5), st.integers(0, 7)), max_size=20),
    st.sampled_from(["minute", "hour"]),
)
def test_products_of_one_wallet_that_differ_in_price_add_up_to_half_a_unit(
    jobs: list[tuple[int, int, int]], frequency: str
) -> None:
    exact = told = rest = 0
    for seconds, looked, price in jobs:
        found = counted(price=price, frequency=frequency)
        unit = found.frequency_seconds
        running = found.units(min(looked, seconds))
        charged = found.covered(running) if running else 0
        units, rest = found.last_units(seconds, charged, rest, "nearest")
        assert units >= running
        exact, told = exact + seconds * price, told + units
        assert abs(exact - told * unit) * 2 <= unit
        assert exact - told * unit == rest


def test_what_costs_nothing_pays_for_no_other_job() -> None:
    assert counted(price=0).last_units(600, 0, 59, "nearest") == (0, 59)
    assert counted().last_units(0, 0, 59, "nearest") == (0, 59)


def test_a_price_is_for_what_was_used_and_not_for_whole_periods() -> None:
    assert counted(charge_by="node", price=1000).units(90) == 1500


@given(st.lists(st.integers(0, 10**6), min_size=1), st.integers(0, 1000))
def test_the_reported_use_of_a_running_job_never_falls(steps: list[int], price: int) -> None:
    found, used, before = counted(price=price, frequency="hour"), 0, 0
    for step in steps:
        used += step
        told = found.units(used)
        assert told >= before
        before = told
    assert 0 <= used * price - before * 3600 < 3600


def test_what_is_not_counted_by_time_cannot_be_registered() -> None:
    assert product_accounting(product(unit="PER_UNIT"), None) is None
    with pytest.raises(Misconfigured, match=r"PER_UNIT.*set frequency"):
        made(product(unit="PER_UNIT"))


def test_products_of_a_category_that_count_differently_are_both_named() -> None:
    with pytest.raises(Misconfigured, match=r"p and q are both in category c.*Cores.*Nodes"):
        made(product(), product(id="q", charge_by="node"))
    made(product(unit_name="Point"), product(id="q", unit_name="Point", charge_by="node"))
    made(product(), product(id="q", category="d", charge_by="node"))


@pytest.mark.parametrize(
    "keys",
    [{"free": True}, {"unit_name": "DKK"}, {"unit_name_plural": "DKK"}, {"frequency": "hour"}, {"unit": "UNITS_PER_DAY"}],
)
def test_a_configuration_with_two_accounts_of_one_category_is_an_error_that_names_both(keys: dict[str, Any]) -> None:
    one = {"id": "one", "category": "c", "partition": "cpu"}
    with pytest.raises(Misconfigured, match="one and two are both in category c"):
        config.parse({**GOOD, "products": [one, {**one, "id": "two"} | keys]})
    config.parse({**GOOD, "products": [one, {**one, "id": "two", "category": "d"} | keys]})
    config.parse({**GOOD, "products": [one | keys, {**one, "id": "two"} | keys]})


def test_gpus_must_be_there_to_be_counted() -> None:
    with pytest.raises(Misconfigured, match=r"products\[1\]: gpus is needed"):
        config.parse({**GOOD, "products": [{**GOOD["products"][0], "charge_by": "gpu"}]})
