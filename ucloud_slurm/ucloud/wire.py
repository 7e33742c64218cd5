"""Decoding JSON from UCloud: unknown keys are ignored, absent and null are alike, errors name the field.

Source: UCloud's JSON conventions (contract: request and response encoding, DefaultMapper).
"""

import math
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Strict, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import from_json

from ucloud_slurm.errors import Refused, one_line

Int = Annotated[int, Strict()]
Bool = Annotated[bool, Strict()]

MOST_ERRORS = 5


class Message(BaseModel):
    """A piece of a message. Frozen; names are camelCase on the wire."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True, allow_inf_nan=False
    )


M = TypeVar("M")


def decode(kind: type[M], body: bytes) -> M:
    """Reads a message of that kind.

    :param body: UTF-8 JSON; the content type that came with it does not matter
    :raises Refused: naming the path of each field that is wrong
    """
    try:
        data = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise Refused(f"The request is not valid JSON: {one_line(str(error), 100)}") from None
    return from_data(kind, data)


def from_data(kind: type[M], data: Any) -> M:
    """Reads a message from JSON that is parsed already. See :func:`decode`."""
    try:
        return TypeAdapter(kind).validate_python(without_nulls(data))
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False, include_context=False)
        text = "; ".join(_sentence(problem) for problem in problems[:MOST_ERRORS])
        raise Refused(one_line(text)) from None


def without_nulls(data: Any) -> Any:
    """The same JSON with every key left out whose value is null.

    :raises Refused: for a number that no computer can hold; it would be another one when it is written again
    """
    if isinstance(data, float) and not math.isfinite(data):
        raise Refused("The request holds a number that is too large.")
    if isinstance(data, dict):
        return {key: without_nulls(value) for key, value in data.items() if value is not None}
    if isinstance(data, list):
        return [without_nulls(value) for value in data]
    return data


def _sentence(problem: Any) -> str:
    path = ""
    for part in problem["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f"{'.' if path else ''}{part}"
    path = path or "The request"
    if problem["type"] == "missing":
        return f"{path} is missing"
    return f"{path}: {problem['msg'][0].lower()}{problem['msg'][1:]}"
