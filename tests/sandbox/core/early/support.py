"""What the provider said it supports, and what Core refuses by it.

Contract: jobs.provider.retrieveProducts, ComputeSupport.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tests.sandbox.core.errors import NOT_SUPPORTED, CoreError

Json = dict[str, Any]
LIFETIME = 15 * 60
"""Seconds for which Core believes an answer of retrieveProducts."""


class Support:
    """The last answer of retrieveProducts. Safe for several threads."""

    def __init__(self, changed: threading.Condition, now: Callable[[], float]) -> None:
        self._changed = changed
        self._now = now
        self._learned_at: float | None = None
        self._by_product: dict[tuple[str, str, str], Json] = {}

    def learn(self, elements: Sequence[Json]) -> None:
        """Believe an answer from now on."""
        with self._changed:
            self._learned_at = self._now()
            self._by_product = {_key(element["product"]): element for element in elements}

    @property
    def stale(self) -> bool:
        """Whether the provider must be asked (again)."""
        with self._changed:
            return self._learned_at is None or self._now() - self._learned_at >= LIFETIME

    def of(self, product: Mapping[str, str]) -> Json | None:
        """The ComputeSupport element of a product."""
        with self._changed:
            return self._by_product.get(_key(product))

    def admit(self, product: Mapping[str, str], backend: str) -> None:
        """Refuse a job that the provider does not support, as Core of 2021 does; NATIVE jobs all pass.

        :param backend: of the application's tool
        :raises CoreError: 502 when the provider said nothing about the product, 400 when it does not suit
        """
        element = self.of(product)
        if element is None:
            raise CoreError(502, f"We received no information about {product['id']} from the provider")
        if backend == "DOCKER" and (element.get("docker") or {}).get("enabled") is not True:
            raise CoreError(400, "Not supported", NOT_SUPPORTED)
        if backend == "VIRTUAL_MACHINE" and (element.get("virtualMachine") or {}).get("enabled") is not None:
            raise CoreError(400, "Not supported", NOT_SUPPORTED)  # a slip of that Core, kept as it is
        if backend == "SINGULARITY":
            raise CoreError(400, "Unsupported application")


def wrong_support(elements: Sequence[Any]) -> Iterator[str]:
    """What is wrong with the elements of an answer: no product, or a flag that is no boolean."""
    for number, element in enumerate(elements):
        product = element.get("product") if isinstance(element, dict) else None
        if not isinstance(product, dict) or not all(
            isinstance(product.get(key), str) for key in ("id", "category", "provider")
        ):
            yield f"responses[{number}] has no product"
            continue
        for block in ("docker", "virtualMachine"):
            flags = element.get(block)
            if not isinstance(flags, dict):
                yield f"responses[{number}].{block} is missing"
            elif not all(value is None or isinstance(value, bool) for value in flags.values()):
                yield f"responses[{number}].{block} has a flag that is neither true, false nor null"


def _key(product: Mapping[str, str]) -> tuple[str, str, str]:
    return product["id"], product["category"], product["provider"]
