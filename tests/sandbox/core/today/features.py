"""What the provider says it supports, today, and what Core refuses by it (contract: JobSupport)."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.sandbox.core.errors import NOT_SUPPORTED, CoreError

Json = dict[str, Any]
BLOCKS: Mapping[str, tuple[str, str]] = {
    "NATIVE": ("native", "native"),
    "DOCKER": ("docker", "docker"),
    "VIRTUAL_MACHINE": ("virtualMachine", "vm"),
}
"""Backend of a tool -> its block, and what that is called in a key."""
FLAGS: Mapping[str, str] = {
    "enabled": "enabled",
    "web": "web",
    "vnc": "vnc",
    "logs": "logs",
    "terminal": "terminal",
    "peers": "peers",
    "timeExtension": "extension",
    "bindLinkToPort": "bindLinkToPort",
    "suspension": "suspension",
}
"""Flag of a block -> what it is called in a key."""
QUEUES = frozenset({None, "AVAILABLE", "BUSY", "FULL"})


class Features:
    """The last good answer of retrieveProducts; it stays in force for ever. Safe for several threads."""

    def __init__(self, changed: threading.Condition) -> None:
        self._changed = changed
        self._by_product: dict[tuple[str, ...], Json] = {}

    def learn(self, elements: Sequence[Json]) -> None:
        """Believe an answer from now on: what is not in it is not there any more."""
        with self._changed:
            self._by_product = {_key(element["product"]): element for element in elements}

    def of(self, product: Mapping[str, str]) -> Json | None:
        """The JobSupport of a product."""
        with self._changed:
            return self._by_product.get(_key(product))

    def keys(self, product: Mapping[str, str]) -> list[str]:
        """The keys of what a product supports, such as ``jobs.native.extension``."""
        element = self.of(product) or {}
        return [
            f"jobs.{name}.{word}"
            for block, name in BLOCKS.values()
            for flag, word in FLAGS.items()
            if (element.get(block) or {}).get(flag)
        ]

    def admit(self, product: Mapping[str, str], backend: str, flag: str = "enabled") -> None:
        """Refuse what the product does not support.

        :param backend: of the application's tool
        :raises CoreError: 400
        """
        if backend not in BLOCKS:
            raise CoreError(400, "Unsupported application")
        element = self.of(product)
        if element is None:
            raise CoreError(400, "Bad machine type")
        if not (element.get(BLOCKS[backend][0]) or {}).get(flag):
            raise CoreError(400, "Not supported", NOT_SUPPORTED)


def unreadable(elements: Sequence[Any]) -> Iterator[str]:
    """What is of the wrong type in an answer. What is missing or null is false."""
    for number, element in enumerate(elements):
        place = f"responses[{number}]"
        product = (element.get("product") or {}) if isinstance(element, dict) else None
        if not isinstance(product, dict) or not all(isinstance(part, str) for part in _key(product)):
            yield f"{place} has no product"
            continue
        for block, _ in BLOCKS.values():
            flags = element.get(block) or {}
            if not isinstance(flags, dict):
                yield f"{place}.{block} is no object"
            elif not all(value is None or isinstance(value, bool) for value in flags.values()):
                yield f"{place}.{block} has a flag that is neither true, false nor null"


def unknown_features(elements: Sequence[Json]) -> Iterator[str]:
    """What Core passes over in an answer that it can read."""
    for number, element in enumerate(elements):
        place = f"responses[{number}]"
        for block, _ in BLOCKS.values():
            flags = element.get(block) or {}
            yield from (f"{place}.{block}.{flag} is a key that UCloud does not know" for flag in flags.keys() - FLAGS)
        if element.get("queueStatus") not in QUEUES:
            yield f"{place}.queueStatus is none of AVAILABLE, BUSY and FULL"


def _key(product: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(product.get(part) or "" for part in ("id", "category", "provider"))
