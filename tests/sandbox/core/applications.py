"""Applications for the simulated Core, written as UCloud writes them (contract: Application, Tool)."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.sandbox.core.errors import CoreError

VALUE_OF = {
    "input_file": "file",
    "input_directory": "file",
    "text": "text",
    "enumeration": "text",
    "integer": "integer",
    "floating_point": "floating_point",
    "boolean": "boolean",
    "peer": "peer",
    "license_server": "license_server",
    "network_ip": "network",
    "ingress": "ingress",
    "textarea": "text",
    "workflow": "workflow",
    "modules": "modules",
    "private_network": "private_network",
}
"""Kind of a declared parameter -> kind of the value that a user gives (contract: AppParameterValue)."""


def word(text: str) -> dict[str, Any]:
    """An invocation element: this one argument."""
    return {"type": "word", "word": text}


def var(*names: str, **affixes: Any) -> dict[str, Any]:
    """An invocation element: the values of parameters, one argument each.

    :param affixes: prefixGlobal and the like; empty unless given
    """
    return {
        "type": "var",
        "variableNames": list(names),
        "prefixGlobal": "",
        "suffixGlobal": "",
        "prefixVariable": "",
        "suffixVariable": "",
        "isPrefixVariablePartOfArg": False,
        "isSuffixVariablePartOfArg": False,
    } | affixes


def jinja(template: str) -> dict[str, Any]:
    """An invocation element: a whole script, in which the values are to be filled."""
    return {"type": "jinja", "template": template}


def parameter(name: str, kind: str, **more: Any) -> dict[str, Any]:
    """A declared parameter without a default.

    :param kind: such as text or integer (contract: ApplicationParameter)
    """
    limits = {"min": None, "max": None, "step": None, "unitName": None} if kind == "integer" else {}
    plain = {"type": kind, "name": name, "optional": False, "defaultValue": None, "title": "", "description": ""}
    return plain | limits | more


def application(
    name: str,
    version: str,
    invocation: Sequence[Mapping[str, Any]],
    parameters: Sequence[Mapping[str, Any]] = (),
    *,
    backend: str = "NATIVE",
    created_at: int = 1633329776235,
    **more: Any,
) -> dict[str, Any]:
    """An application whose tool has the same name and version, and a default time of one hour.

    :param created_at: milliseconds since the epoch
    :param more: replaces keys of the invocation, such as ``environment``
    """
    info = {"name": name, "version": version}
    description = {
        "info": info,
        "container": None,
        "defaultNumberOfNodes": 1,
        "defaultTimeAllocation": {"hours": 1, "minutes": 0, "seconds": 0},
        "requiredModules": [],
        "authors": ["UCloud"],
        "title": name,
        "description": "An example tool",
        "backend": backend,
        "license": "None",
        "image": None,
        "supportedProviders": None,
    }
    tool = {"owner": "_ucloud", "createdAt": created_at, "modifiedAt": created_at, "description": description}
    metadata = {"authors": ["UCloud"], "title": name, "description": "An example application", "website": None, "public": True}
    return {
        "metadata": info | metadata,
        "invocation": {
            "tool": info | {"tool": tool},
            "invocation": list(invocation),
            "parameters": list(parameters),
            "outputFileGlobs": ["*"],
            "applicationType": "BATCH",
            "vnc": None,
            "web": None,
            "container": None,
            "environment": None,
            "allowAdditionalMounts": None,
            "allowAdditionalPeers": None,
            "allowMultiNode": True,
            "fileExtensions": [],
            "licenseServers": [],
        }
        | more,
    }


def examples() -> list[dict[str, Any]]:
    """``hello`` prints its text and exits by its code; ``sleeper`` sleeps; ``acme-batch`` is the guide's own.

    Their defaults come in both shapes that UCloud knows: a bare value and an object with ``value``.
    """
    shell = [word("sh"), word("-c"), word('printf "%s\\n" "$1"; exit "$2"'), word("hello")]
    code = parameter("code", "integer", optional=True, defaultValue=0)
    seconds = parameter("seconds", "integer", optional=True, defaultValue={"type": "integer", "value": 60})
    return [
        application("hello", "1.0.0", [*shell, var("text"), var("code")], [parameter("text", "text"), code]),
        application("sleeper", "1.0.0", [word("sleep"), var("seconds")], [seconds]),
        application(
            "acme-batch",
            "1.0.0",
            [word("acme-batch"), var("debug", prefixGlobal="--debug "), var("value")],
            [
                parameter("debug", "boolean", trueValue="true", falseValue="false"),
                parameter("value", "text", description="The value for the batch application"),
            ],
        ),
        application("unknown", "unknown", [word("true")]),
    ]


def later_examples() -> list[dict[str, Any]]:
    """``greeter`` is one script for its texts, as applications are written today."""
    script = 'printf "%s\\n" {{ text }}{% if often %} {{ text }}{% endif %}'
    often = parameter("often", "boolean", optional=True, defaultValue=False, trueValue="true", falseValue="false")
    return [application("greeter", "1.0.0", [jinja(script)], [parameter("text", "textarea"), often])]


def check_parameters(app: Mapping[str, Any], values: Mapping[str, Any], more: Sequence[Mapping[str, Any]] = ()) -> None:
    """Refuse a job whose parameters do not suit its application, as Core does before a provider hears of it.

    Defaults are not filled in: that is the provider's task.

    :param values: name -> AppParameterValue
    :param more: parameters that the provider has added to those of the application
    :raises CoreError: 400 naming the parameter
    """
    declared = {entry["name"]: entry for entry in [*app["invocation"]["parameters"], *more]}
    for name, value in values.items():
        if name not in declared:
            raise CoreError(400, f"The application has no parameter '{name}'")
        wanted = VALUE_OF.get(declared[name]["type"])
        kind = value.get("type") if isinstance(value, Mapping) else None
        if wanted is not None and kind != wanted:
            raise CoreError(400, f"Bad value for '{name}': a value of type '{wanted}' is needed")
    for name, entry in declared.items():
        if name not in values and not entry["optional"] and entry["defaultValue"] is None:
            raise CoreError(400, f"Missing value for '{name}'")
