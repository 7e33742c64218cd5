"""What the provider may say to Core, strictly (contract: request and response encoding; bulk; control side).

Core itself is lenient in places; the author of a provider needs to see mistakes. So a wrong type, a missing
field or a bulk of the wrong size is refused here, and a key that no Core of any era knows is noted.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt, StrictStr, ValidationError
from pydantic.alias_generators import to_camel

from tests.sandbox.core.call import Call
from tests.sandbox.core.era import CoreEra
from tests.sandbox.core.errors import ProtocolError
from tests.sandbox.core.strict_json import strict_object

MOST_ITEMS = 1000
LARGEST = 2**63 - 1

Long = Annotated[StrictInt, Field(ge=-LARGEST - 1, le=LARGEST)]
Count = Annotated[StrictInt, Field(ge=0, le=LARGEST)]
# Null for a field that has a default is the default (contract: JSON mapper settings).
Stamp = Annotated[Long, BeforeValidator(lambda value: 0 if value is None else value)]


class Message(BaseModel):
    """A piece of a message from the provider. Unknown keys are ignored, and found by :func:`unknown_keys`."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, strict=True)


class Update(Message):
    """What is new about a job (contract: JobUpdate). ``new_time_allocation`` is in milliseconds."""

    state: StrictStr | None = None
    output_folder: StrictStr | None = None
    status: StrictStr | None = None
    expected_state: StrictStr | None = None
    expected_different_state: StrictBool | None = None
    timestamp: Stamp = 0
    new_time_allocation: Annotated[StrictInt, Field(gt=0, le=LARGEST)] | None = None
    allow_restart: StrictBool | None = None
    new_mounts: list[StrictStr] | None = None


class UpdateItem(Message):
    """An item of jobs.control.update."""

    id: StrictStr
    update: Update


class ChargeItem(Message):
    """An item of jobs.control.chargeCredits (contract: ResourceChargeCredits)."""

    id: StrictStr
    charge_id: Annotated[StrictStr, Field(min_length=1)]
    units: Count
    number_of_products: Count | None = None
    periods: Count | None = None
    performed_by: StrictStr | None = None
    description: StrictStr | None = None


class Name(Message):
    """Of an application."""

    name: StrictStr
    version: StrictStr


class Reference(Message):
    """A ProductReference."""

    id: StrictStr
    category: StrictStr
    provider: StrictStr


class Duration(Message):
    """A SimpleDuration."""

    hours: Count = 0
    minutes: Annotated[StrictInt, Field(ge=0, le=59)] = 0
    seconds: Annotated[StrictInt, Field(ge=0, le=59)] = 0


class Specification(Message):
    """Of a job that exists at the provider already: parameters and resources must be there."""

    application: Name
    product: Reference
    name: StrictStr | None = None
    replicas: Annotated[StrictInt, Field(ge=1)] = 1
    allow_duplicate_job: StrictBool = False
    parameters: dict[StrictStr, dict[str, Any]]
    resources: list[dict[str, Any]]
    time_allocation: Duration | None = None


class RegisterItem(Message):
    """An item of jobs.control.register."""

    spec: Specification
    provider_generated_id: StrictStr | None = None
    created_by: StrictStr | None = None
    project: StrictStr | None = None
    project_all_read: StrictBool | None = None
    project_all_write: StrictBool | None = None


class RefreshItem(Message):
    """An item of auth.providers.refresh."""

    refresh_token: Annotated[StrictStr, Field(min_length=1)]


class Approval(Message):
    """The request of providers.im.control.approveConnection and clearConnection."""

    username: Annotated[StrictStr, Field(min_length=1)]


I = TypeVar("I")  # noqa: E741  the item of a bulk
M = TypeVar("M", bound=Message)


class Bulk(Message, Generic[I]):
    """A BulkRequest. ``type`` is a relic that older clients send."""

    items: list[I] = Field(min_length=1, max_length=MOST_ITEMS)
    type: StrictStr | None = None


def received(call: Call, kind: type[M]) -> M:
    """The body of a call, as a message of that kind, as it was declared.

    :raises ProtocolError: 400
    """
    data = strict_object(call.body)
    message = read(kind, data)
    for key in unknown_keys(data, message):
        call.complain(f"{key} is a key that UCloud does not know")
    return message


def read(kind: type[M], data: Mapping[str, Any]) -> M:
    """A message of that kind.

    :raises ProtocolError: with a sentence for each field that is wrong
    """
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False, include_context=False)
        raise ProtocolError([f"{_path(problem['loc'])}: {problem['msg']}" for problem in problems]) from None


def unknown_keys(data: Any, known: Any, path: str = "") -> Iterator[str]:
    """Paths of the keys that a message has and its kind has not.

    :param known: the message as :func:`read` gave it
    """
    if isinstance(known, list):
        for number, (item, model) in enumerate(zip(data, known, strict=True)):
            yield from unknown_keys(item, model, f"{path}[{number}]")
    elif isinstance(known, Message):
        names = {field.alias: name for name, field in type(known).model_fields.items()}
        for key, value in data.items():
            place = f"{path}.{key}" if path else key
            if key not in names:
                yield place
            else:
                yield from unknown_keys(value, getattr(known, names[key]), place)


def check_update(item: UpdateItem, number: int, era: CoreEra) -> Iterator[str]:
    """What is wrong with an update in that era, although its types are right."""
    for field in ("state", "expected_state"):
        state = getattr(item.update, field)
        if state is not None and state not in era.states:
            yield f"items[{number}].update.{to_camel(field)}: {state} is no state that a provider may send"


def beyond_era(item: UpdateItem, number: int, era: CoreEra) -> Iterator[str]:
    """What an update says that Core of that era does not know yet, and so ignores. A null says nothing."""
    later = {
        "new_time_allocation": era.has_new_time_allocation,
        "allow_restart": era.has_restarts,
        "new_mounts": era.has_restarts,
    }
    for field, known in later.items():
        if not known and getattr(item.update, field) is not None:
            yield f"items[{number}].update.{to_camel(field)} is a key that UCloud of {era.name} does not know"


def multiplier(item: ChargeItem, number: int, era: CoreEra) -> tuple[int, str | None]:
    """What units are multiplied by, as Core of that era reads it, and what is wrong all the same.

    :raises ProtocolError: when both names of the multiplier are there and differ
    """
    old, new = item.number_of_products, item.periods
    if old is not None and new is not None and old != new:
        raise ProtocolError([f"items[{number}]: numberOfProducts is {old} but periods is {new}"])
    mine, other = (old, new) if era.multiplier_key == "numberOfProducts" else (new, old)
    complaint = None
    if mine is None and other is not None:
        complaint = f"items[{number}]: {era.multiplier_key} is missing, so Core takes it for 1 and not for {other}"
    return (1 if mine is None else mine), complaint


def _path(loc: tuple[int | str, ...]) -> str:
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f"{'.' if text else ''}{part}"
    return text or "the body"
