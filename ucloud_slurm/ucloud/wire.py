"""Decoding of JSON from UCloud: unknown keys are ignored, null means absent, errors name the field.

Source: UCloud's JSON conventions (contract: request and response encoding, DefaultMapper).
"""

import math
from collections.abc import Iterable
from contextlib import suppress
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Strict, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import from_json

from ucloud_slurm.errors import Refused, one_line
from ucloud_slurm.ucloud.gate import MAX_INTEGER

Int = Annotated[int, Strict()]
Bool = Annotated[bool, Strict()]

MAX_ERRORS = 5  # in one sentence


class Message(BaseModel):
    """A part of a message. Frozen; names are camelCase on the wire."""

    # defer_build: a pass of the worker in which nothing happens needs no validator.
    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True, allow_inf_nan=False, defer_build=True
    )


M = TypeVar("M")

_ADAPTERS: dict[object, TypeAdapter[Any]] = {}  # building one takes longer than using it


def decode(kind: type[M], body: bytes) -> M:
    """Decodes a message of that kind.

    :param body: UTF-8 JSON; the content type of the request does not matter
    :raises Refused: naming the path of each invalid field
    """
    try:
        data = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise Refused(f"The request is not valid JSON: {one_line(str(error), 100)}") from None
    return from_data(kind, data)


def from_data(kind: type[M], data: Any) -> M:
    """Decodes a message from parsed JSON. See :func:`decode`."""
    try:
        bare = without_nulls(data)
    except Refused:
        raise Refused(one_line(f"{_path(_too_large(data) or ())}: the number is too large")) from None
    try:
        return _adapter(kind).validate_python(bare)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False, include_context=False)
        text = "; ".join(_sentence(problem) for problem in problems[:MAX_ERRORS])
        raise Refused(one_line(text)) from None


def prepare(*kinds: Any) -> None:
    """Builds what decodes and encodes these messages; else the first threads that need it would build it side by side."""
    for kind in kinds:
        adapter = _adapter(kind)
        with suppress(ValidationError):
            adapter.validate_python(None)


def _adapter(kind: type[M]) -> TypeAdapter[M]:
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def without_nulls(data: Any) -> Any:
    """The same JSON without the keys whose value is null.

    :raises Refused: for a number that would not be the same when it is encoded again
    """
    # Every part of every message passes through here, and most of them are texts.
    if isinstance(data, dict):
        return {key: value if type(value) is str else without_nulls(value) for key, value in data.items() if value is not None}
    if isinstance(data, list):
        return [without_nulls(value) for value in data]
    if _is_too_large(data):
        raise Refused("The request holds a number that is too large.")
    return data


def _is_too_large(data: Any) -> bool:
    if isinstance(data, float):
        return not math.isfinite(data)
    return isinstance(data, int) and not -MAX_INTEGER - 1 <= data <= MAX_INTEGER


def _too_large(data: Any) -> tuple[str | int, ...] | None:
    """The path of the first number that is too large."""
    if _is_too_large(data):
        return ()
    inside: Iterable[tuple[Any, Any]] = data.items() if isinstance(data, dict) else ()
    inside = enumerate(data) if isinstance(data, list) else inside
    for key, value in inside:
        place = _too_large(value)
        if place is not None:
            return (key, *place)
    return None


def _path(parts: Iterable[str | int]) -> str:
    path = ""
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f"{'.' if path else ''}{part}"
    return path or "The request"


def _sentence(problem: Any) -> str:
    path = _path(problem["loc"])
    if problem["type"] == "missing":
        return f"{path} is missing"
    return f"{path}: {problem['msg'][0].lower()}{problem['msg'][1:]}"
