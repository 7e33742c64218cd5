"""`ucloud-slurm products`: UCloud gets what is configured, nothing twice, and never another way of counting."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.conftest import configuration
from tests.rooms.cli.ucloud_products import ProductsAtUCloud
from tests.sandbox.core import SimulatedCore
from ucloud_slurm.cli.main import main
from ucloud_slurm.store.acts import Acts
from ucloud_slurm.store.sqlite import Store

CATEGORY = {
    "name": "thin",
    "provider": "example",
    "productType": "COMPUTE",
    "accountingUnit": {"name": "Core", "namePlural": "Cores", "floatingPoint": False, "displayFrequencySuffix": True},
    "accountingFrequency": "PERIODIC_MINUTE",
    "freeToUse": False,
    "allowSubAllocations": True,
}
THIN = {"id": "thin-4", "category": "thin", "partition": "cpu", "cpus": 4, "memory_gb": 16}
Type = Callable[..., Result]


@pytest.fixture
def ucloud() -> Iterator[ProductsAtUCloud]:
    ucloud = ProductsAtUCloud("example")
    with ucloud.served():
        yield ucloud


@pytest.fixture
def products(core: SimulatedCore, ucloud: ProductsAtUCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Type:
    """Types a line of `ucloud-slurm products` with these products configured, THIN if none are."""
    monkeypatch.setattr("ucloud_slurm.cli.context.refuse_root", lambda: None)

    def type_(*words: str, configured: Any = (THIN,), stdin: str | None = None) -> Result:
        config = configuration(core, tmp_path, products=list(configured), ucloud={"url": ucloud.url})
        monkeypatch.setattr("ucloud_slurm.cli.context.read", lambda _path: config)
        return CliRunner().invoke(main, ["products", *words], input=stdin)

    return type_


def test_a_configured_product_is_registered_whole(products: Type, ucloud: ProductsAtUCloud) -> None:
    made = products("sync", "--yes")
    assert made.exit_code == 0, made.output
    assert ucloud.named("thin-4") == {
        "type": "compute",
        "category": CATEGORY,
        "name": "thin-4",
        "description": "4 CPUs, 16 GiB of memory",
        "productType": "COMPUTE",
        "price": 4,
        "hiddenInGrantApplications": False,
        "cpu": 4,
        "memoryInGigs": 16,
        "gpu": 0,
        "cpuModel": "",
        "memoryModel": "",
        "gpuModel": "",
    }


def test_a_registration_is_an_act_and_what_changes_nothing_is_none(products: Type, tmp_path: Path) -> None:
    for words in (("--dry-run",), ("--yes",), ("--yes",)):
        products("sync", *words)
    with closing(Store(tmp_path / "test.db")) as store:
        assert [act.what for act in Acts(store).listed(0.0, 10)] == ["registration of thin/thin-4 at UCloud"]


def test_what_is_there_already_is_not_sent_again(products: Type, ucloud: ProductsAtUCloud) -> None:
    products("sync", "--yes")
    ucloud.calls.clear()
    again = products("sync")
    assert again.exit_code == 0
    assert "Nothing to do" in again.stdout
    assert "POST /api/products/v2" not in ucloud.calls


def test_only_what_differs_is_shown_and_sent(products: Type, ucloud: ProductsAtUCloud) -> None:
    other = {**THIN, "id": "thin-8", "cpus": 8}
    products("sync", "--yes", configured=[THIN, other])
    changed = products("sync", "--yes", configured=[THIN, {**other, "cpus": 16, "cpu_model": "new"}])
    assert "thin/thin-8: different\n" in changed.stdout
    assert "  cpu: 8 -> 16\n" in changed.stdout
    assert "  price: 8 -> 16\n" in changed.stdout
    assert '  cpuModel: "" -> "new"\n' in changed.stdout
    assert "thin-4" not in changed.stdout
    assert ucloud.named("thin-8")["cpu"] == 16


def test_nothing_is_sent_before_the_answer_is_yes(products: Type, ucloud: ProductsAtUCloud) -> None:
    assert products("sync", stdin="n\n").exit_code == 1
    assert products("sync", stdin="").exit_code == 1
    assert ucloud.products == []
    assert products("sync", stdin="y\n").exit_code == 0
    assert len(ucloud.products) == 1


def test_a_dry_run_only_shows(products: Type, ucloud: ProductsAtUCloud) -> None:
    shown = products("sync", "--dry-run", "--yes")
    assert (shown.exit_code, ucloud.products) == (0, [])
    assert "thin/thin-4: new\n" in shown.stdout
    assert "  cpu: 4\n" in shown.stdout


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"unit_name": "Node"}, "category.accountingUnit.name"),
        ({"charge_by": "node"}, "category.accountingUnit.name"),
        ({"frequency": "hour"}, "category.accountingFrequency"),
        ({"free": True}, "category.freeToUse"),
    ],
)
@pytest.mark.parametrize("name", ["thin-4", "another"])
def test_a_category_never_gets_another_way_of_counting(
    change: dict[str, Any], field: str, name: str, products: Type, ucloud: ProductsAtUCloud
) -> None:
    products("sync", "--yes")
    before = list(ucloud.products)
    ucloud.calls.clear()
    refused = products("sync", "--yes", configured=[{**THIN, "id": name} | change])
    assert refused.exit_code == 1
    assert f"thin/{name}: {field} is " in refused.stderr
    assert "category of another name" in refused.stderr
    assert ucloud.products == before
    assert ucloud.calls == ["GET /api/products/v2/browse"]


def test_what_is_not_configured_is_named_and_stays(products: Type, ucloud: ProductsAtUCloud) -> None:
    old = ucloud.add("thin-2", CATEGORY, cpu=2)
    disk = ucloud.add("disk", {**CATEGORY, "name": "home", "productType": "STORAGE"}, type="storage", productType="STORAGE")
    done = products("sync", "--yes")
    assert "home/disk: not configured, left as it is (STORAGE)" in done.stdout
    assert "thin/thin-2: not configured" in done.stdout
    assert old in ucloud.products
    assert disk in ucloud.products


def test_products_of_ucloud_that_are_not_configured_stay(products: Type, ucloud: ProductsAtUCloud) -> None:
    written = {"description": "A thin one", "cpuModel": "c", "memoryModel": "m", "gpuModel": "g"}
    ucloud.add(
        "thin-4",
        {**CATEGORY, "allowSubAllocations": False},
        cpu=12,
        memoryInGigs=24,
        gpu=1,
        **written,
        fraction={"numerator": 1, "denominator": 2},
    )
    bare = {key: value for key, value in THIN.items() if key not in ("cpus", "memory_gb")}
    products("sync", "--yes", configured=[bare])
    found = ucloud.named("thin-4")
    assert (found["cpu"], found["memoryInGigs"], found["gpu"], found["price"]) == (12, 24, 1, 12)
    assert found["fraction"] == {"numerator": 1, "denominator": 2}
    assert found["category"]["allowSubAllocations"] is False
    assert found.items() >= written.items()


def test_how_ucloud_writes_a_unit_is_its_own(products: Type, ucloud: ProductsAtUCloud) -> None:
    unit = {"name": "Core", "namePlural": "Core", "floatingPoint": False, "displayFrequencySuffix": False}
    ucloud.add("thin-4", {**CATEGORY, "accountingUnit": unit}, cpu=4, memoryInGigs=16)
    assert products("sync", "--yes").exit_code == 0
    assert ucloud.named("thin-4")["category"]["accountingUnit"] == unit


def test_a_product_that_lacks_its_type_gets_it(products: Type, ucloud: ProductsAtUCloud) -> None:
    products("sync", "--yes")
    del ucloud.named("thin-4")["type"]
    products("sync", "--yes")
    assert ucloud.named("thin-4")["type"] == "compute"


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_all_pages_are_read_and_an_empty_last_one_does_no_harm(size: int, products: Type, ucloud: ProductsAtUCloud) -> None:
    ucloud.largest_page = size
    for number in range(4):
        ucloud.add(f"old-{number}", CATEGORY)
    ucloud.add("foreign", {**CATEGORY, "provider": "another"})
    data = json.loads(products("list", "--json").stdout)
    assert [each["product"] for each in data["not_configured"]] == [f"old-{number}" for number in range(4)]


def test_the_list_shows_the_state_of_each_product(products: Type, ucloud: ProductsAtUCloud) -> None:
    other, third = {**THIN, "id": "thin-8", "cpus": 8}, {**THIN, "id": "thin-9", "cpus": 9}
    products("sync", "--yes", configured=[THIN, other])
    ucloud.add("old", CATEGORY)
    listed = products("list", configured=[THIN, {**other, "hidden": True}, third])
    standings = {line.split()[1]: line.split(maxsplit=6)[6] for line in listed.stdout.splitlines()}
    assert standings == {
        "PRODUCT": "AT UCLOUD",
        "thin-4": "same",
        "thin-8": "different",
        "thin-9": "new",
        "old": "not configured",
    }


def test_json_says_the_same_and_nothing_else_is_on_standard_output(products: Type, ucloud: ProductsAtUCloud) -> None:
    said = products("sync", "--json", stdin="y\n")
    data = json.loads(said.stdout)
    assert data["done"] is True
    (product,) = data["products"]
    assert {"field": "cpu", "there": None, "here": 4} in product["differences"]
    assert len(ucloud.products) == 1


def test_a_core_without_products_v2_and_one_that_does_not_answer_are_named_in_a_sentence(
    products: Type, ucloud: ProductsAtUCloud
) -> None:
    ucloud.known = False
    older = products("sync")
    assert older.exit_code == 1
    assert "2021 or 2022 has no products v2" in older.stderr
    ucloud.url = "http://127.0.0.1:1"
    away = products("list")
    assert away.exit_code == 1
    assert "cannot be reached" in away.stderr
    assert "Traceback" not in older.output + away.output


def test_cores_that_are_not_configured_are_asked_for(products: Type, ucloud: ProductsAtUCloud) -> None:
    bare = {"id": "thin-4", "category": "thin", "partition": "cpu"}
    asked = products("sync", "--yes", configured=[bare])
    assert asked.exit_code == 78
    assert "products[1].cpus is missing" in asked.stderr
    assert ucloud.products == []


DRIVE = {"name": "home", "title": "Home", "local": "{home}"}


def test_the_product_of_drives_is_capacity_that_costs_nothing(
    products: Type, ucloud: ProductsAtUCloud, core: SimulatedCore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configuration(
        core, tmp_path, products=[THIN], drives=[DRIVE], users={"mapping": "table"}, ucloud={"url": ucloud.url, "era": "today"}
    )
    monkeypatch.setattr("ucloud_slurm.cli.context.read", lambda _path: config)
    monkeypatch.setattr("ucloud_slurm.cli.context.refuse_root", lambda: None)
    made = CliRunner().invoke(main, ["products", "sync", "--yes"])
    assert made.exit_code == 0, made.output
    assert ucloud.named("home") == {
        "type": "storage",
        "category": {
            "name": "storage",
            "provider": "example",
            "productType": "STORAGE",
            "accountingUnit": {"name": "GB", "namePlural": "GB", "floatingPoint": False, "displayFrequencySuffix": False},
            "accountingFrequency": "ONCE",
            "freeToUse": True,
            "allowSubAllocations": True,
        },
        "name": "home",
        "description": "Home",
        "productType": "STORAGE",
        "price": 1,
        "hiddenInGrantApplications": True,
    }
    again = CliRunner().invoke(main, ["products", "sync"])
    assert "Nothing to do" in again.stdout
    listed = CliRunner().invoke(main, ["products", "list"])
    assert "home" in listed.stdout
    assert "not configured" not in listed.stdout


def test_a_category_of_machines_never_becomes_one_of_storage(
    ucloud: ProductsAtUCloud, core: SimulatedCore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ucloud.add("home", CATEGORY | {"name": "storage"})
    config = configuration(
        core, tmp_path, products=[THIN], drives=[DRIVE], users={"mapping": "table"}, ucloud={"url": ucloud.url, "era": "today"}
    )
    monkeypatch.setattr("ucloud_slurm.cli.context.read", lambda _path: config)
    monkeypatch.setattr("ucloud_slurm.cli.context.refuse_root", lambda: None)
    made = CliRunner().invoke(main, ["products", "sync", "--yes"])
    assert made.exit_code == 1
    assert "storage/home: category.productType" in made.output
    assert not [each for each in ucloud.calls if each.startswith("POST /api/products")]
