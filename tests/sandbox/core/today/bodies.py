"""JSON of the provider, read field by field by its type (contract: what a provider must know when it sends).

Nothing has to be there: what is missing or null is the zero of its type. What is there must be of the right type;
a number with a point is no integer. Keys are compared without their case, and unknown ones are ignored.
"""

import dataclasses
import json
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, TypeVar

from pydantic.alias_generators import to_camel

from tests.sandbox.core.call import Call
from tests.sandbox.core.errors import ProtocolError

WHY = "Invalid request supplied"
LONG = range(-(2**63), 2**63)
ZEROS: Mapping[Any, Any] = {int: 0, str: "", bool: False}
T = TypeVar("T")


class Stamp(int):
    """Milliseconds since the epoch, which may not even be null."""


def received(call: Call, kind: type[T]) -> T:
    """The body of a call, read field by field by its type.

    :raises ProtocolError: 400
    """
    return decode(kind, call.body, lambda key: call.complain(f"{key} is a key that UCloud does not know"))


def decode(kind: type[T], text: bytes, unknown: Callable[[str], None]) -> T:
    """A message.

    :param kind: a dataclass whose fields have defaults
    :param unknown: gets the path of each key that the kind has not
    :raises ProtocolError: 400
    """
    try:
        data = json.loads(text.decode("utf-8", "replace"), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise _wrong("the body", f"is not JSON ({error})") from None
    found: T = _read(kind, data, "the body", unknown)
    return found


def truth(text: str, name: str) -> bool:
    """A flag of a query.

    :raises ProtocolError: 400
    """
    if text in {"1", "t", "T", "true", "TRUE", "True"}:
        return True
    if text in {"0", "f", "F", "false", "FALSE", "False", ""}:
        return False
    raise _wrong(name, "is neither true nor false")


def whole(text: str, name: str) -> int:
    """A number of a query.

    :raises ProtocolError: 400
    """
    try:
        return int(text or "0")
    except ValueError:
        raise _wrong(name, "is no whole number") from None


def _read(kind: Any, value: Any, path: str, unknown: Callable[[str], None]) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin is types.UnionType:
        return None if value is None else _read(arguments[0], value, path, unknown)
    if kind is Stamp:
        if not _is_whole(value):
            raise _wrong(path, "is no whole number; leave it out")
        return value
    if value is None:
        return _zero(kind)
    if kind in ZEROS:
        if not (_is_whole(value) if kind is int else isinstance(value, kind)):
            raise _wrong(path, f"is no {kind.__name__}")
        return value
    if origin is list:
        if not isinstance(value, list):
            raise _wrong(path, "is no list")
        return [_read(arguments[0], item, f"{path}[{number}]", unknown) for number, item in enumerate(value)]
    if not isinstance(value, dict):
        raise _wrong(path, "is no object")
    if origin is dict:
        return {key: _read(arguments[1], item, f"{path}.{key}", unknown) for key, item in value.items()}
    return kind(**dict(_fields(kind, value, path, unknown)))


def _fields(kind: Any, value: Mapping[str, Any], path: str, unknown: Callable[[str], None]) -> Iterator[tuple[str, Any]]:
    known = _known(kind)
    start = "" if path == "the body" else f"{path}."
    for key, item in value.items():
        if key.lower() not in known:
            unknown(f"{start}{key}")
            continue
        name, inner = known[key.lower()]
        yield name, _read(inner, item, f"{start}{key}", unknown)


@cache
def _known(kind: Any) -> dict[str, tuple[str, Any]]:
    """Key in lower case -> name of the field and its type."""
    hints = typing.get_type_hints(kind)
    return {to_camel(field.name).lower(): (field.name, hints[field.name]) for field in dataclasses.fields(kind)}


def _zero(kind: Any) -> Any:
    origin = typing.get_origin(kind)
    return ZEROS[kind] if kind in ZEROS else (origin or kind)()


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value in LONG


def _wrong(path: str, what: str) -> ProtocolError:
    return ProtocolError([f"{path} {what}"], 400, WHY)


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no number")
