"""A job that the Core of 2021 takes for running."""

import pytest

from tests.rooms.sandbox.core.conftest import Client
from tests.sandbox.core import SimulatedCore


@pytest.fixture
def running(core: SimulatedCore, client: Client, job_id: str) -> str:
    client.update((job_id, {"state": "RUNNING", "status": "It runs"}))
    return job_id
