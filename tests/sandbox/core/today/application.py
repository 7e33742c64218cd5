"""Applications as they are written today: each element has the keys of all kinds (contract: Job as JSON)."""

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]
PARAMETER: Json = {
    "type": "",
    "name": "",
    "optional": False,
    "title": "",
    "description": "",
    "defaultValue": None,
    "min": None,
    "max": None,
    "step": None,
    "unitName": "",
    "trueValue": "",
    "falseValue": "",
    "options": [],
    "tagged": [],
    "supportedModules": [],
}
"""Every key of an ApplicationParameter."""
ELEMENT: Json = {
    "type": "",
    "word": "",
    "variableNames": [],
    "prefixGlobal": "",
    "suffixGlobal": "",
    "prefixVariable": "",
    "suffixVariable": "",
    "isPrefixVariablePartOfArg": False,
    "isSuffixVariablePartOfArg": False,
    "variable": "",
    "variableName": "",
    "flag": "",
    "template": "",
}
"""Every key of an InvocationParameter."""


def whole_application(app: Mapping[str, Any]) -> Json:
    """An application, with every key in its parameters and in the elements of its invocation."""
    invocation = app["invocation"]
    tool = invocation["tool"]["tool"]
    description = {"loadInstructions": None} | tool["description"]
    return {
        "metadata": app["metadata"],
        "invocation": {"sbatch": None, "ssh": None}
        | invocation
        | {
            "tool": invocation["tool"] | {"tool": tool | {"description": description}},
            "parameters": [_whole(PARAMETER, entry) for entry in invocation["parameters"]],
            "invocation": [_whole(ELEMENT, entry) for entry in invocation["invocation"]],
        },
    }


def no_application() -> Json:
    """The application of a job whose own has vanished."""
    return {
        "metadata": {"name": "", "version": "", "authors": [], "title": "", "description": "", "public": False},
        "invocation": {
            "tool": {"name": "", "version": "", "tool": None},
            "invocation": [],
            "parameters": [],
            "outputFileGlobs": [],
            "applicationType": "",
            "environment": None,
            "sbatch": None,
        },
    }


def _whole(keys: Json, entry: Mapping[str, Any]) -> Json:
    return keys | {key: value for key, value in entry.items() if value is not None}
