"""Requests before a thread is spent on them: where a head ends, whose it is, and answers that need no application."""

import json
from collections.abc import Mapping
from enum import StrEnum
from http import HTTPStatus
from typing import NamedTuple

from ucloud_slurm.web.live.admission import common_address

MOST_HEAD_BYTES = 64 * 1024  # nginx passes at most 32 KiB on (large_client_header_buffers)
PROBES = ("/healthz", "/readyz", "/metrics")
MOST_KEY_CHARACTERS = 100
MOST_WAITED_SECONDS = 60.0  # between the proxy and here; more is a clock that was set


class RequestClass(StrEnum):
    """Whose budget a request takes from."""

    UCLOUD = "UCloud"  # with a valid token
    BROWSER = "browsers"  # with the cookie or the link of a session
    OPERATOR = "operators"
    STRANGER = "strangers"  # everybody else


class Caller(NamedTuple):
    """Whose budget a request takes from.

    :ivar key: who of the class: the address of a stranger, the session of a browser
    :ivar address: of a browser, whose session is what it says
    """

    kind: RequestClass
    key: str
    address: str = ""


def head_ends(data: bytes | bytearray, searched: int, line_bytes: int) -> bool:
    """Whether the head of a request is whole, or can be refused without the rest of it (RFC 9112, section 2.2).

    :param searched: so many bytes have been looked at before
    :param line_bytes: that a request line may have
    """
    begin = max(0, searched - 3)
    if data.find(b"\r\n\r\n", begin) >= 0 or len(data) > MOST_HEAD_BYTES:
        return True
    if data.count(b"\n", begin) != data.count(b"\r\n", max(0, begin - 1)):  # a bare LF never ends a head
        return True
    return len(data) > line_bytes + 4 and b"\r\n" not in data


def caller(path: str, headers: Mapping[str, str], *, is_authenticated: bool) -> Caller:
    """Whose budget a request takes from, by its head alone.

    :param headers: by names in upper case; X-REAL-IP only where the proxy sets it
    :param is_authenticated: whether it has a valid token of UCloud
    """
    if is_authenticated and path.startswith("/ucloud/"):
        return Caller(RequestClass.UCLOUD, "")
    if path in PROBES:
        return Caller(RequestClass.OPERATOR, "")
    address = common_address(headers.get("X-REAL-IP")) or ""
    if path.startswith("/_ucloud/") and ("COOKIE" in headers or "token=" in headers.get("X-ORIGINAL-URI", "")):
        return Caller(RequestClass.BROWSER, headers.get("X-UCLOUD-SESSION", "")[:MOST_KEY_CHARACTERS], address)
    return Caller(RequestClass.STRANGER, address)


def arrival(sent_at: str | None, seen: float, now: float, monotonic: float) -> float:
    """When a request arrived, in monotonic seconds: when the proxy sent it, which is before this process could look.

    :param sent_at: seconds since the epoch, as the proxy says; None where it says nothing
    :param seen: when its first byte was read, in monotonic seconds
    :param now: seconds since the epoch
    :param monotonic: the same moment by the monotonic clock
    """
    try:
        waited = now - float(sent_at or "")
    except ValueError:
        return seen
    return min(seen, monotonic - waited) if 0 <= waited <= MOST_WAITED_SECONDS else seen


def refusal(status: int, why: str, retry_seconds: int | None = None) -> bytes:
    """An answer in UCloud's form (contract: CommonErrorMessage), after which the connection is closed."""
    body = json.dumps({"why": why, "errorCode": None}).encode()
    headers = {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Connection": "close",
    } | ({} if retry_seconds is None else {"Retry-After": str(retry_seconds)})
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body
