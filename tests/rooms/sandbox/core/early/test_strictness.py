"""Messages that the contract does not allow."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.rooms.sandbox.core.conftest import CHARGES, SLEEPER, UPDATES, Client, FakeProvider, Json, charge
from tests.sandbox.core import SimulatedCore

ONE = {"id": "54112", "chargeId": "x", "units": 1}


@pytest.fixture(scope="module")
def strict() -> Iterator[SimulatedCore]:
    """A Core with one job, 54112, that no test changes."""
    provider, core = FakeProvider(), SimulatedCore()
    core.start()
    core.connect(provider.url)
    assert core.submit(**SLEEPER) == "54112"
    provider.close()
    yield core
    core.stop()


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        (UPDATES, "{", "not JSON"),
        (UPDATES, "[]", "not a JSON object"),
        (UPDATES, '{"items": [], "items": []}', "twice"),
        (UPDATES, '{"items": [{"id": "54112", "update": {"timestamp": NaN}}]}', "NaN"),
        (UPDATES, {}, "items"),
        (UPDATES, {"items": []}, "items"),
        (UPDATES, {"items": [{"id": "54112", "update": {}}] * 1001}, "items"),
        (UPDATES, {"items": [{"id": 54112, "update": {}}]}, "items[0].id"),
        (UPDATES, {"items": [{"id": "54112"}]}, "items[0].update"),
        (UPDATES, {"items": [{"id": "54112", "update": {"timestamp": 1.5}}]}, "timestamp"),
        (UPDATES, {"items": [{"id": "54112", "update": {"timestamp": "1"}}]}, "timestamp"),
        (UPDATES, {"items": [{"id": "54112", "update": {"timestamp": True}}]}, "timestamp"),
        (UPDATES, {"items": [{"id": "54112", "update": {"status": 1}}]}, "status"),
        (UPDATES, {"items": [{"id": "54112", "update": {"expectedDifferentState": 1}}]}, "DifferentState"),
        (UPDATES, {"items": [{"id": "54112", "update": {"state": "CANCELING"}}]}, "CANCELING"),
        (UPDATES, {"items": [{"id": "54112", "update": {"state": "SUSPENDED"}}]}, "SUSPENDED"),
        (UPDATES, {"items": [{"id": "54112", "update": {"state": "running"}}]}, "running"),
        (UPDATES, {"items": [{"id": "54112", "update": {"expectedState": "LATER"}}]}, "LATER"),
        (CHARGES, {"items": []}, "items"),
        (CHARGES, {"items": [ONE] * 1001}, "items"),
        (CHARGES, {"items": [ONE | {"units": 1.0}]}, "units"),
        (CHARGES, {"items": [ONE | {"units": -1}]}, "units"),
        (CHARGES, {"items": [ONE | {"units": True}]}, "units"),
        (CHARGES, {"items": [ONE | {"units": None}]}, "units"),
        (CHARGES, {"items": [ONE | {"units": 2**63}]}, "units"),
        (CHARGES, {"items": [ONE | {"chargeId": ""}]}, "chargeId"),
        (CHARGES, {"items": [{"id": "54112", "units": 1}]}, "chargeId"),
        (CHARGES, {"items": [ONE | {"numberOfProducts": 1, "periods": 2}]}, "periods"),
        (CHARGES, {"items": [ONE | {"performedBy": 1}]}, "performedBy"),
        ("/auth/providers/refresh", {"items": [{"refreshToken": 1}]}, "refreshToken"),
        ("/api/jobs/control/register", {"items": [{"spec": {}}]}, "parameters"),
        ("/api/providers/integration/control/approveConnection", {}, "username"),
    ],
)
def test_what_the_contract_does_not_allow_is_a_400_and_noted(strict: SimulatedCore, path: str, body: Any, named: str) -> None:
    before = len(strict.protocol_errors)
    answer = Client(strict).send("POST", path, data=body if isinstance(body, str) else json.dumps(body))
    assert answer.status_code == 400
    assert named in answer.json()["why"]
    assert any(named in sentence for sentence in strict.protocol_errors[before:])
    (job,) = strict.jobs
    assert (job.state, job.updates, job.charges) == ("IN_QUEUE", [], [])


def test_what_core_would_ignore_is_taken_and_noted(core: SimulatedCore, client: Client, job_id: str) -> None:
    assert client.update((job_id, {"state": "RUNNING", "sate": "x"})).status_code == 200
    assert client.charge(charge(job_id, note="x")).status_code == 200
    assert client.send("POST", "/api/nothing").status_code == 404
    assert core.protocol_errors == [
        "jobs.control.update: items[0].update.sate is a key that UCloud does not know",
        "jobs.control.chargeCredits: items[0].note is a key that UCloud does not know",
        "POST /api/nothing: UCloud has no such call",
    ]


def test_nulls_are_defaults(core: SimulatedCore, client: Client, job_id: str) -> None:
    nulls = dict.fromkeys(("outputFolder", "status", "expectedState", "expectedDifferentState", "timestamp"))
    assert client.update((job_id, {"state": "RUNNING"} | nulls)).status_code == 200
    optional: Json = dict.fromkeys(("performedBy", "description", "numberOfProducts", "periods"))
    assert client.charge(charge(job_id, **optional)).status_code == 200
    (booked,) = core.job(job_id).charges
    assert (booked.multiplier, booked.performed_by, booked.description) == (1, "user", "Payment")
    assert core.protocol_errors == []
