"""The invocation algorithm of the contract: what a researcher chose becomes the words of a command."""

from typing import Any

import pytest

from tests.support.factories import application, job, parameter, text, var, word
from ucloud_slurm.bridge.script.invocation import arguments, parameter_texts
from ucloud_slurm.errors import Refused


def command(app: dict[str, Any], **parameters: Any) -> list[str]:
    made = job(app=app, parameters=parameters)
    invocation = made.status.resolved_application
    assert invocation is not None
    texts = parameter_texts(invocation.invocation, made.specification.parameters)
    return arguments(invocation.invocation, texts)


def test_words_and_variables_stand_in_the_order_of_the_application() -> None:
    app = application(
        word("acme"),
        var("debug", prefixGlobal="--debug "),
        var("value"),
        parameters=[parameter("debug", "boolean"), parameter("value")],
    )
    assert command(app, debug={"type": "boolean", "value": True}, value=text("Hello, World!")) == [
        "acme",
        "--debug",
        "true",
        "Hello, World!",
    ]


@pytest.mark.parametrize(
    ("affixes", "expected"),
    [
        ({"prefixVariable": "--x"}, ["--x", "1", "--x", "2"]),
        ({"prefixVariable": "--x=", "isPrefixVariablePartOfArg": True}, ["--x=1", "--x=2"]),
        ({"suffixVariable": "y"}, ["1", "y", "2", "y"]),
        ({"suffixVariable": "y", "isSuffixVariablePartOfArg": True}, ["1y", "2y"]),
        ({"prefixGlobal": " --all ", "suffixGlobal": " -- "}, ["--all", "1", "2", "--"]),
    ],
)
def test_affixes_are_trimmed_and_placed_as_the_contract_says(affixes: dict[str, Any], expected: list[str]) -> None:
    app = application(var("a", "b", **affixes), parameters=[parameter("a"), parameter("b")])
    assert command(app, a=text("1"), b=text("2")) == expected


def test_a_variable_without_a_value_leaves_nothing_behind() -> None:
    app = application(word("x"), var("a", prefixGlobal="--a"), parameters=[parameter("a", optional=True)])
    assert command(app) == ["x"]


def test_an_undeclared_parameter_is_ignored() -> None:
    app = application(word("x"), var("sneaky", prefixGlobal="--s"))
    assert command(app, sneaky=text("1")) == ["x"]


@pytest.mark.parametrize(
    ("kind", "default", "expected"),
    [
        ("text", "x", "x"),
        ("text", {"type": "text", "value": "x"}, "x"),
        ("integer", 5, "5"),
        ("integer", {"type": "integer", "value": 5}, "5"),
        ("boolean", True, "true"),
        ("floating_point", 0.5, "0.5"),
        ("enumeration", "slow", "--slowly"),
    ],
)
def test_a_default_is_filled_in_whatever_its_shape(kind: str, default: Any, expected: str) -> None:
    options = [{"name": "slow", "value": "--slowly"}] if kind == "enumeration" else []
    declared = parameter("a", kind, defaultValue=default, options=options)
    assert command(application(var("a"), parameters=[declared])) == [expected]


def test_a_flag_stands_only_when_it_is_true() -> None:
    flag = {"type": "bool_flag", "variableName": "v", "flag": "--verbose"}
    app = application(word("x"), flag, parameters=[parameter("v", "boolean")])
    assert command(app, v={"type": "boolean", "value": True}) == ["x", "--verbose"]
    assert command(app, v={"type": "boolean", "value": False}) == ["x"]


def test_a_mandatory_parameter_without_a_value_is_named() -> None:
    with pytest.raises(Refused, match="'needed' has no value"):
        command(application(var("needed"), parameters=[parameter("needed")]))


@pytest.mark.parametrize("kind", ["file", "peer", "license_server", "ingress", "network", "something_new"])
def test_a_value_that_cannot_be_honoured_is_refused_by_name(kind: str) -> None:
    with pytest.raises(Refused, match="'a'"):
        command(application(var("a"), parameters=[parameter("a")]), a={"type": kind, "path": "/1/x"})


