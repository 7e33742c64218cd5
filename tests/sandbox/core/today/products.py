"""Products and categories as they are written today (contract: ProductV2, ProductCategory)."""

from collections.abc import Iterator, Mapping
from typing import Any

Json = dict[str, Any]
KEYS = (
    "description",
    "hiddenInGrantApplications",
    "cpu",
    "memoryInGigs",
    "gpu",
    "cpuModel",
    "memoryModel",
    "gpuModel",
    "fraction",
)
"""Of a product, besides its name, category and price."""
MACHINE_KEYS = frozenset({"cpu", "memoryInGigs", "gpu", "cpuModel", "memoryModel", "gpuModel"})
"""Of a product for computing alone."""
UNITS = frozenset({"B", "KB", "MB", "GB", "TB", "PB", "EB", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"})
"""The units of storage of which the web client knows how many bytes they are."""
FREQUENCIES = frozenset({"ONCE", "PERIODIC_MINUTE", "PERIODIC_HOUR", "PERIODIC_DAY"})


def category_v2(name: str, provider: str, **more: Any) -> Json:
    """A category whose accounts are in core-minutes.

    :param more: replaces keys
    """
    return {
        "name": name,
        "provider": provider,
        "productType": "COMPUTE",
        "accountingUnit": {"name": "Core", "namePlural": "Core", "floatingPoint": False, "displayFrequencySuffix": True},
        "accountingFrequency": "PERIODIC_MINUTE",
        "freeToUse": False,
        "allowSubAllocations": True,
    } | more


def product_v2(product: Mapping[str, Any], provider: str, category: str) -> Json:
    """A ProductV2 with every key: the price is a unit for each core, unless it is given.

    :param product: any keys of it, with ``name`` at least; those of older products are understood where there is
        something like them today
    :param category: name of the category, unless the product has one
    """
    given = dict(product.get("category", {}))
    kind = category_v2(given.get("name", category), provider) | given
    if "freeToUse" in product:
        kind["freeToUse"] = product["freeToUse"]
    cores = product.get("cpu", 1)
    return {
        "type": "compute",
        "category": kind,
        "name": product["name"],
        "description": "An example machine",
        "productType": "COMPUTE",
        "price": product.get("price", product.get("pricePerUnit", cores)),
        "hiddenInGrantApplications": False,
        "cpu": 1,
        "memoryInGigs": 1,
        "gpu": 0,
        "cpuModel": "",
        "memoryModel": "",
        "gpuModel": "",
        "fraction": None,
    } | {key: product[key] for key in KEYS if key in product}


def wrong_product(product: Mapping[str, Any], before: Mapping[str, Any] | None) -> Iterator[str]:
    """What Core takes, and what the provider will be sorry for.

    :param before: the category as the provider registered it before
    """
    name, category = product["name"], product["category"]
    kind = "storage" if product["type"] == "storage" else "compute"
    if product["type"] != kind:
        yield f"product {name} has not the type compute, nor storage, so nobody sees it until Core is started again"
    if product["productType"] != kind.upper() or category["productType"] != kind.upper():
        yield f"product {name} and its category are not both of the productType {kind.upper()}"
    if kind == "storage":
        if category["accountingFrequency"] != "ONCE" or category["accountingUnit"]["name"] not in UNITS:
            yield f"product {name}: capacity is counted once, in a unit of bytes"
        if any(product[key] for key in MACHINE_KEYS):
            yield f"product {name} of storage has CPUs, memory or GPUs"
    if category["accountingFrequency"] not in FREQUENCIES:
        yield f"{category['accountingFrequency']!r} is no accountingFrequency"
    if before is not None:
        for key in ("accountingUnit", "accountingFrequency"):
            if category[key] != before[key]:
                yield f"the {key} of category {category['name']} is changed until Core is started again, and then not"
