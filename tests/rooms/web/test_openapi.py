"""The description of the calls: valid, whole, and readable."""

import re
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator, validate

from tests.conftest import Open
from ucloud_slurm.app import create_app
from ucloud_slurm.web import calls

BASE = "/ucloud/example/"


@pytest.fixture
def description(open_provider: Open) -> Any:
    return create_app(provider=open_provider()).test_client().get("/openapi.json").json


def test_the_description_is_valid_openapi(description: Any) -> None:
    validate(description, cls=OpenAPIV31SpecValidator)


def test_every_declared_call_is_described(open_provider: Open, description: Any) -> None:
    declared = calls.declare(open_provider()).declared
    assert {(each.verb.lower(), BASE + each.path) for each in declared} == _described(description)


def test_every_http_route_below_the_providers_path_is_described(open_provider: Open, description: Any) -> None:
    rules = create_app(provider=open_provider()).url_map.iter_rules()
    served = {
        (verb.lower(), rule.rule)
        for rule in rules
        if rule.rule.startswith(BASE) and not rule.websocket and not rule.endpoint.startswith("link.")  # a page
        for verb in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert served == _described(description)


def _described(description: Any) -> set[tuple[str, str]]:
    return {(verb, path) for path, verbs in description["paths"].items() for verb in verbs}


def test_every_call_but_welcome_asks_for_a_token(description: Any) -> None:
    public = {path for path, verbs in description["paths"].items() for call in verbs.values() if not call["security"]}
    assert public == {f"{BASE}integration/welcome"}


def test_calls_that_are_always_refused_promise_nothing(description: Any) -> None:
    refused = {
        (verb, path.removeprefix(BASE))
        for path, verbs in description["paths"].items()
        for verb, call in verbs.items()
        if set(call["responses"]) == {"default"}
    }
    assert refused == {
        ("delete", "jobs"),
        ("post", "integration/welcome"),
        ("post", "jobs/attachResource"),
        ("post", "jobs/detachResource"),
        ("post", "jobs/openTerminalInFolder"),
    }


def test_what_may_be_absent_may_be_null(description: Any) -> None:
    types = description["components"]["schemas"]
    for field in ("name", "replicas", "parameters", "resources", "timeAllocation"):
        assert {"type": "null"} in types["JobSpecification"]["properties"][field]["anyOf"], field
    assert types["JobSpecification"]["properties"]["product"] == {"$ref": "#/components/schemas/ProductReference"}


def test_an_answer_has_all_of_its_keys(description: Any) -> None:
    types = description["components"]["schemas"]
    assert set(types["Failure"]["required"]) == {"why", "errorCode"}
    assert set(types["DockerSupport"]["required"]) == set(types["DockerSupport"]["properties"])


def test_the_limits_of_a_bulk_are_described(description: Any) -> None:
    bulks = {name: each for name, each in description["components"]["schemas"].items() if name.startswith("BulkOf")}
    assert len(bulks) == 5
    for bulk in bulks.values():
        items = bulk["properties"]["items"]
        assert (items["minItems"], items["maxItems"]) == (1, 1000)
        assert "all of them are done, or none" in items["description"]


def test_names_of_types_can_be_read(description: Any) -> None:
    names = set(description["components"]["schemas"])
    assert {"BulkOfJob", "AnswersOfCreated", "AnswersOfShellSessionOrWebSessionOrVncSession"} <= names
    assert all(re.fullmatch("[A-Z][A-Za-z]+", name) for name in names)
