"""Jobs as Core of today writes them, and what it refuses before a provider hears of it."""

import json
from typing import Any

import pytest

from tests.rooms.sandbox.core.conftest import SLEEPER, Client, FakeProvider, Json
from tests.rooms.sandbox.core.today.conftest import PRODUCT, SUPPORT, Provider
from tests.sandbox.core import CORE_2022, CoreError, SimulatedCore

GREETER: Json = {"application": ("greeter", "1.0.0"), "product": "example-compute-1"}
TEXT: Json = {"text": {"type": "text", "value": "x"}}
VALUE_KEYS = {
    "type",
    "path",
    "mountPath",
    "readOnly",
    "value",
    "hostname",
    "jobId",
    "id",
    "specification",
    "modules",
    "port",
    "tls",
    "server",
    "token",
    "tokenType",
}


def created(provider: FakeProvider) -> Json:
    job: Json = provider.at("jobs")[-1].body["items"][0]
    return job


def test_a_job_has_these_keys_and_no_others(core: SimulatedCore, provider: FakeProvider) -> None:
    provider.answer("jobs/retrieveProducts", (200, {"responses": [SUPPORT]}))
    provider.answer("jobs", (200, {"responses": [{"id": "slurm-1"}]}))
    core.poll()
    job_id = core.submit(**SLEEPER, minutes=90)
    job = created(provider)
    assert job.keys() == {"id", "createdAt", "owner", "permissions", "updates", "specification", "status", "output"}
    assert job["output"] == {"outputFolder": None}
    assert job["permissions"] == {"myself": ["PROVIDER"], "others": []}
    assert job["specification"] == {
        "product": PRODUCT,
        "labels": None,
        "application": {"name": "sleeper", "version": "1.0.0"},
        "hostname": None,
        "replicas": 1,
        "allowDuplicateJob": False,
        "parameters": {"ucMetricSampleRate": job["specification"]["parameters"]["ucMetricSampleRate"]},
        "resources": None,
        "timeAllocation": {"hours": 1, "minutes": 30, "seconds": 0},
    }
    status = job["status"]
    assert status.keys() == {
        "state",
        "jobParametersJson",
        "startedAt",
        "expiresAt",
        "resolvedApplication",
        "resolvedProduct",
        "resolvedSupport",
        "allowRestart",
    }
    assert (status["resolvedProduct"]["price"], status["resolvedProduct"]["pricePerUnit"]) == (1, 0)
    assert status["resolvedProduct"]["type"] == "compute"
    assert status["resolvedSupport"]["support"] == SUPPORT
    assert status["resolvedSupport"]["features"] == ["jobs.native.enabled", "jobs.native.logs", "jobs.native.extension"]
    core.terminate(job_id)
    assert provider.at("jobs/terminate")[0].body["items"][0]["providerGeneratedId"] == "slurm-1"


def folder(core: SimulatedCore) -> str:
    return f"/{core.drives.add('Home', {'id': 'files', 'category': 'files', 'provider': 'example'}, 'user').id}"


def test_every_value_has_all_fifteen_keys(core: SimulatedCore, provider: FakeProvider) -> None:
    core.submit(**GREETER, parameters=TEXT, resources=[{"type": "file", "path": f"{folder(core)}/a", "readOnly": True}])
    spec = created(provider)["specification"]
    values = [*spec["parameters"].values(), *spec["resources"]]
    assert [value.keys() for value in values] == [VALUE_KEYS] * 3
    assert (spec["parameters"]["text"]["value"], spec["resources"][0]["path"]) == ("x", f"/{core.drives.all()[0].id}/a")
    rate = spec["parameters"]["ucMetricSampleRate"]
    assert (rate["type"], rate["value"]) == ("text", "0ms")


@pytest.mark.parametrize(("name", "kinds"), [("greeter", ["jinja"]), ("hello", ["word", "word", "word", "word", "var", "var"])])
def test_parameters_and_elements_of_an_application_have_the_keys_of_all_kinds(
    core: SimulatedCore, provider: FakeProvider, name: str, kinds: list[str]
) -> None:
    core.submit((name, "1.0.0"), "example-compute-1", TEXT)
    invocation = created(provider)["status"]["resolvedApplication"]["invocation"]
    assert [element["type"] for element in invocation["invocation"]] == kinds
    assert all({"word", "variableNames", "template", "flag"} <= element.keys() for element in invocation["invocation"])
    for entry in invocation["parameters"]:
        assert entry.keys() >= {"defaultValue", "min", "trueValue", "options", "optional"}
    assert {"sbatch"} <= invocation.keys()
    assert "loadInstructions" in invocation["tool"]["tool"]["description"]


