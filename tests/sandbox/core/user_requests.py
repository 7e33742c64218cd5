"""What a user of UCloud asks for, and what Core checks before a provider hears of it (contract: create)."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.sandbox.core.applications import check_parameters
from tests.sandbox.core.catalogue import Catalogue, reference
from tests.sandbox.core.errors import CoreError

Json = dict[str, Any]
NAME = re.compile(r"[\w _-]{1,200}")
ANY_NAME = re.compile(r"(?s:.{0,1024})")
SAMPLE_RATE = "ucMetricSampleRate"
"""A parameter that Core adds to every job today."""
INJECTED = "_injected_"
"""What the names of parameters begin with that need no declaration today."""
AskMore = Callable[[Json, "UserRequest"], Sequence[Json]]
"""Gets the dynamic parameters of an application for a request."""


@dataclass(frozen=True, slots=True)
class UserRequest:
    """A job that a user wants.

    :ivar application: name and version
    :ivar product: by name
    :ivar parameters: name -> AppParameterValue
    :ivar resources: AppParameterValues that are attached
    :ivar replicas: nodes
    :ivar minutes: time allocation; None for none
    :ivar time_allocation: a SimpleDuration instead, of which parts may be left out
    :ivar owner: the person
    :ivar project: who pays, or None for the person's own workspace
    """

    application: tuple[str, str]
    product: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    resources: Sequence[Json] = ()
    name: str | None = None
    replicas: int = 1
    minutes: int | None = 10
    time_allocation: Mapping[str, int] | None = None
    owner: str = "user"
    project: str | None = None

    def duration(self) -> Json | None:
        """The SimpleDuration."""
        if self.time_allocation is not None:
            return {"hours": 0, "minutes": 0, "seconds": 0} | dict(self.time_allocation)
        if self.minutes is None:
            return None
        hours, minutes = divmod(self.minutes, 60)
        return {"hours": hours, "minutes": minutes, "seconds": 0}


def specification(request: UserRequest, catalogue: Catalogue, ask: AskMore | None = None) -> Json:
    """The JobSpecification.

    :param ask: gets parameters that the application does not have from the provider, in an era that knows them;
        they get one more from Core, which no application declares
    :raises CoreError: 400 in the words that the user would see
    """
    name, version = request.application
    app = catalogue.application(name, version)
    if app is None:
        raise CoreError(400, f"Unknown application: {name} {version}")
    product = catalogue.named(request.product)
    job_name = request.name if ask is None or request.name is None else request.name.strip()
    if job_name is not None and not (NAME if ask is None else ANY_NAME).fullmatch(job_name):
        raise CoreError(400, "The name of a job has letters, digits, spaces, _ and -, at most 200 of them")
    if request.replicas < 1:
        raise CoreError(400, "Bad number of replicas")
    duration = request.duration()
    if duration is not None:
        if not (duration["hours"] >= 0 and 0 <= duration["minutes"] < 60 and 0 <= duration["seconds"] < 60):
            raise CoreError(400, "Bad time allocation")
        if not any(duration.values()):
            raise CoreError(400, "Time allocated for job is too short.")
    parameters = dict(request.parameters)
    if ask is None:
        check_parameters(app, parameters)
    else:
        _check_with_provider(app, parameters, request, ask)
        parameters[SAMPLE_RATE] = {"type": "text", "value": "0ms"}
    return {
        "application": {"name": name, "version": version},
        "product": reference(product),
        "name": job_name,
        "replicas": request.replicas,
        "allowDuplicateJob": True,
        "parameters": parameters,
        "resources": list(request.resources),
        "timeAllocation": duration,
    }


def _check_with_provider(app: Json, parameters: Json, request: UserRequest, ask: AskMore) -> None:
    declared = {entry["name"] for entry in app["invocation"]["parameters"]}
    own = {name: value for name, value in parameters.items() if not name.startswith(INJECTED) and name != SAMPLE_RATE}
    # Names that need no declaration make Core ask the provider, too, and what it answers counts for them.
    more = [] if parameters.keys() <= declared | {SAMPLE_RATE} else ask(app, request)
    asked = {entry["name"] for entry in more}
    check_parameters(app, own | {name: value for name, value in parameters.items() if name in asked}, more)


def stored(spec: Json) -> Json:
    """What Core keeps of a specification: not the resources that have a token in them."""
    return spec | {"resources": [each for each in spec["resources"] if each.get("type") != "api_server"]}
