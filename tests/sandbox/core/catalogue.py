"""Products and applications of the simulated Core (contract: products.*, Application)."""

import threading
from collections.abc import Mapping
from typing import Any, Literal

from tests.sandbox.core.applications import examples, later_examples
from tests.sandbox.core.errors import CoreError
from tests.sandbox.core.today.products import product_v2

Json = dict[str, Any]
CATEGORY = "example-compute"


def reference(product: Mapping[str, Any]) -> dict[str, str]:
    """The ProductReference of a product."""
    return {"id": product["name"], "category": product["category"]["name"], "provider": product["category"]["provider"]}


def compute_product(name: str, provider: str, *, category: str = CATEGORY, **more: Any) -> Json:
    """A Product.Compute with every key, at 1 credit (1_000_000 units of it) a minute and node.

    :param more: replaces keys, such as ``cpu``, ``memoryInGigs``, ``gpu``, ``pricePerUnit``, ``unitOfPrice``
    """
    return {
        "balance": None,
        "name": name,
        "pricePerUnit": 1_000_000,
        "category": {"name": category, "provider": provider},
        "description": "An example machine",
        "priority": 0,
        "cpu": 1,
        "memoryInGigs": 1,
        "gpu": 0,
        "version": 1,
        "freeToUse": False,
        "unitOfPrice": "CREDITS_PER_MINUTE",
        "chargeType": "ABSOLUTE",
        "hiddenInGrantApplications": False,
        "productType": "COMPUTE",
    } | more


class Catalogue:
    """Applications by name and version, products by name. Safe for several threads.

    What goes in and comes out is JSON as it is on the wire; a compute product of the first form has no ``type``
    here.
    """

    def __init__(self, provider: str, changed: threading.Condition, form: Literal["first", "second"] = "first") -> None:
        """Begin with a few applications and products.

        :param form: of products
        """
        self._provider = provider
        self._first = form == "first"
        self._changed = changed
        self._applications: dict[tuple[str, str], Json] = {}
        self._products: dict[tuple[str, str, str], list[Json]] = {}
        self._categories: dict[str, Json] = {}
        for app in examples() if self._first else [*examples(), *later_examples()]:
            self.add_application(app)
        self.add_product({"name": "example-compute-1"})
        self.add_product({"name": "example-compute-4", "cpu": 4, "memoryInGigs": 2})

    def add_application(self, app: Json) -> None:
        """Add an application with its tool, or replace the one of that name and version."""
        metadata = app["metadata"]
        with self._changed:
            self._applications[metadata["name"], metadata["version"]] = app

    def add_product(self, product: Json) -> None:
        """Add a product, or a new version of the one of that name: prices are those of the latest version.

        :param product: any keys of Product.Compute, with ``name`` at least; the rest is as in
            :func:`compute_product`
        """
        if not self._first:
            self.put(product_v2(product, self._provider, CATEGORY))
            return
        category = product.get("category", {}).get("name", CATEGORY)
        whole = compute_product(product["name"], self._provider, category=category)
        whole |= {key: value for key, value in product.items() if key != "type"}
        with self._changed:
            versions = self._products.setdefault(self._key(reference(whole)), [])
            versions.append(whole | {"version": len(versions) + 1})

    def put(self, product: Json) -> None:
        """Keep a ProductV2 as it is, in place of the one of that name; there are no versions."""
        with self._changed:
            self._categories[product["category"]["name"]] = product["category"]
            self._products[self._key(reference(product))] = [product]

    def category(self, name: str) -> Json | None:
        """A ProductCategory of today."""
        with self._changed:
            return self._categories.get(name)

    def is_free(self, category: str) -> bool:
        """Whether a category of today costs nothing."""
        with self._changed:
            return bool(self._categories.get(category, {}).get("freeToUse"))

    def remove_application(self, name: str, version: str) -> None:
        """Let an application vanish, from the jobs that have it too."""
        with self._changed:
            del self._applications[name, version]

    def application(self, name: str, version: str) -> Json | None:
        """An application with its tool."""
        with self._changed:
            return self._applications.get((name, version))

    def product(self, ref: Mapping[str, str]) -> Json | None:
        """The latest version of a product."""
        with self._changed:
            versions = self._products.get(self._key(ref))
            return versions[-1] if versions else None

    def products(self) -> list[Json]:
        """The latest version of each product."""
        with self._changed:
            return [versions[-1] for versions in self._products.values()]

    def named(self, name: str) -> Json:
        """The product of this provider with that name.

        :raises CoreError: 400 when there is none
        """
        for product in self.products():
            seen = self._first or product["type"] == "compute"
            if seen and product["name"] == name and product["category"]["provider"] == self._provider:
                return product
        raise CoreError(400, f"Unknown product: {name}")

    def search(self, query: Mapping[str, str]) -> list[Json]:
        """Products by the filters of products.retrieve and products.browse, each with its ``type``."""
        wanted = {
            "name": query.get("filterName"),
            "category": query.get("filterCategory"),
            "provider": query.get("filterProvider"),
            "area": query.get("filterArea"),
        }
        kind = {"type": "compute"} if self._first else {}
        return [kind | product for product in self.products() if _suits(product, wanted)]

    @staticmethod
    def _key(ref: Mapping[str, str]) -> tuple[str, str, str]:
        return ref.get("id", ""), ref.get("category", ""), ref.get("provider", "")


def _suits(product: Mapping[str, Any], wanted: Mapping[str, str | None]) -> bool:
    has = {
        "name": product["name"],
        "category": product["category"]["name"],
        "provider": product["category"]["provider"],
        "area": product["productType"],
    }
    return all(value is None or has[key] == value for key, value in wanted.items())
