"""Core asks a provider to create jobs, and takes back what it refuses."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Clock
from tests.rooms.sandbox.core.conftest import PRICE, SLEEPER, Client, FakeProvider, Json, Seen, charge
from tests.sandbox.core import CORE_2021, CORE_2022, CoreEra, CoreError, SimulatedCore


def test_a_job_has_every_key_that_ucloud_sends(core: SimulatedCore, provider: FakeProvider) -> None:
    values = {"seconds": {"type": "integer", "value": 3}}
    job_id = core.submit(**SLEEPER, parameters=values, name="my job", minutes=90)
    (request,) = provider.at("jobs")
    (job,) = request.body["items"]
    assert request.method == "POST"
    assert (job["id"], job["owner"]) == (job_id, {"createdBy": "user", "project": None})
    assert job["createdAt"] == 1_633_329_776_235
    assert job["specification"] == {
        "application": {"name": "sleeper", "version": "1.0.0"},
        "product": {"id": "example-compute-1", "category": "example-compute", "provider": "example"},
        "name": "my job",
        "replicas": 1,
        "allowDuplicateJob": True,
        "parameters": values,
        "resources": [],
        "timeAllocation": {"hours": 1, "minutes": 30, "seconds": 0},
    }
    status = job["status"]
    assert (status["state"], status["startedAt"], status["expiresAt"]) == ("IN_QUEUE", None, None)
    assert status["resolvedApplication"]["invocation"]["tool"]["tool"]["description"]["backend"] == "NATIVE"
    assert status["resolvedProduct"]["unitOfPrice"] == "CREDITS_PER_MINUTE"
    assert {"resolvedSupport", "jobParametersJson"} <= status.keys()
    # deprecated, and still sent
    assert {key: job[key] for key in ("updates", "output", "permissions", "acl", "billing")} == {
        "updates": [],
        "output": None,
        "permissions": None,
        "acl": None,
        "billing": {},
    }
    assert core.job(job_id).confirmed


def test_a_job_may_come_without_its_application(core: SimulatedCore, provider: FakeProvider) -> None:
    core.include_resolved = False
    core.submit(**SLEEPER)
    status = provider.at("jobs")[0].body["items"][0]["status"]
    assert status["resolvedApplication"] is None
    assert status["resolvedProduct"] is None


@pytest.mark.parametrize(
    ("era", "told", "duration"), [(CORE_2021, 1, {"hours": None, "minutes": None, "seconds": None}), (CORE_2022, 3, None)]
)
def test_core_of_2021_loses_replicas_and_empties_durations(
    make_core: Callable[..., SimulatedCore], provider: FakeProvider, era: CoreEra, told: int, duration: Json | None
) -> None:
    make_core(era).submit(**SLEEPER, replicas=3, minutes=None)
    job = provider.at("jobs")[0].body["items"][0]
    assert job["specification"]["replicas"] == told
    assert job["specification"]["timeAllocation"] == duration
    assert job["status"]["jobParametersJson"]["request"]["replicas"] == 3


def test_submit_rolls_back_when_the_provider_refuses(core: SimulatedCore, client: Client, provider: FakeProvider) -> None:
    kept = core.submit(**SLEEPER)
    provider.answer("jobs", (400, {"why": "Too many nodes", "errorCode": None}))
    with pytest.raises(CoreError, match="Too many nodes") as refused:
        core.submit(**SLEEPER)
    gone = provider.at("jobs")[1].body["items"][0]["id"]
    assert refused.value.status == 400
    assert [job.id for job in core.jobs] == [kept]
    assert client.retrieve(gone).status_code == 404
    assert client.update((gone, {"state": "RUNNING"})).status_code == 400
    assert core.submit(**SLEEPER) not in (kept, gone)


@pytest.mark.parametrize(
    "answer", ["no JSON", {"responses": {}}, {"responses": [{"id": "a,b"}]}, {"responses": [{}]}, {"responses": [{"id": 7}]}]
)
def test_nonsense_from_the_provider_is_a_502_and_leaves_no_job(
    core: SimulatedCore, provider: FakeProvider, answer: Any
) -> None:
    provider.answer("jobs", (200, answer))
    with pytest.raises(CoreError) as refused:
        core.submit(**SLEEPER)
    assert refused.value.status == 502
    assert core.jobs == []


def test_too_few_responses_are_taken_and_noted(core: SimulatedCore, provider: FakeProvider) -> None:
    provider.answer("jobs", (200, {"responses": [{"id": "slurm-1"}]}))
    first, second = core.submit_many([SLEEPER, SLEEPER])
    assert core.job(first).provider_generated_id == "slurm-1"
    assert core.job(second).provider_generated_id is None
    assert core.protocol_errors == ["jobs.provider.example.create: 1 responses came for 2 items"]


def test_a_provider_id_belongs_to_one_job(core: SimulatedCore, provider: FakeProvider) -> None:
    provider.answer("jobs", (200, {"responses": [{"id": "7"}]}), (200, {"responses": [{"id": "7"}]}))
    first = core.submit(**SLEEPER)
    with pytest.raises(CoreError) as refused:
        core.submit(**SLEEPER)
    assert refused.value.status == 502
    assert [job.id for job in core.jobs] == [first]


def test_a_provider_that_is_away_or_slow_is_a_502_and_leaves_no_job(
    make_core: Callable[..., SimulatedCore], provider: FakeProvider
) -> None:
    core = make_core(timeout=0.1)
    provider.during = lambda _: time.sleep(0.3)
    with pytest.raises(CoreError) as slow:
        core.submit(**SLEEPER)
    core.connect("http://127.0.0.1:1")
    with pytest.raises(CoreError) as away:
        core.submit(**SLEEPER)
    assert (slow.value.status, away.value.status) == (502, 502)
    assert core.jobs == []
    assert [(exchange.status, exchange.delivered) for exchange in core.exchanges] == [(0, False)] * 2


def test_nobody_without_credits_gets_a_job(core: SimulatedCore, provider: FakeProvider) -> None:
    core.wallets.set("poor", PRICE - 1)
    core.wallets.set("rich", PRICE)
    with pytest.raises(CoreError) as refused:
        core.submit(**SLEEPER, owner="poor")
    assert refused.value.status == 402
    with pytest.raises(CoreError):
        core.submit(**SLEEPER, owner="rich", project="poor")
    assert provider.seen == []
    core.submit(**SLEEPER, owner="poor", project="rich")


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"application": ("sleeper", "2")}, "Unknown application"),
        ({"product": "other"}, "Unknown product"),
        ({"parameters": {"seconds": {"type": "text", "value": "1"}}}, "Bad value for 'seconds'"),
        ({"parameters": {"x": {"type": "text", "value": "1"}}}, "no parameter 'x'"),
        ({"application": ("hello", "1.0.0")}, "Missing value for 'text'"),
        ({"name": "a/b"}, "name"),
        ({"replicas": 0}, "replicas"),
        ({"minutes": 0}, "too short"),
        ({"time_allocation": {"hours": 1, "minutes": 60}}, "time allocation"),
    ],
)
def test_core_refuses_what_a_provider_need_not_see(core: SimulatedCore, provider: FakeProvider, wrong: Json, why: str) -> None:
    with pytest.raises(CoreError, match=why) as refused:
        core.submit(**(SLEEPER | wrong))
    assert refused.value.status == 400
    assert provider.seen == []


def test_a_bulk_is_one_request_and_all_or_nothing(core: SimulatedCore, provider: FakeProvider) -> None:
    ids = core.submit_many([SLEEPER, SLEEPER | {"minutes": 5}])
    assert [job["id"] for job in provider.at("jobs")[0].body["items"]] == ids
    provider.answer("jobs", (400, {"why": "no"}))
    with pytest.raises(CoreError):
        core.submit_many([SLEEPER, SLEEPER])
    assert [job.id for job in core.jobs] == ids


def test_a_job_can_be_told_about_inside_create_but_is_not_browsed(
    core: SimulatedCore, client: Client, provider: FakeProvider
) -> None:
    found: list[Any] = []

    def inside(seen: Seen) -> None:
        job_id = seen.body["items"][0]["id"]
        found.extend(
            [
                client.update((job_id, {"state": "RUNNING"})).status_code,
                client.charge(charge(job_id)).status_code,
                client.retrieve(job_id).json()["status"]["state"],
                client.browse()["items"],
            ]
        )

    provider.during = inside
    job_id = core.submit(**SLEEPER)
    assert found == [200, 200, "RUNNING", []]
    assert [job["id"] for job in client.browse()["items"]] == [job_id]


def test_support_is_asked_for_once_in_a_quarter_of_an_hour_and_decides(
    core: SimulatedCore, provider: FakeProvider, clock: Clock
) -> None:
    def supports(name: str, **docker: bool | None) -> Json:
        product = {"id": name, "category": "example-compute", "provider": "example"}
        return {"product": product, "docker": docker, "virtualMachine": {"enabled": None}}

    core.capabilities.checked = True
    app = core.catalogue.application("sleeper", "1.0.0")
    assert app is not None
    container = json.loads(json.dumps(app))
    container["metadata"]["version"] = "docker"
    container["invocation"]["tool"]["tool"]["description"]["backend"] = "DOCKER"
    core.catalogue.add_application(container)
    docker = SLEEPER | {"application": ("sleeper", "docker")}
    said = (200, {"responses": [supports("example-compute-1", enabled=None), supports("not sold")]})
    provider.answer("jobs/retrieveProducts", said, (200, {"responses": [supports("example-compute-1", enabled=True)]}))

    core.submit(**SLEEPER)
    with pytest.raises(CoreError) as unsupported:
        core.submit(**docker)
    with pytest.raises(CoreError) as unheard:
        core.submit(**(SLEEPER | {"product": "example-compute-4"}))
    assert (unsupported.value.status, unsupported.value.error_code) == (400, "FEATURE_NOT_SUPPORTED_BY_PROVIDER")
    assert unheard.value.status == 502
    assert len(provider.at("jobs/retrieveProducts")) == 1
    assert provider.at("jobs")[0].body["items"][0]["status"]["resolvedSupport"]["support"] == said[1]["responses"][0]
    clock.time += 15 * 60
    core.submit(**docker)
    assert len(provider.at("jobs/retrieveProducts")) == 2
    assert core.protocol_errors == []
