"""What Core of today does with updates, and with jobs and connections that a provider brings."""

from typing import Any

import pytest

from tests.conftest import Clock
from tests.rooms.sandbox.core.conftest import SLEEPER, FakeProvider, Json
from tests.rooms.sandbox.core.today.conftest import PRODUCT, Provider
from tests.sandbox.core import SimulatedCore

REGISTER = "/api/jobs/control/register"
CONNECTIONS = "/api/providers/integration/control"


@pytest.fixture
def job_id(core: SimulatedCore) -> str:
    return core.submit(**SLEEPER)


def states(core: SimulatedCore, job_id: str) -> list[Any]:
    return [update["state"] for update in core.job(job_id).updates]


def test_one_bad_id_refuses_the_bulk_and_is_named(core: SimulatedCore, client: Provider, job_id: str) -> None:
    answer = client.update((job_id, {"state": "RUNNING"}), ("77", {"state": "RUNNING"}), ("78", {}))
    assert (answer.status_code, answer.json()["why"]) == (404, "Not found or permission denied (77)")
    assert (core.job(job_id).state, core.protocol_errors) == ("IN_QUEUE", [])


def test_each_update_of_a_bulk_meets_what_the_one_before_left(core: SimulatedCore, client: Provider, job_id: str) -> None:
    client.update(
        (job_id, {"state": "RUNNING", "expectedState": "IN_QUEUE"}),
        (job_id, {"state": "SUCCESS", "expectedState": "IN_QUEUE"}),
        (job_id, {"state": "SUSPENDED", "expectedState": "RUNNING"}),
    )
    assert states(core, job_id) == ["RUNNING", "SUSPENDED"]


def test_an_expected_state_goes_before_a_different_one(core: SimulatedCore, client: Provider, job_id: str) -> None:
    client.update((job_id, {"state": "IN_QUEUE", "expectedState": "IN_QUEUE", "expectedDifferentState": True}))
    assert states(core, job_id) == ["IN_QUEUE"]
    client.update((job_id, {"state": "IN_QUEUE", "expectedDifferentState": True}))
    client.update((job_id, {"status": "text", "expectedDifferentState": True}))
    assert states(core, job_id) == ["IN_QUEUE", None]


def test_what_is_not_applied_leaves_no_trace(core: SimulatedCore, client: Provider, job_id: str) -> None:
    client.update((job_id, {"state": "SUCCESS", "expectedState": "RUNNING", "outputFolder": "/x", "status": "x"}))
    client.update((job_id, {"state": "FAILURE"}), (job_id, {"state": "RUNNING", "status": "x"}))
    job = core.job(job_id)
    assert (job.state, job.output_folder, job.started_at, states(core, job_id)) == ("FAILURE", None, None, ["FAILURE"])


def test_a_final_state_follows_a_final_one_and_so_does_a_text(core: SimulatedCore, client: Provider, job_id: str) -> None:
    client.update((job_id, {"state": "SUCCESS"}), (job_id, {"state": "FAILURE"}), (job_id, {"status": "why"}))
    assert (core.job(job_id).state, states(core, job_id)) == ("FAILURE", ["SUCCESS", "FAILURE", None])


def test_the_clock_starts_again_with_each_change_to_running(
    core: SimulatedCore, client: Provider, job_id: str, clock: Clock
) -> None:
    began = []
    for state in ("RUNNING", "RUNNING", "SUSPENDED", "RUNNING"):
        clock.time += 10
        client.update((job_id, {"state": state}))
        began.append(core.job(job_id).started_at)
    now = int(clock.time * 1000)
    assert began == [now - 30_000] * 3 + [now]
    assert core.job(job_id).expires_at == now + 600_000


@pytest.mark.parametrize(("sent", "kept"), [(59_999, 0), (60_000, 60_000), (3_659_000, 3_600_000)])
def test_a_new_time_allocation_loses_its_seconds(
    core: SimulatedCore, client: Provider, job_id: str, sent: int, kept: int
) -> None:
    client.update((job_id, {"newTimeAllocation": sent}))
    assert core.job(job_id).time_allocation == kept


@pytest.mark.parametrize("field", ["status", "outputFolder"])
def test_a_nul_would_have_ended_core(core: SimulatedCore, client: Provider, job_id: str, field: str) -> None:
    assert client.update((job_id, {field: "a\0b"})).status_code == 500
    assert core.protocol_errors == [f"jobs.control.update: Core would have ended: a NUL in items[0].update.{field}"]
    assert core.job(job_id).updates == []