def test_defaults_are_not_filled_in(core: SimulatedCore, provider: FakeProvider) -> None:
    core.submit(**SLEEPER, minutes=None)
    spec = created(provider)["specification"]
    assert ("seconds" in spec["parameters"], spec["timeAllocation"]) == (False, None)


def test_an_application_that_has_vanished_is_an_empty_one(core: SimulatedCore, client: Provider) -> None:
    job_id = core.submit(**SLEEPER)
    core.catalogue.remove_application("sleeper", "1.0.0")
    assert client.retrieve(job_id).json()["status"]["resolvedApplication"]["metadata"]["name"] == ""


def test_tokens_of_servers_come_with_create_and_never_again(
    core: SimulatedCore, client: Provider, provider: FakeProvider
) -> None:
    secret = {"type": "api_server", "server": "s", "token": "t"}
    job_id = core.submit(**SLEEPER, resources=[secret, {"type": "file", "path": folder(core)}])
    assert [value["token"] for value in created(provider)["specification"]["resources"]] == ["t", ""]
    assert [value["path"] for value in client.retrieve(job_id).json()["specification"]["resources"]] == [
        f"/{core.drives.all()[0].id}"
    ]


def test_others_come_with_create_and_not_with_terminate(core: SimulatedCore, provider: FakeProvider) -> None:
    job_id = core.submit(**SLEEPER)
    core._jobs.change_acl(job_id, [{"entity": {}, "permissions": []}])
    core.terminate(job_id)
    core.set_labels(job_id, {"a": "b"})
    jobs = [provider.at(f"jobs/{path}")[0].body["items"][0] for path in ("terminate", "onUpdatedLabels")]
    assert [len(job["permissions"]["others"]) for job in jobs] == [0, 1]


@pytest.mark.parametrize(("name", "kept"), [("  a/b <i>\n ", "a/b <i>"), ("x" * 1024, "x" * 1024), ("", None), (" ", None)])
def test_a_name_is_any_text(core: SimulatedCore, provider: FakeProvider, name: str, kept: str | None) -> None:
    core.submit(**SLEEPER, name=name)
    assert created(provider)["specification"].get("name") == kept


def test_a_name_has_an_end(core: SimulatedCore) -> None:
    with pytest.raises(CoreError):
        core.submit(**SLEEPER, name="x" * 1025)


def test_a_parameter_that_nobody_declared_is_asked_for(core: SimulatedCore, provider: FakeProvider) -> None:
    more = {"x": {"type": "text", "value": "1"}, "_injected_y": {"type": "text", "value": "2"}}
    provider.answer(
        "jobs/requestDynamicParameters",
        (200, {"parameters": [{"type": "text", "name": "x", "title": "X", "optional": True}]}),
        (200, {"parameters": []}),
        (500, {"why": "broken"}),
        (200, {"parameters": []}),
    )
    core.submit(**SLEEPER, parameters=more)
    asked = provider.at("jobs/requestDynamicParameters")[0].body
    assert asked["owner"] == {"createdBy": "user", "project": None}
    assert asked["application"]["metadata"]["name"] == "sleeper"
    with pytest.raises(CoreError, match="no parameter 'x'") as unknown:
        core.submit(**SLEEPER, parameters=more)
    with pytest.raises(CoreError, match="broken") as broken:
        core.submit(**SLEEPER, parameters=more)
    assert (unknown.value.status, broken.value.status) == (400, 502)
    core.submit(**SLEEPER, parameters={"_injected_y": more["_injected_y"]})  # needs no declaration, and yet it is asked for
    assert len(provider.at("jobs/requestDynamicParameters")) == 4
    assert core.protocol_errors == []


def test_a_form_needs_a_list(core: SimulatedCore, provider: FakeProvider) -> None:
    provider.answer(
        "jobs/requestDynamicParameters", (200, {"parameters": []}), (200, {"parameters": None}), (200, {"parameters": {}})
    )
    assert core.open_form(("sleeper", "1.0.0")) == []
    assert core.protocol_errors == []
    core.open_form(("sleeper", "1.0.0"))
    with pytest.raises(CoreError):
        core.open_form(("sleeper", "1.0.0"))
    assert len(core.protocol_errors) == 2


