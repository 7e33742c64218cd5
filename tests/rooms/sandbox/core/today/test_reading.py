"""How Core of today reads requests, and what a provider can read from it."""

from typing import Any

import pytest

from tests.conftest import Clock
from tests.rooms.sandbox.core.conftest import SLEEPER, UPDATES, FakeProvider, Json
from tests.rooms.sandbox.core.today.conftest import PRODUCT, Provider
from tests.sandbox.core import SimulatedCore

CHARGES = "/api/jobs/control/chargeCredits"
REPORT = "/api/accounting/v2/reportUsage"


def one(update: Any) -> Json:
    return {"items": [{"id": "54112", "update": update}]}


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        (UPDATES, "[]", "the body is no object"),
        (UPDATES, {"items": {}}, "items is no list"),
        (UPDATES, {"items": [1]}, "items[0] is no object"),
        (UPDATES, {"items": [{"id": 54112}]}, "items[0].id is no str"),
        (UPDATES, one([]), "items[0].update is no object"),
        (UPDATES, one({"timestamp": None}), "items[0].update.timestamp is no whole number; leave it out"),
        (UPDATES, one({"timestamp": 1.6e12}), "items[0].update.timestamp is no whole number; leave it out"),
        (UPDATES, one({"timestamp": "1"}), "items[0].update.timestamp is no whole number; leave it out"),
        (UPDATES, one({"newTimeAllocation": 60000.0}), "items[0].update.newTimeAllocation is no int"),
        (UPDATES, one({"newTimeAllocation": 2**63}), "items[0].update.newTimeAllocation is no int"),
        (UPDATES, one({"newTimeAllocation": True}), "items[0].update.newTimeAllocation is no int"),
        (UPDATES, one({"status": 1}), "items[0].update.status is no str"),
        (UPDATES, one({"expectedDifferentState": 1}), "items[0].update.expectedDifferentState is no bool"),
        (CHARGES, {"items": [{"id": "54112", "chargeId": "x", "periods": 1.0}]}, "items[0].periods is no int"),
        (REPORT, {"items": [{"usage": 5.0}]}, "items[0].usage is no int"),
        ("/api/jobs/control/updateLabels", {"items": [{"labels": {"a": 1}}]}, "items[0].labels.a is no str"),
    ],
)
def test_a_value_of_the_wrong_type_is_a_400_that_does_not_say_which(
    core: SimulatedCore, client: Provider, path: str, body: Any, named: str
) -> None:
    core.submit(**SLEEPER)
    answer = client.send("POST", path, data=body) if isinstance(body, str) else client.post(path, body)
    assert (answer.status_code, answer.json()["why"]) == (400, "Invalid request supplied")
    assert [sentence.partition(": ")[2] for sentence in core.protocol_errors] == [named]
    assert core.jobs[0].updates == []


def test_what_is_no_json_is_a_400(core: SimulatedCore, client: Provider) -> None:
    for text in ("{", "", '{"x": NaN}'):
        assert client.send("POST", UPDATES, data=text).status_code == 400
    assert len(core.protocol_errors) == 3


def test_keys_have_no_case_and_unknown_ones_are_passed_over(core: SimulatedCore, client: Provider) -> None:
    job_id = core.submit(**SLEEPER)
    body = {"ITEMS": [{"Id": job_id, "uPdate": {"State": "RUNNING", "sate": 1}}]}
    assert client.post(UPDATES, body).json() == {}
    assert core.job(job_id).state == "RUNNING"
    assert core.protocol_errors == ["jobs.control.update: ITEMS[0].uPdate.sate is a key that UCloud does not know"]


def test_nulls_are_nothing(core: SimulatedCore, client: Provider) -> None:
    job_id = core.submit(**SLEEPER)
    nulls = dict.fromkeys(("state", "outputFolder", "expectedState", "expectedDifferentState", "newTimeAllocation"))
    assert client.update((job_id, nulls | {"status": "x"})).status_code == 200
    assert client.post(UPDATES, {"items": None}).json() == {}
    assert [update["status"] for update in core.job(job_id).updates] == ["x"]
    assert core.protocol_errors == []


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("POST", UPDATES + "/"),
        ("GET", "/api/jobs/control/browse/"),
        ("GET", UPDATES),
        ("PUT", UPDATES),
        ("POST", "/api/jobs/control/browse"),
        ("POST", "/api/products"),
        ("GET", "/api/products/browse"),
        ("POST", "/api/accounting/v2/registerProviderGift"),
        ("POST", "/api/ssh/control/browse"),
        ("POST", "/api/shares/control/register"),
    ],
)
def test_a_slash_at_the_end_another_verb_and_an_old_call_are_a_404(
    core: SimulatedCore, client: Provider, verb: str, path: str
) -> None:
    assert client.send(verb, path, json={"items": []}).status_code == 404
    assert core.protocol_errors == [f"{verb} {path}: UCloud has no such call"]


def test_slashes_in_the_middle_are_one(core: SimulatedCore, client: Provider) -> None:
    assert client.send("GET", "/api//jobs///control/browse").status_code == 200
    assert core.protocol_errors == []


def test_an_error_begins_with_a_capital(core: SimulatedCore, client: Provider) -> None:
    assert client.send("GET", "/api/jobs/control/retrieve").json()["why"] == "The query has no id"


def test_an_empty_bulk_is_an_empty_object(client: Provider) -> None:
    for path in ("/auth/providers/refresh", "/api/providers/resources/checkExistence", REPORT):
        assert client.post(path, {"items": []}).json() == {}


