"""JSON objects, read more strictly than Core does it, so that the author of a provider sees mistakes."""

import json
from typing import Any, NoReturn

from tests.sandbox.core.errors import ProtocolError


def strict_object(text: bytes | str, what: str = "the body") -> dict[str, Any]:
    """The JSON object in a body or frame.

    :param what: it is, for the error
    :raises ProtocolError: when there is none, or it has a key twice or a number that JSON does not know
    """
    try:
        plain = text.decode("utf-8") if isinstance(text, bytes) else text
        data = json.loads(plain, parse_constant=_no_number, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise ProtocolError([f"{what} is not JSON: {error}"]) from None
    if not isinstance(data, dict):
        raise ProtocolError([f"{what} is not a JSON object"])
    return data


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key} is there twice")
        found[key] = value
    return found
