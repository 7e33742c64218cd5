"""Wallets and charges, as documented and as coded."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.rooms.sandbox.core.conftest import CHARGES, PRICE, SLEEPER, Client, Json, charge
from tests.sandbox.core import CORE_2021, CORE_2022, CoreEra, SimulatedCore

BEHAVIOURS = pytest.mark.parametrize("behaviour", ["as-documented", "as-coded"])


@BEHAVIOURS
def test_a_charge_costs_units_times_nodes_times_price(core: SimulatedCore, client: Client, behaviour: Any) -> None:
    core.charging = behaviour
    core.catalogue.add_product({"name": "example-compute-4", "cpu": 4, "pricePerUnit": 7})
    core.wallets.set("lab", 10_000)
    core.wallets.set("user", 10_000)
    job_id = core.submit(("sleeper", "1.0.0"), "example-compute-4", project="lab")
    client.update((job_id, {"state": "SUCCESS"}))
    answer = client.charge(charge(job_id, units=15, numberOfProducts=3, periods=3))
    assert answer.json() == {"insufficientFunds": [], "duplicateCharges": []}
    assert (core.wallets.balance("lab"), core.wallets.balance("user")) == (10_000 - 15 * 3 * 7, 10_000)
    (booked,) = core.job(job_id).charges
    assert (booked.units, booked.multiplier, booked.cost, booked.taken) == (15, 3, 315, 315)


@pytest.mark.parametrize(("behaviour", "place"), [("as-documented", "duplicateCharges"), ("as-coded", "insufficientFunds")])
def test_a_repeated_charge_is_booked_once_in_both_behaviours(
    core: SimulatedCore, client: Client, job_id: str, behaviour: Any, place: str
) -> None:
    core.charging = behaviour
    core.wallets.set("user", 100 * PRICE)
    client.charge(charge(job_id, 1), charge(job_id, 2))
    again = client.charge(charge(job_id, 1), charge(job_id, 3))
    nothing: Json = {"insufficientFunds": [], "duplicateCharges": []}
    assert (again.status_code, again.json()) == (200, nothing | {place: [{"id": job_id}]})
    assert core.wallets.balance("user") == 97 * PRICE
    assert [booked.charge_id[-1] for booked in core.job(job_id).charges] == ["1", "2", "3"]
    assert core.protocol_errors == []


def test_a_charge_id_counts_for_its_job_as_documented_and_for_all_as_coded(core: SimulatedCore, client: Client) -> None:
    first, second, third = (core.submit(**SLEEPER) for _ in range(3))
    client.charge({"id": first, "chargeId": "noon"}, {"id": second, "chargeId": "noon"})
    assert len(core.job(first).charges) == len(core.job(second).charges) == 1
    assert core.protocol_errors == []
    core.charging = "as-coded"
    assert client.charge({"id": third, "chargeId": "noon"}).json()["insufficientFunds"] == [{"id": third}]
    assert core.job(third).charges == []
    assert "noon" in core.protocol_errors[0]


def test_as_documented_one_item_that_cannot_be_paid_is_a_402_for_the_whole_bulk(core: SimulatedCore, client: Client) -> None:
    rich, poor = core.submit(**SLEEPER, owner="rich"), core.submit(**SLEEPER, owner="poor")
    core.wallets.set("rich", 100 * PRICE)
    core.wallets.set("poor", 3 * PRICE)
    answer = client.charge(charge(rich), charge(poor, 1, units=2), charge(poor, 2, units=2))
    assert (answer.status_code, answer.json()["errorCode"]) == (402, None)
    assert (core.wallets.balance("rich"), core.wallets.balance("poor")) == (100 * PRICE, 3 * PRICE)
    assert core.job(rich).charges == core.job(poor).charges == []
    assert client.charge(charge(rich), charge(poor, 1, units=2)).status_code == 200
    assert core.protocol_errors == []


def test_as_coded_a_wallet_gives_what_it_has_and_says_so_one_charge_early(
    core: SimulatedCore, client: Client, job_id: str
) -> None:
    core.charging = "as-coded"
    core.wallets.set("user", 35 * PRICE)
    short = [client.charge(charge(job_id, number, units=10)).json()["insufficientFunds"] for number in range(5)]
    assert [bool(jobs) for jobs in short] == [False, False, True, True, True]
    assert [booked.taken // PRICE for booked in core.job(job_id).charges] == [10, 10, 10, 5]
    assert core.wallets.balance("user") == 0
    core.wallets.set("user", 100 * PRICE)
    assert client.charge(charge(job_id, 4, units=10)).json()["insufficientFunds"] == []


def test_the_early_warning_was_repaired(make_core: Callable[..., SimulatedCore]) -> None:
    core = make_core(CORE_2022)
    core.charging = "as-coded"
    core.wallets.set("user", 20 * PRICE)
    client, job_id = Client(core), core.submit(**SLEEPER)
    short = [client.charge(charge(job_id, number, units=10)).json()["insufficientFunds"] for number in range(3)]
    assert [bool(jobs) for jobs in short] == [False, False, True]


@BEHAVIOURS
def test_a_free_product_costs_nothing(core: SimulatedCore, client: Client, behaviour: Any) -> None:
    core.charging = behaviour
    core.catalogue.add_product({"name": "example-compute-1", "freeToUse": True})
    core.wallets.set("user", 0)
    job_id = core.submit(**SLEEPER)
    assert client.charge(charge(job_id)).json() == {"insufficientFunds": [], "duplicateCharges": []}
    assert [booked.taken for booked in core.job(job_id).charges] == [0]


@pytest.mark.parametrize(
    ("era", "key", "other"), [(CORE_2021, "numberOfProducts", "periods"), (CORE_2022, "periods", "numberOfProducts")]
)
def test_the_multiplier_goes_by_the_name_of_the_era(
    make_core: Callable[..., SimulatedCore], era: CoreEra, key: str, other: str
) -> None:
    core = make_core(era)
    job_id = core.submit(**SLEEPER)
    send = Client(core).send
    for number, sent in enumerate(({key: 4}, {other: 4})):
        item = {"id": job_id, "chargeId": str(number), "units": 1} | sent
        assert send("POST", CHARGES, json={"items": [item]}).status_code == 200
    assert [booked.multiplier for booked in core.job(job_id).charges] == [4, 1]
    assert len(core.protocol_errors) == 1
    assert f"{key} is missing" in core.protocol_errors[0]


def test_a_charge_id_with_other_contents_is_noted(core: SimulatedCore, client: Client, job_id: str) -> None:
    client.charge(charge(job_id, units=1))
    client.charge(charge(job_id, units=2))
    client.charge(charge(job_id, 9), charge(job_id, 9))
    assert len(core.protocol_errors) == 2
    assert core.wallets.balance("user") == 10**15 - 2 * PRICE


def test_check_credits_takes_nothing_and_came_in_2022(make_core: Callable[..., SimulatedCore]) -> None:
    core = make_core(CORE_2022)
    job_id = core.submit(**SLEEPER)
    core.wallets.set("user", PRICE)
    client = Client(core)
    assert client.charge(charge(job_id), call="checkCredits").json()["insufficientFunds"] == []
    assert client.charge(charge(job_id, units=2), call="checkCredits").json()["insufficientFunds"] == [{"id": job_id}]
    assert (core.wallets.balance("user"), core.job(job_id).charges) == (PRICE, [])
    old = make_core(CORE_2021)
    assert Client(old).charge(charge(old.submit(**SLEEPER)), call="checkCredits").status_code == 404
