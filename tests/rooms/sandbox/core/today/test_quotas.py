"""Quotas, usage and products at Core of today."""

from typing import Any

import pytest
import requests

from tests.rooms.sandbox.core.conftest import SLEEPER, Json, charge
from tests.rooms.sandbox.core.today.conftest import Provider
from tests.sandbox.core import CoreError, SimulatedCore
from tests.sandbox.core.today.products import category_v2, product_v2

PRODUCTS = "/api/products/v2"


def told(answer: requests.Response) -> list[bool]:
    assert answer.status_code == 200, answer.text
    responses: list[bool] = answer.json()["responses"]
    return responses


@pytest.fixture(autouse=True)
def quota(core: SimulatedCore) -> None:
    core.directory.add_user("user")
    core.accounts.set_quota(100)


def test_an_empty_wallet_does_not_stop_a_job_and_none_at_all_does(core: SimulatedCore) -> None:
    core.accounts.set_quota(0)
    core.submit(**SLEEPER)
    core.accounts.automatic = False
    with pytest.raises(CoreError, match="You do not have any valid allocations") as refused:
        core.submit(**SLEEPER, project="lab")
    assert refused.value.status == 402


def test_an_absolute_usage_replaces_and_a_delta_adds(core: SimulatedCore, client: Provider) -> None:
    usages = []
    for usage, is_delta in ((30, False), (50, False), (40, False), (5, True), (0, True)):
        assert told(client.report(usage, isDeltaCharge=is_delta)) == [True]
        usages.append(core.accounts.get().usage)
    assert usages == [30, 50, 40, 45, 45]
    assert core.protocol_errors == []


def test_a_scope_is_a_counter_of_its_own_and_the_wallet_moves_by_the_difference(core: SimulatedCore, client: Provider) -> None:
    for usage, scope in ((30, "a"), (20, "b"), (35, "a"), (35, "a"), (10, "b")):
        client.report(usage, scope)
    assert core.accounts.get().usage == 45
    assert [report.scope for report in core.accounts.reports] == ["a", "b", "a", "a", "b"]
    assert core.protocol_errors == []


def test_a_scope_knows_no_category(core: SimulatedCore, client: Provider) -> None:
    core.catalogue.add_product({"name": "other", "category": {"name": "other"}})
    client.report(30, "a")
    client.report(30, "a", categoryIdV2={"name": "other", "provider": "example"})
    assert core.accounts.get(category="other").usage == 0
    assert "several categories" in core.protocol_errors[0]


def test_usage_with_and_without_a_scope_does_not_go_together(core: SimulatedCore, client: Provider) -> None:
    client.report(30, "a")
    client.report(0, isDeltaCharge=True)
    assert core.protocol_errors == []
    client.report(30)
    assert "both with a scope and without" in core.protocol_errors[0]


def test_false_is_locked_now_and_the_usage_is_recorded_all_the_same(core: SimulatedCore, client: Provider) -> None:
    answers = [told(client.report(usage))[0] for usage in (99, 100, 150)]
    assert (answers, core.accounts.get().usage, core.accounts.get().locked) == ([True, False, False], 150, True)
    core.accounts.set_quota(200)
    assert told(client.report(0, isDeltaCharge=True)) == [True]
    core.accounts.set_quota(0)
    assert told(client.report(0, isDeltaCharge=True)) == [False]
    assert core.protocol_errors == []


def test_what_is_free_is_neither_recorded_nor_locked(core: SimulatedCore, client: Provider) -> None:
    core.catalogue.add_product({"name": "example-compute-1", "freeToUse": True})
    assert told(client.report(500)) == [True]
    assert (core.accounts.get().usage, core.accounts.reports) == (0, [])


@pytest.mark.parametrize(
    "wrong",
    [
        {"usage": -1},
        {"owner": {"type": "user", "username": "stranger"}},
        {"owner": {"type": "project", "projectId": "user"}},
        {"categoryIdV2": {"name": "example-compute", "provider": "other"}},
        {"categoryIdV2": {"name": "none", "provider": "example"}},
    ],
)
def test_a_wrong_report_is_a_403_and_those_before_it_stay(core: SimulatedCore, client: Provider, wrong: Json) -> None:
    right = {
        "owner": {"type": "user", "username": "user"},
        "categoryIdV2": {"name": "example-compute", "provider": "example"},
        "usage": 7,
    }
    answer = client.items("/api/accounting/v2/reportUsage", right, right | wrong, right | {"usage": 9})
    assert answer.status_code == 403
    assert core.accounts.get().usage == 7


def test_usage_of_a_project_is_the_projects(core: SimulatedCore, client: Provider) -> None:
    core.directory.add_project("lab")
    client.report(5, owner={"type": "project", "projectId": "lab"})
    assert (core.accounts.get(project="lab").usage, core.accounts.get().usage) == (5, 0)
    assert core.accounts.get(project="lab").locked