def test_a_job_that_is_unknown_or_gone_is_a_403(core: SimulatedCore, client: Provider) -> None:
    job_id = core.submit(**SLEEPER)
    core.lose(job_id)
    for id_ in ("1", "x", job_id):
        answer = client.retrieve(id_)
        assert (answer.status_code, answer.json()["why"]) == (403, "Write permission is required")
    assert core.protocol_errors == []


def test_retrieve_sends_nearly_everything_whatever_the_flags_say(core: SimulatedCore, client: Provider) -> None:
    job_id = core.submit(**SLEEPER)
    client.update((job_id, {"state": "RUNNING"}))
    plain = client.retrieve(job_id, includeUpdates="false").json()
    assert plain["status"]["resolvedApplication"]["metadata"]["name"] == "sleeper"
    assert plain["status"]["jobParametersJson"]["request"]["replicas"] == 1
    assert [update["state"] for update in plain["updates"]] == ["RUNNING"]
    assert (plain["status"]["resolvedProduct"], plain["status"]["resolvedSupport"]) == (None, None)
    for flag in ("includeProduct", "includeSupport"):
        assert client.retrieve(job_id, **{flag: "t"}).json()["status"]["resolvedProduct"]["price"] == 1
    assert client.retrieve(job_id, includeProduct="yes").status_code == 400


def test_browse_leaves_out_what_was_not_asked_for(core: SimulatedCore, client: Provider) -> None:
    job_id = core.submit(**SLEEPER)
    client.update((job_id, {"state": "RUNNING"}))
    (job,) = client.browse()["items"]
    assert (job["status"]["resolvedApplication"], job["status"]["jobParametersJson"], job["updates"]) == (None, None, [])
    assert "ucMetricSampleRate" in job["specification"]["parameters"]
    (job,) = client.browse(includeApplication="1", includeParameters="True", includeUpdates="true")["items"]
    assert None not in (job["status"]["resolvedApplication"], job["status"]["jobParametersJson"])
    assert len(job["updates"]) == 1


def test_browse_pages_are_of_any_size_and_end_where_next_is_null(core: SimulatedCore, client: Provider) -> None:
    ids = core.submit_many([SLEEPER] * 6)[::-1]
    first = client.browse(itemsPerPage=4)
    assert ([job["id"] for job in first["items"]], first["itemsPerPage"], first["next"]) == (ids[:4], 4, ids[3])
    rest = client.browse(itemsPerPage=4, next=first["next"])
    assert ([job["id"] for job in rest["items"]], rest["next"]) == (ids[4:], None)
    full = client.browse(itemsPerPage=6)
    assert client.browse(itemsPerPage=6, next=full["next"]) == {"items": [], "itemsPerPage": 6, "next": None}
    sizes = [client.browse(itemsPerPage=size)["itemsPerPage"] for size in (0, -1, 1000, 2000)]
    assert sizes == [50, 50, 1000, 1000]


def test_browse_filters(core: SimulatedCore, client: Provider, provider: FakeProvider, clock: Clock) -> None:
    provider.answer("jobs", (200, {"responses": [{"id": "s1"}]}))
    first = core.submit(**SLEEPER)
    clock.time += 100
    second = core.submit(
        ("acme-batch", "1.0.0"),
        "example-compute-4",
        owner="other",
        parameters={"debug": {"type": "boolean", "value": True}, "value": {"type": "text", "value": "x"}},
    )
    client.update((second, {"state": "RUNNING"}))
    core.set_labels(first, {"a": "b"})
    item = {"spec": {"product": PRODUCT}, "providerGeneratedId": "s3", "createdBy": "user"}
    (third,) = (each["id"] for each in client.items("/api/jobs/control/register", item).json()["responses"])
    later = core.job(second).created_at
    for query, expected in (
        ({"filterState": "RUNNING"}, [second]),
        ({"filterApplication": "acme-batch"}, [second]),
        ({"filterCreatedBy": "other"}, [second]),
        ({"hideProductId": "example-compute-1"}, [second]),
        ({"filterProductCategory": "none"}, []),
        ({"filterLabels.a": "b"}, [first]),
        ({"filterIds": f"{first},1"}, [first]),
        # What create has answered is not there; what was registered is.
        ({"filterProviderIds": "s1,s3"}, [third]),
        ({"filterCreatedAfter": later}, [third, second]),
        ({"filterCreatedBefore": later - 1}, [first]),
        ({"filterState": "", "sortBy": "createdBy", "sortDirection": "ascending"}, [second, first, third]),
    ):
        assert [job["id"] for job in client.browse(**query)["items"]] == expected, query
    assert core.protocol_errors == []


def test_a_job_whose_create_is_under_way_is_browsed_and_retrieved_but_not_there_yet(
    core: SimulatedCore, client: Provider, provider: FakeProvider
) -> None:
    found: list[Any] = []

    def inside(seen: Any) -> None:
        job_id = seen.body["items"][0]["id"]
        found.extend([client.retrieve(job_id).status_code, len(client.browse()["items"]), exists(client, job_id)])

    provider.during = inside
    job_id = core.submit(**SLEEPER)
    assert found == [200, 1, [False]]
    assert exists(client, job_id, "1") == [True, False]
    core.lose(job_id)
    assert exists(client, job_id) == [False]


def exists(client: Provider, *job_ids: str) -> Any:
    items = [{"type": "job", "id": job_id} for job_id in job_ids]
    return client.items("/api/providers/resources/checkExistence", *items).json()["responses"]


def test_only_a_thousand_names_are_looked_up(core: SimulatedCore, client: Provider) -> None:
    names = [{"type": "job", "id": "1"}] * 1001
    assert client.items("/api/providers/resources/checkExistence", *names).status_code == 400
    assert client.items("/api/providers/resources/checkExistence", *names[1:]).status_code == 200