@pytest.mark.parametrize("lost", [(500, {}), (200, "no JSON")])
def test_a_create_that_fails_leaves_no_job_and_perhaps_an_orphan(
    core: SimulatedCore, client: Provider, provider: FakeProvider, lost: Any
) -> None:
    provider.answer("jobs", lost)
    with pytest.raises(CoreError):
        core.submit(**SLEEPER)
    assert core.jobs == []
    job_id = created(provider)["id"]
    names = {"items": [{"type": "job", "id": job_id}]}
    assert client.post("/api/providers/resources/checkExistence", names).json() == {"responses": [False]}


# -- features -----------------------------------------------------------------------------------------------------


def with_backend(core: SimulatedCore, backend: str) -> Json:
    app = json.loads(json.dumps(core.catalogue.application("sleeper", "1.0.0")))
    app["metadata"]["version"] = backend
    app["invocation"]["tool"]["tool"]["description"]["backend"] = backend
    core.catalogue.add_application(app)
    return SLEEPER | {"application": ("sleeper", backend)}


def test_the_block_of_the_backend_decides(core: SimulatedCore, provider: FakeProvider) -> None:
    core.capabilities.checked = True
    unknown = SUPPORT | {"product": PRODUCT | {"id": "x"}}
    provider.answer("jobs/retrieveProducts", (200, {"responses": [SUPPORT, unknown]}))
    job_id = core.submit(**SLEEPER)
    core.extend(job_id, 5)
    refused = []
    for call in (
        lambda: core.submit(**with_backend(core, "DOCKER")),
        lambda: core.submit(**with_backend(core, "SINGULARITY")),
        lambda: core.submit(**with_backend(core, "UCX")),
        lambda: core.submit(**(SLEEPER | {"product": "example-compute-4"})),
        lambda: core.open_session(job_id, 0, "SHELL"),
        lambda: core.open_session(job_id, 0, "WEB"),
    ):
        with pytest.raises(CoreError) as error:
            call()
        refused.append((error.value.status, error.value.why))
    assert refused == [
        (400, "Not supported"),
        (400, "Unsupported application"),
        (400, "Unsupported application"),
        (400, "Bad machine type"),
        (400, "Not supported"),
        (400, "Not supported"),
    ]
    assert len(provider.at("jobs/retrieveProducts")) == 1


def test_the_last_good_answer_stays_in_force_and_a_missing_product_is_gone(
    core: SimulatedCore, provider: FakeProvider, clock: Any
) -> None:
    core.capabilities.checked = True
    good = (200, {"responses": [SUPPORT]})
    provider.answer(
        "jobs/retrieveProducts", good, (500, {}), (200, {"responses": [{"product": PRODUCT, "native": 1}]}), (200, {})
    )
    for _ in range(3):
        core.submit(**SLEEPER)
        clock.time += 10
    assert core.protocol_errors == ["jobs.provider.example.retrieveProducts: responses[0].native is no object"]
    with pytest.raises(CoreError, match="Bad machine type"):
        core.submit(**SLEEPER)


@pytest.mark.parametrize(
    ("element", "named"),
    [
        ({"product": PRODUCT | {"id": 1}}, "responses[0] has no product"),
        (SUPPORT | {"docker": {"logs": "yes"}}, "responses[0].docker has a flag that is neither true, false nor null"),
        (SUPPORT | {"native": {"utilization": True}}, "responses[0].native.utilization is a key that UCloud does not know"),
        (SUPPORT | {"queueStatus": "LONG"}, "responses[0].queueStatus is none of AVAILABLE, BUSY and FULL"),
    ],
)
def test_support_that_is_none_is_noted(core: SimulatedCore, provider: FakeProvider, element: Json, named: str) -> None:
    provider.answer("jobs/retrieveProducts", (200, {"responses": [element]}))
    provider.answer("integration/retrieveManifest", (200, {"enabled": False}))
    core.poll()
    assert core.protocol_errors == [f"jobs.provider.example.retrieveProducts: {named}"]


def test_older_eras_send_what_they_sent(make_core: Any, provider: FakeProvider) -> None:
    core = make_core(CORE_2022)
    job_id = core.submit(**SLEEPER)
    assert {"acl", "billing"} <= created(provider).keys()
    assert created(provider)["specification"]["parameters"] == {}
    assert provider.at("jobs")[0].headers["Content-Type"].startswith("application/json")
    assert Client(core).retrieve(job_id).status_code == 200
    for call in (core.poll, lambda: core.set_labels(job_id, {}), lambda: core.upload_key("user", "a", "b")):
        with pytest.raises(CoreError, match="404"):
            call()