def test_an_unknown_state_is_stored_and_noted(core: SimulatedCore, client: Provider, job_id: str) -> None:
    client.update((job_id, {"state": "CANCELING"}))
    assert core.job(job_id).state == "CANCELING"
    assert "CANCELING" in core.protocol_errors[0]


def test_an_update_inside_create_is_taken_and_noted_because_it_loses_data(
    core: SimulatedCore, client: Provider, provider: FakeProvider
) -> None:
    provider.during = lambda seen: client.update((seen.body["items"][0]["id"], {"state": "RUNNING"}))
    job_id = core.submit(**SLEEPER)
    assert core.job(job_id).state == "RUNNING"
    assert core.protocol_errors == [
        f"jobs.control.update: job {job_id} is updated before its create was answered; Core may lose what it has"
    ]


def test_the_stamp_is_cores_own(core: SimulatedCore, client: Provider, job_id: str, clock: Clock) -> None:
    client.update((job_id, {"status": "x", "timestamp": 5}))
    (update,) = core.job(job_id).updates
    assert update["timestamp"] == int(clock.time * 1000)
    assert update.keys() >= {"newTimeAllocation", "allowRestart", "resourceList"}


# -- what a provider brings ---------------------------------------------------------------------------------------


def brought(**more: Any) -> Json:
    return {"spec": {"product": PRODUCT}, "providerGeneratedId": "s1", "createdBy": "user", "project": None} | more


def test_a_registered_job_is_there_at_once_and_only_once(core: SimulatedCore, client: Provider, job_id: str) -> None:
    (made,) = client.items(REGISTER, brought()).json()["responses"]
    assert (core.job(made["id"]).confirmed, core.job(made["id"]).state) == (True, "IN_QUEUE")
    again = client.items(REGISTER, brought(providerGeneratedId="s2"), brought())
    assert (again.status_code, again.json()["why"]) == (409, "Already exists")
    assert [job.provider_generated_id for job in core.jobs] == [None, "s1", "s2"]  # no transaction
    assert core.protocol_errors == []


@pytest.mark.parametrize("stranger", [{"createdBy": "nobody"}, {"project": "nothing"}])
def test_a_job_of_strangers_would_have_ended_core(core: SimulatedCore, client: Provider, job_id: str, stranger: Json) -> None:
    assert client.items(REGISTER, brought(**stranger)).status_code == 500
    assert "Core would have ended" in core.protocol_errors[0]
    assert len(core.jobs) == 1


def test_a_provider_id_that_create_gives_twice_would_have_ended_core(core: SimulatedCore, provider: FakeProvider) -> None:
    provider.answer("jobs", *[(200, {"responses": [{"id": "7"}]})] * 2)
    core.submit(**SLEEPER)
    with pytest.raises(Exception, match="7"):
        core.submit(**SLEEPER)
    assert "Core would have ended" in core.protocol_errors[0]


def test_a_connection_is_approved_once(core: SimulatedCore, client: Provider, job_id: str) -> None:
    def call(name: str, username: str) -> int:
        return client.post(f"{CONNECTIONS}/{name}", {"username": username}).status_code

    assert [call("approveConnection", "user"), call("clearConnection", "user"), call("clearConnection", "user")] == (
        [200, 200, 200]
    )
    assert call("approveConnection", "user") == 200
    assert core.protocol_errors == []
    assert [call("approveConnection", "user"), call("approveConnection", "stranger")] == [500, 500]
    assert core.protocol_errors == [
        "providers.im.control.approveConnection: Core would have ended: a connection that is there already",
        "providers.im.control.approveConnection: Core would have ended: a connection of a user whom it does not know",
    ]
    assert core.connected == {"user"}


def test_labels_and_keys_of_a_job_are_for_its_provider(core: SimulatedCore, client: Provider) -> None:
    job_id = core.submit(**SLEEPER, project="lab")
    core.directory.add_project("lab", {"user": "PI", "friend": "USER"})
    labels = {"id": job_id, "labels": {"a": "b"}}
    assert client.items("/api/jobs/control/updateLabels", labels).json() == {}
    assert client.retrieve(job_id).json()["specification"]["labels"] == {"a": "b"}
    core.upload_key("user", "mine", "ssh-ed25519 A")
    core.upload_key("friend", "his", "ssh-ed25519 B")
    for owner, titles in ((True, ["mine"]), (False, ["mine", "his"])):
        page = client.post("/api/jobs/control/browseSshKeys", {"jobId": job_id, "owner": owner}).json()
        assert [key["specification"]["title"] for key in page["items"]] == titles
    assert core.protocol_errors == []
