"""A Core of today, and what a provider says to it."""

from collections.abc import Callable

import pytest
import requests

from tests.rooms.sandbox.core.conftest import Client, Json
from tests.sandbox.core import CORE_TODAY, SimulatedCore

PRODUCT: Json = {"id": "example-compute-1", "category": "example-compute", "provider": "example"}
SUPPORT: Json = {
    "product": PRODUCT,
    "native": {"enabled": True, "logs": True, "timeExtension": True},
    "docker": {"enabled": False},
}


class Provider(Client):
    """The provider's side of the calls of today."""

    def post(self, path: str, body: object = None, token: str | None = "") -> requests.Response:
        return self.send("POST", path, token, json=body)

    def items(self, path: str, *items: Json) -> requests.Response:
        return self.post(path, {"items": list(items)})

    def report(self, usage: int, scope: str | None = None, **more: object) -> requests.Response:
        item = {
            "isDeltaCharge": False,
            "owner": {"type": "user", "username": "user"},
            "categoryIdV2": {"name": "example-compute", "provider": "example"},
            "usage": usage,
            "description": {"scope": scope, "description": None},
        }
        return self.items("/api/accounting/v2/reportUsage", item | more)


@pytest.fixture
def core(make_core: Callable[..., SimulatedCore]) -> SimulatedCore:
    return make_core(CORE_TODAY)


@pytest.fixture
def client(core: SimulatedCore) -> Provider:
    return Provider(core)
