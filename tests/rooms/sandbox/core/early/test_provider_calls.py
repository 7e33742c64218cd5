"""The other calls that Core makes."""

from collections.abc import Callable

import pytest

from tests.conftest import Clock
from tests.rooms.sandbox.core.conftest import SLEEPER, Client, FakeProvider
from tests.sandbox.core import CORE_2021, CORE_2022, CoreEra, CoreError, SimulatedCore


def test_terminate_is_asked_for_and_changes_nothing_at_core(core: SimulatedCore, provider: FakeProvider, job_id: str) -> None:
    core.terminate(job_id)
    assert [item["id"] for item in provider.at("jobs/terminate")[0].body["items"]] == [job_id]
    assert core.job(job_id).state == "IN_QUEUE"
    with pytest.raises(CoreError) as unknown:
        core.terminate("1")
    assert unknown.value.status == 404


def test_an_acl_changes_only_when_the_provider_agrees(
    core: SimulatedCore, client: Client, provider: FakeProvider, job_id: str
) -> None:
    friend = {"type": "user", "username": "friend#1"}
    entry = {"entity": friend, "permissions": ["READ"]}
    provider.answer("jobs/updateAcl", (400, {"why": "no"}))
    with pytest.raises(CoreError):
        core.update_acl(job_id, added=[entry])
    assert core.job(job_id).acl == []
    core.update_acl(job_id, added=[entry])
    item = provider.at("jobs/updateAcl")[1].body["items"][0]
    assert (item["resource"]["id"], item["added"], item["deleted"]) == (job_id, [entry], [])
    assert client.retrieve(job_id, includeOthers="true").json()["permissions"]["others"] == [entry]
    core.update_acl(job_id, deleted=[friend])
    assert core.job(job_id).acl == []


def test_verify_asks_for_each_living_job_once_in_five_minutes(
    core: SimulatedCore, client: Client, provider: FakeProvider, clock: Clock
) -> None:
    ids = core.submit_many([SLEEPER] * 3)
    client.update((ids[0], {"state": "SUCCESS"}))
    provider.answer("jobs/verify", (200, ""))
    assert core.verify() == ids[1:]
    assert core.verify() == []
    assert len(provider.at("jobs/verify")) == 1
    clock.time += 5 * 60
    assert core.verify() == ids[1:]
    assert core.verify(ids[0]) == [ids[0]]
    core.submit_many([SLEEPER] * 150)
    assert len(core.verify()) == 100
    assert core.protocol_errors == []


@pytest.mark.parametrize("era", [CORE_2021, CORE_2022])
def test_suspend_has_the_shape_of_the_era(
    make_core: Callable[..., SimulatedCore], provider: FakeProvider, era: CoreEra
) -> None:
    core = make_core(era)
    job_id = core.submit(**SLEEPER)
    core.suspend(job_id)
    (item,) = provider.at("jobs/suspend")[0].body["items"]
    assert (item["job"] if era is CORE_2022 else item)["id"] == job_id
    client = Client(core)
    assert client.update((job_id, {"state": "SUSPENDED"})).status_code == (200 if era is CORE_2022 else 400)


def test_more_time_and_sessions_are_asked_for(core: SimulatedCore, provider: FakeProvider, job_id: str) -> None:
    core.extend(job_id, 90)
    item = provider.at("jobs/extend")[0].body["items"][0]
    assert (item["job"]["id"], item["requestedTime"]) == (job_id, {"hours": 1, "minutes": 30, "seconds": 0})
    session = {"type": "shell", "jobId": job_id, "rank": 0, "sessionIdentifier": "x"}
    provider.answer("jobs/interactiveSession", (200, {"responses": [session]}))
    assert core.open_session(job_id) == session
    item = provider.at("jobs/interactiveSession")[0].body["items"][0]
    assert (item["job"]["id"], item["rank"], item["sessionType"]) == (job_id, 0, "SHELL")


def test_support_that_is_no_support_is_noted(core: SimulatedCore, provider: FakeProvider) -> None:
    product = {"id": "example-compute-1", "category": "example-compute", "provider": "example"}
    wrong = [{}, {"product": product}, {"product": product, "docker": {"enabled": 1}, "virtualMachine": {}}]
    provider.answer("jobs/retrieveProducts", (200, {"responses": wrong}), (200, []))
    assert core.retrieve_products() == wrong
    assert len(core.protocol_errors) == 4
    with pytest.raises(CoreError):
        core.retrieve_products()


def test_anything_can_be_sent_to_the_provider(core: SimulatedCore, provider: FakeProvider) -> None:
    provider.answer("jobs/verify", (400, {"why": "what?"}))
    assert core.call("POST", "/ucloud/example/jobs/verify", {"items": []}) == (400, {"why": "what?"})
    core.call("GET", "/elsewhere", token=None)
    core.call("POST", "/ucloud/example/jobs", b"[1]", user="u", token="mine")
    first, second, third = provider.seen
    assert first.headers["Authorization"].startswith("Bearer ey")
    assert "Authorization" not in second.headers
    assert (third.headers["Authorization"], third.headers["Ucloud-Username"], third.body) == ("Bearer mine", "u", [1])
    assert [exchange.call for exchange in core.exchanges] == [
        "jobs.provider.example.verify",
        "GET /elsewhere",
        "jobs.provider.example.create",
    ]
