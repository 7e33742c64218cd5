"""Reading UCloud's answers over HTTP, and why there was none."""

import json
import re
import ssl
import time
from collections.abc import Iterator
from typing import Any

import requests

from ucloud_slurm.errors import CoreRefusedError, CoreUnavailableError, one_line
from ucloud_slurm.ucloud.pauses import is_unavailable

MAX_ANSWER_BYTES = 64 * 1024 * 1024
PROXY_REFUSES = "ucloud.proxy answered {}; does it need ucloud.proxy_credentials_file?"


def reason(error: Exception) -> str:
    """Why there was no answer, in words without a secret: the text of an error may contain the proxy's credentials."""
    if isinstance(error, requests.exceptions.ProxyError):
        status = re.search(r"Tunnel connection failed: ([0-9]{3})", str(error))
        return PROXY_REFUSES.format(status[1]) if status else "ucloud.proxy does not answer"
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate: {cause.verify_message}"
        if isinstance(cause, OSError) and cause.strerror:  # of the kernel or the name service; it names no address
            return cause.strerror
    return type(error).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what it was made of. Requests and urllib3 keep that in ``args`` and ``reason``."""
    yield error
    for cause in (*error.args, getattr(error, "reason", None), error.__cause__):
        if isinstance(cause, BaseException):
            yield from _causes(cause)


def body(response: requests.Response, deadline: float) -> bytes:
    """The body.

    :param deadline: until which it is read, in monotonic seconds
    :raises CoreUnavailableError: it takes longer
    """
    content = bytearray()
    while len(content) <= MAX_ANSWER_BYTES:
        some = response.raw.read1(65536, decode_content=True)
        if not some:
            return bytes(content)
        content += some
        if time.monotonic() > deadline:
            raise CoreUnavailableError("UCloud's answer takes too long")
    return bytes(content)


def read(status: int, content: bytes) -> Any:
    """The JSON of an answer.

    :raises CoreUnavailableError: the answer says nothing about the request
    :raises CoreRefusedError: the request is refused
    """
    if status == 407:
        raise CoreUnavailableError(PROXY_REFUSES.format(status))
    if is_unavailable(status):
        raise CoreUnavailableError(f"UCloud answered {status}")
    if len(content) > MAX_ANSWER_BYTES:
        raise CoreUnavailableError("UCloud's answer is too large")
    try:
        data = json.loads(content) if content.strip() else {}
    except (ValueError, RecursionError):
        if 200 <= status < 300:
            raise CoreUnavailableError("UCloud's answer is not JSON; is ucloud.url right?") from None
        data = {}
    if 200 <= status < 300:
        return data
    why = data.get("why") if isinstance(data, dict) else None
    raise CoreRefusedError(status, one_line(str(why or "no reason given")), explained=isinstance(why, str))
