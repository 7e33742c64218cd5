"""What Core of today does with updates, and with jobs and connections that a provider brings."""

from contextlib import suppress
from typing import Any

import pytest
import requests

from tests.conftest import Clock
from tests.rooms.sandbox.core.conftest import SLEEPER, FakeProvider, Json
from tests.rooms.sandbox.core.today.conftest import PRODUCT, Provider
from tests.sandbox.core import SimulatedCore
from tests.sandbox.core.errors import CoreError

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
def test_a_nul_ends_core_and_nothing_is_answered_any_more(
    core: SimulatedCore, client: Provider, job_id: str, field: str
) -> None:
    with pytest.raises(requests.ConnectionError):
        client.update((job_id, {field: "a\0b"}))
    assert core.ended == f"jobs.control.update: a NUL in items[0].update.{field}"
    assert core.protocol_errors == [f"jobs.control.update: Core has ended: a NUL in items[0].update.{field}"]
    with pytest.raises(requests.ConnectionError):
        client.update((job_id, {"status": "is anybody there?"}))
    core.stop()
    core.start()
    assert core.ended is not None, "no start forgets it"
    assert core.job(job_id).updates == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/accounting/v2/reportUsage", {"owner": {"type": "user", "username": ""}}),
        (
            "/api/accounting/v2/reportUsage",
            {"owner": {"type": "user", "username": "user"}, "description": {"scope": "x" * 3000}},
        ),
        ("/api/jobs/control/register", {"spec": {"replicas": 2**31}, "createdBy": "user"}),
        ("/api/jobs/control/register", {"createdBy": "user", "providerGeneratedId": "x" * 3000}),
        ("/api/providers/resources/checkExistence", {"type": "job\0", "id": "1"}),
    ],
)
def test_what_no_column_and_no_index_holds_ends_core(
    core: SimulatedCore, client: Provider, job_id: str, path: str, body: Json
) -> None:
    body = brought(**body) | {"spec": {"product": PRODUCT} | body.get("spec", {})} if "register" in path else body
    with pytest.raises(requests.ConnectionError):
        client.items(path, body)
    assert core.ended is not None


@pytest.mark.parametrize("answer", [200, 500])
def test_a_connection_that_the_provider_makes_while_core_ends_it_ends_core(
    core: SimulatedCore, client: Provider, provider: FakeProvider, job_id: str, answer: int
) -> None:
    client.post(f"{CONNECTIONS}/approveConnection", {"username": "user"})
    provider.answer("integration/unlinked", (answer, {"why": "later"} if answer == 500 else {}))
    provider.during = lambda _: client.post(f"{CONNECTIONS}/approveConnection", {"username": "user"})
    with suppress(CoreError):
        core.unlink("user")
    assert (core.ended is not None) is (answer == 500)


def test_a_refused_end_of_a_connection_makes_it_again(
    core: SimulatedCore, client: Provider, provider: FakeProvider, job_id: str
) -> None:
    client.post(f"{CONNECTIONS}/approveConnection", {"username": "user"})
    provider.answer("integration/unlinked", (500, {"why": "later"}))
    with pytest.raises(CoreError):
        core.unlink("user")
    assert core.connected == {"user"}
    assert core.ended is None


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
def test_a_job_of_strangers_ends_core(core: SimulatedCore, client: Provider, job_id: str, stranger: Json) -> None:
    with pytest.raises(requests.ConnectionError):
        client.items(REGISTER, brought(**stranger))
    assert core.ended is not None
    assert len(core.jobs) == 1


def test_a_provider_id_that_create_gives_twice_ends_core(core: SimulatedCore, provider: FakeProvider) -> None:
    provider.answer("jobs", *[(200, {"responses": [{"id": "7"}]})] * 2)
    core.submit(**SLEEPER)
    with pytest.raises(Exception, match="7"):
        core.submit(**SLEEPER)
    assert core.ended is not None


def test_a_connection_is_approved_once(core: SimulatedCore, client: Provider, job_id: str) -> None:
    def call(name: str, username: str) -> int:
        return client.post(f"{CONNECTIONS}/{name}", {"username": username}).status_code

    assert [call("approveConnection", "user"), call("clearConnection", "user"), call("clearConnection", "user")] == (
        [200, 200, 200]
    )
    assert call("approveConnection", "user") == 200
    assert core.protocol_errors == []
    assert core.connected == {"user"}


@pytest.mark.parametrize(
    ("username", "why"),
    [("user", "a connection that is there already"), ("stranger", "a connection of a user whom it does not know")],
)
def test_a_second_connection_and_a_strangers_end_core(
    core: SimulatedCore, client: Provider, job_id: str, username: str, why: str
) -> None:
    client.post(f"{CONNECTIONS}/approveConnection", {"username": "user"})
    with pytest.raises(requests.ConnectionError):
        client.post(f"{CONNECTIONS}/approveConnection", {"username": username})
    assert core.ended == f"providers.im.control.approveConnection: {why}"
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
