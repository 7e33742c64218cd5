"""Parameters that a provider adds to a form, as today's Core and its web page read them (contract: ApplicationParameter)."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.sandbox.core.errors import ProtocolError
from tests.sandbox.core.today import bodies

Json = dict[str, Any]


@dataclass(frozen=True)
class Option:
    """A choice."""

    name: str = ""
    value: str = ""


@dataclass(frozen=True)
class Module:
    """A module that can be chosen."""

    name: str = ""
    description: str = ""
    short_description: str = ""
    depends_on: list[list[str]] = field(default_factory=list)
    documentation_url: str = ""


@dataclass(frozen=True)
class Parameter:
    """A parameter."""

    type: str = ""
    name: str = ""
    optional: bool = False
    default_value: Any = None
    title: str = ""
    description: str = ""
    options: list[Option] = field(default_factory=list)
    supported_modules: list[Module] = field(default_factory=list)


def check(parameters: Sequence[Json]) -> None:
    """Refuse what Core cannot read or the form cannot show.

    :raises ProtocolError: naming what is wrong
    """
    wrong: list[str] = []
    read = [bodies.decode(Parameter, json.dumps(each).encode(), wrong.append) for each in parameters]
    wrong = [f"{key} is a key that UCloud does not know" for key in wrong]
    numbers = Counter(each.name for each in read)
    wrong += [f"there are {number} parameters {name}" for name, number in numbers.items() if number > 1]
    for each, data in zip(read, parameters, strict=True):
        wrong += [f"{each.name}: {problem}" for problem in _problems(each, data)]
    if wrong:
        raise ProtocolError(wrong)


def _problems(parameter: Parameter, data: Json) -> Iterator[str]:
    if not parameter.optional and parameter.default_value is None:
        yield "is neither optional nor has a default: no job can be started without it"
    if not parameter.title:
        yield "has no title"
    if parameter.type == "readme" and not parameter.description:
        yield "is a readme without a text"
    if parameter.type == "modules":
        if parameter.optional:
            yield "is optional: the page shows it in two places"
        if not data.get("supportedModules"):
            yield "offers no modules"
        # The page reads the length of the list, and splits the name at its slash.
        if not all(isinstance(each.get("dependsOn"), list) for each in data.get("supportedModules") or []):
            yield "has a module whose dependsOn is no list"
