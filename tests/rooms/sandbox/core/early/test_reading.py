"""What a provider can read from Core."""

import requests

from tests.conftest import Clock
from tests.rooms.sandbox.core.conftest import SLEEPER, Client, FakeProvider, Json
from tests.sandbox.core import SimulatedCore


def test_retrieve_sends_what_was_asked_for(core: SimulatedCore, client: Client, job_id: str) -> None:
    plain = client.retrieve(job_id, includeProduct="yes").json()
    assert plain["status"]["resolvedProduct"] is None
    assert plain["status"]["resolvedApplication"]["metadata"]["name"] == "sleeper"
    assert plain["permissions"] == {"myself": ["PROVIDER"], "others": None}
    full = client.retrieve(job_id, includeProduct="true", includeOthers="true", unknown="x").json()
    assert full["status"]["resolvedProduct"]["name"] == "example-compute-1"
    assert "type" not in full["status"]["resolvedProduct"]
    assert full["permissions"]["others"] == []
    assert client.send("GET", "/api/jobs/control/retrieve/", params={"id": job_id}).status_code == 200
    assert client.retrieve("1").status_code == 404


def test_browse_comes_in_pages_until_next_is_null(core: SimulatedCore, client: Client) -> None:
    ids = core.submit_many([SLEEPER] * 20)
    page = client.browse(itemsPerPage=10, sortDirection="ascending")
    found = [job["id"] for job in page["items"]]
    assert (page["itemsPerPage"], len(found)) == (10, 10)
    page = client.browse(itemsPerPage=10, sortDirection="ascending", next=page["next"])
    assert found + [job["id"] for job in page["items"]] == ids
    assert page["next"] is None
    assert client.browse(itemsPerPage=7)["itemsPerPage"] == 50
    assert [job["id"] for job in client.browse()["items"]] == ids[::-1]
    assert client.send("GET", "/api/jobs/control/browse?next=abc").status_code == 400
    assert client.send("GET", "/api/jobs/control/browse?itemsToSkip=-1").status_code == 400


def test_browse_filters(core: SimulatedCore, client: Client, provider: FakeProvider, clock: Clock) -> None:
    provider.answer("jobs", (200, {"responses": [{"id": "s1"}]}))
    first = core.submit(**SLEEPER)
    clock.time += 100
    second = core.submit(("sleeper", "1.0.0"), "example-compute-4", owner="other")
    client.update((second, {"state": "RUNNING"}))
    later = core.job(second).created_at
    for query, expected in (
        ({"filterState": "running"}, [second]),
        ({"filterState": "IN_QUEUE"}, [first]),
        ({"filterCreatedBy": "other"}, [second]),
        ({"filterProductId": "example-compute-1"}, [first]),
        ({"filterProvider": "nobody"}, []),
        ({"filterIds": f"{first},1"}, [first]),
        ({"filterProviderIds": "s1,s2"}, [first]),
        ({"filterCreatedAfter": later}, [second]),
        ({"filterCreatedBefore": later - 1}, [first]),
        ({"filterApplication": "hello"}, [second, first]),
        ({"sortBy": "state", "sortDirection": "ascending"}, [first, second]),
    ):
        assert [job["id"] for job in client.browse(**query)["items"]] == expected, query


def test_products_are_found_by_name_and_priced_by_their_latest_version(core: SimulatedCore, client: Client) -> None:
    core.catalogue.add_product({"name": "example-compute-1", "pricePerUnit": 5})
    query = {"filterName": "example-compute-1", "filterCategory": "example-compute", "filterProvider": "example"}
    found = client.send("GET", "/api/products/retrieve", params=query).json()
    assert (found["type"], found["version"], found["pricePerUnit"], found["memoryInGigs"]) == ("compute", 2, 5, 1)
    missing = client.send("GET", "/api/products/retrieve", params=query | {"filterProvider": "other"})
    assert missing.status_code == 404
    assert client.send("GET", "/api/products/retrieve", None, params=query).status_code == 401
    public = client.send("GET", "/api/products/browse", None, params={"filterArea": "COMPUTE"}).json()
    assert [product["name"] for product in public["items"]] == ["example-compute-1", "example-compute-4"]
    assert public["items"][1]["cpu"] == 4


def test_jobs_of_the_provider_are_registered_once(core: SimulatedCore, client: Client) -> None:
    spec = {
        "application": {"name": "unknown", "version": "unknown"},
        "product": {"id": "example-compute-1", "category": "example-compute", "provider": "example"},
        "parameters": {},
        "resources": [],
    }

    def register(spec: Json, generated: str | None = "slurm/1") -> requests.Response:
        item = {"spec": spec, "providerGeneratedId": generated, "createdBy": "user", "project": None}
        return client.send("POST", "/api/jobs/control/register", json={"items": [item]})

    answers = [register(spec).json() for _ in range(2)]
    assert answers[0] == answers[1] == {"responses": [{"id": core.jobs[0].id}]}
    assert client.browse()["items"][0]["owner"]["createdBy"] == "user"
    other = spec | {"product": {"id": "example-compute-1", "category": "example-compute", "provider": "other"}}
    assert (register(other).status_code, register(other).json()["why"]) == (400, "Unable to use all requested resources")
    assert register(spec, "a,b").status_code == 400
    assert register(spec | {"application": {"name": "x", "version": "1"}}).status_code == 400
    assert len(core.jobs) == 1


def test_a_connection_is_approved_as_often_as_you_like(core: SimulatedCore, client: Client) -> None:
    for _ in range(2):
        path = "/api/providers/integration/control/approveConnection"
        assert client.send("POST", path, json={"username": "user#1"}).json() == {}
    assert core.connected == {"user#1"}