def test_nobody_learns_whether_a_provider_is_usable(client: Provider) -> None:
    assert client.items("/api/accounting/v2/checkProviderUsable", {}).status_code == 403


# -- the charges of old -------------------------------------------------------------------------------------------


def test_a_charge_is_an_absolute_usage_by_periods_price_and_nodes(core: SimulatedCore, client: Provider) -> None:
    core.accounts.set_quota(1000)
    job_id = core.submit(("sleeper", "1.0.0"), "example-compute-4", replicas=2)
    usages = []
    for number, periods in ((1, 10), (1, 10), (1, 12), (2, 3)):
        item = {"id": job_id, "chargeId": f"c{number}", "units": 99, "periods": periods}
        answer = client.items("/api/jobs/control/chargeCredits", item)
        assert answer.json() == {"insufficientFunds": [], "duplicateCharges": []}
        usages.append(core.accounts.get().usage)
    assert usages == [80, 80, 96, 120]
    assert core.protocol_errors == []


def test_a_charge_without_periods_is_nothing_and_noted(core: SimulatedCore, client: Provider) -> None:
    job_id = core.submit(**SLEEPER)
    item = {"id": job_id, "chargeId": "x", "units": 99, "numberOfProducts": 2}
    assert client.items("/api/jobs/control/chargeCredits", item).status_code == 200
    assert core.accounts.get().usage == 0
    assert [sentence.split(": ", 1)[1] for sentence in core.protocol_errors] == [
        "items[0].numberOfProducts is a key that UCloud does not know",
        "only periods count, and they are 0; units are ignored",
    ]


def test_check_credits_looks_at_what_is_left_and_not_at_amounts(core: SimulatedCore, client: Provider) -> None:
    job_id = core.submit(**SLEEPER)
    item = {"id": job_id, "chargeId": "x", "units": 1, "periods": 10**9}
    assert client.items("/api/jobs/control/checkCredits", item).json()["insufficientFunds"] == []
    client.report(100, "x")
    assert client.items("/api/jobs/control/checkCredits", item).json()["insufficientFunds"] == [{"id": job_id}]
    locked = client.items("/api/jobs/control/chargeCredits", charge(job_id, periods=200)).json()
    assert locked["insufficientFunds"] == [{"id": job_id}]
    assert client.items("/api/jobs/control/checkCredits", item | {"id": "1"}).status_code == 404


# -- products -----------------------------------------------------------------------------------------------------


def machine(name: str, **more: Any) -> Json:
    return product_v2({"name": name}, "example", "cpus") | more


def test_products_are_made_and_found(core: SimulatedCore, client: Provider) -> None:
    assert client.items(PRODUCTS, machine("a", price=1), machine("b"), machine("a", price=3)).json() == {}
    query = {"filterName": "a", "filterCategory": "cpus", "filterProvider": "example"}
    assert client.send("GET", f"{PRODUCTS}/retrieve", params=query).json() == machine("a", price=3)
    assert client.send("GET", f"{PRODUCTS}/retrieve", params={"filterName": "a"}).status_code == 400
    assert client.send("GET", f"{PRODUCTS}/retrieve", params=query | {"filterName": "c"}).status_code == 404
    page = client.send("GET", f"{PRODUCTS}/browse", None, params={"filterCategory": "cpus", "itemsPerPage": 2}).json()
    assert ([product["name"] for product in page["items"]], page["next"]) == (["a", "b"], "b")
    core.submit(("sleeper", "1.0.0"), "b")


def test_a_product_of_another_provider_refuses_all(core: SimulatedCore, client: Provider) -> None:
    other = product_v2({"name": "x"}, "other", "cpus")
    assert client.items(PRODUCTS, machine("a"), other).status_code == 403
    assert core.catalogue.category("cpus") is None


def test_a_product_without_its_type_is_taken_and_never_seen(core: SimulatedCore, client: Provider) -> None:
    plain = {key: value for key, value in machine("a").items() if key != "type"}
    assert client.items(PRODUCTS, plain).status_code == 200
    assert "has not the type compute" in core.protocol_errors[0]
    with pytest.raises(CoreError, match="Unknown product"):
        core.submit(("sleeper", "1.0.0"), "a")


def test_the_unit_of_a_category_is_for_ever(core: SimulatedCore, client: Provider) -> None:
    changed = category_v2("cpus", "example", accountingFrequency="PERIODIC_HOUR")
    client.items(PRODUCTS, machine("a"))
    assert client.items(PRODUCTS, machine("a", category=changed)).status_code == 200
    assert "the accountingFrequency of category cpus is changed" in core.protocol_errors[0]
