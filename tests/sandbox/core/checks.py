"""What is wrong with the provider's answers (contract: OpenSession, utilization)."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

Json = dict[str, Any]
Check = tuple[str, Callable[[Any], bool]]
"""What a value should be, in words, and whether it is."""


def is_text(value: Any) -> bool:
    """A JSON string."""
    return isinstance(value, str)


def is_whole(value: Any) -> bool:
    """A JSON number without a fraction, as Core's integers are read: 1.0 is none."""
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return is_whole(value) or isinstance(value, float)


def _is_address(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


TEXT: Check = ("a string", is_text)
NAME: Check = ("a string that is not empty", _is_address)
MAYBE_TEXT: Check = ("a string or null", lambda value: value is None or is_text(value))
WHOLE: Check = ("a whole number", is_whole)
NUMBER: Check = ("a number", _is_number)
COUNT: Check = ("a whole number of at least 0", lambda value: is_whole(value) and value >= 0)

SESSIONS: Mapping[str, Mapping[str, Check]] = {
    "shell": {"sessionIdentifier": NAME},
    "web": {"redirectClientTo": NAME},
    "vnc": {"url": NAME, "password": MAYBE_TEXT},
}
"""Type of an OpenSession -> its own fields."""
OPTIONAL = frozenset({"password", "domainOverride"})
AMOUNT: Mapping[str, Check] = {"cpu": NUMBER, "memory": WHOLE}
UTILIZATION: Mapping[str, Mapping[str, Check]] = {
    "capacity": AMOUNT,
    "usedCapacity": AMOUNT,
    "queueStatus": {"running": COUNT, "pending": COUNT},
}


def wrong_fields(data: Json, fields: Mapping[str, Check], optional: frozenset[str] = frozenset()) -> Iterator[str]:
    """A sentence for each field that is missing or no such value, and for each that UCloud does not know.

    :param optional: fields that may be missing
    """
    for name, (what, suits) in fields.items():
        if name not in data:
            if name not in optional:
                yield f"{name} is missing"
        elif not suits(data[name]):
            yield f"{name} is not {what}"
    yield from (f"{name} is a key that UCloud does not know" for name in data if name not in fields)


def is_absolute(address: Any) -> bool:
    """Whether a browser that is on another site finds it."""
    parts = urlsplit(address) if isinstance(address, str) else None
    return parts is not None and parts.scheme in ("http", "https") and bool(parts.netloc)


def wrong_session(session: Json, job_id: str, rank: int, kind: str, *, absolute: bool = False) -> Iterator[str]:
    """What is wrong with an OpenSession.

    :param kind: ``WEB``, ``VNC`` or ``SHELL``, as it was asked for
    :param absolute: whether the page takes ``redirectClientTo`` as it is
    """
    type_ = session.get("type")
    if not isinstance(type_, str) or type_ not in SESSIONS:
        yield f"{type_!r} is no type of a session"
        return
    if type_ != kind.lower():
        yield f"a session of type {type_} came where {kind} was asked for"
    common = {"type": TEXT, "jobId": TEXT, "rank": WHOLE, "domainOverride": MAYBE_TEXT}
    yield from wrong_fields(session, common | dict(SESSIONS[type_]), OPTIONAL)
    if absolute and type_ == "web" and not is_absolute(session.get("redirectClientTo")):
        yield "redirectClientTo is not an absolute address"
    if is_text(session.get("jobId")) and session["jobId"] != job_id:
        yield f"the session is of job {session['jobId']}, not {job_id}"
    if is_whole(session.get("rank")) and session["rank"] != rank:
        yield f"the session is of rank {session['rank']}, not {rank}"


def wrong_utilization(data: Json) -> Iterator[str]:
    """What is wrong with an answer of retrieveUtilization."""
    blocks: dict[str, Check] = {name: ("a JSON object", lambda value: isinstance(value, dict)) for name in UTILIZATION}
    yield from wrong_fields(data, blocks)
    for name, fields in UTILIZATION.items():
        block = data.get(name)
        if isinstance(block, dict):
            yield from (f"{name}.{sentence}" for sentence in wrong_fields(block, fields))