VALUES: dict[str, dict[str, Any]] = {
    "text": text("x"),
    "integer": {"type": "integer", "value": -5},
    "floating_point": {"type": "floating_point", "value": 0.25},
    "boolean": {"type": "boolean", "value": False},
    "enumeration": text("slow"),
    "input_file": {"type": "file", "path": "/home/a"},
    "input_directory": {"type": "file", "path": "/home/a"},
    "peer": {"type": "peer", "hostname": "other", "jobId": "1"},
    "license_server": {"type": "license_server", "id": "1"},
    "ingress": {"type": "ingress", "id": "1"},
    "network_ip": {"type": "network", "id": "1"},
    "block_storage": {"type": "block_storage", "id": "1"},
}
TEXTS = {
    "text": "x",
    "integer": "-5",
    "floating_point": "0.25",
    "boolean": "false",
    "enumeration": "slow",
    "input_file": "/srv/a",
    "input_directory": "/srv/a",
}


@pytest.mark.parametrize("kind", VALUES)
def test_every_kind_of_parameter_takes_its_own_kind_of_value_and_no_other(kind: str) -> None:
    app = application(var("a"), parameters=[parameter("a", kind)])
    for given, value in VALUES.items():
        made = job(app=app, parameters={"a": value})
        assert made.status.resolved_application is not None
        invocation = made.status.resolved_application.invocation
        paths = {"a": "/srv/a"} if value["type"] == "file" else {}
        if value["type"] == VALUES[kind]["type"] and given in TEXTS:
            assert parameter_texts(invocation, made.specification.parameters, paths) == {"a": TEXTS[given]}
        else:
            with pytest.raises(Refused, match="The parameter 'a'"):
                parameter_texts(invocation, made.specification.parameters, paths)


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("peer", "connections to other jobs"),
        ("license_server", "licence servers"),
        ("ingress", "public links"),
        ("network_ip", "public addresses"),
        ("block_storage", "disks"),
    ],
)
def test_what_is_not_offered_is_called_by_its_name(kind: str, what: str) -> None:
    with pytest.raises(Refused, match=f"'a' needs {what}, which this provider does not offer"):
        command(application(var("a"), parameters=[parameter("a", kind)]), a=VALUES[kind])


@pytest.mark.parametrize("kind", VALUES)
def test_a_missing_value_of_any_kind_is_named_unless_it_is_optional(kind: str) -> None:
    with pytest.raises(Refused, match="'a' has no value"):
        command(application(var("a"), parameters=[parameter("a", kind)]))
    assert command(application(word("x"), var("a"), parameters=[parameter("a", kind, optional=True)])) == ["x"]


def test_a_kind_of_parameter_that_came_later_takes_plain_values() -> None:
    assert command(application(var("a"), parameters=[parameter("a", "text_area")]), a=text("x")) == ["x"]


def test_an_unknown_way_to_start_is_refused() -> None:
    with pytest.raises(Refused, match="jinja"):
        command(application({"type": "jinja", "template": "x"}))


@pytest.mark.parametrize(("truth", "plain", "own"), [(True, "true", "--on"), (False, "false", "")])
def test_truth_has_the_words_that_a_parameter_names_where_the_era_knows_them(truth: bool, plain: str, own: str) -> None:
    flag = {"type": "bool_flag", "variableName": "a", "flag": "-f"}
    app = application(var("a"), flag, parameters=[parameter("a", "boolean", trueValue="--on", falseValue="")])
    made = job(app=app, parameters={"a": {"type": "boolean", "value": truth}})
    assert made.status.resolved_application is not None
    invocation, given = made.status.resolved_application.invocation, made.specification.parameters
    for own_words, said in ((False, plain), (True, own)):
        texts = parameter_texts(invocation, given, own_words=own_words)
        assert texts == {"a": said}
        assert arguments(invocation, texts) == [said, *(["-f"] if truth else [])]
