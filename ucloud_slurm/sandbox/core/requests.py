"""What a user of UCloud asks for, and what Core checks before a provider hears of it (contract: create)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ucloud_slurm.sandbox.core.applications import check_parameters
from ucloud_slurm.sandbox.core.catalogue import Catalogue, reference
from ucloud_slurm.sandbox.core.errors import CoreError
from ucloud_slurm.sandbox.core.wallet import Wallets

Json = dict[str, Any]
NAME = re.compile(r"[\w _-]{1,200}")


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


def specification(request: UserRequest, catalogue: Catalogue) -> Json:
    """The JobSpecification.

    :raises CoreError: 400 in the words that the user would see
    """
    name, version = request.application
    app = catalogue.application(name, version)
    if app is None:
        raise CoreError(400, f"Unknown application: {name} {version}")
    product = catalogue.named(request.product)
    if request.name is not None and not NAME.fullmatch(request.name):
        raise CoreError(400, "The name of a job has letters, digits, spaces, _ and -, at most 200 of them")
    if request.replicas < 1:
        raise CoreError(400, "Bad number of replicas")
    duration = request.duration()
    if duration is not None:
        if not (duration["hours"] >= 0 and 0 <= duration["minutes"] < 60 and 0 <= duration["seconds"] < 60):
            raise CoreError(400, "Bad time allocation")
        if not any(duration.values()):
            raise CoreError(400, "Time allocated for job is too short.")
    check_parameters(app, request.parameters)
    return {
        "application": {"name": name, "version": version},
        "product": reference(product),
        "name": request.name,
        "replicas": request.replicas,
        "allowDuplicateJob": True,
        "parameters": dict(request.parameters),
        "resources": list(request.resources),
        "timeAllocation": duration,
    }


def check_credits(request: UserRequest, catalogue: Catalogue, wallets: Wallets) -> None:
    """Refuse a job whose payer cannot pay for one unit of its product.

    :raises CoreError: 402
    """
    product = catalogue.named(request.product)
    if not product["freeToUse"] and not wallets.can_pay(request.project or request.owner, product["pricePerUnit"]):
        raise CoreError(402, "Insufficient funds")
