"""What travels in a WebSocket, strictly (contract: WebSockets, framing)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tests.sandbox.core.checks import TEXT, WHOLE, Check, wrong_fields
from tests.sandbox.core.errors import ProtocolError
from tests.sandbox.core.strict_json import strict_object

Json = dict[str, Any]
PING: Json = {"ping": "pong"}
"""What a server sends to keep the connection; of no stream."""
CLOSED_EARLY = 499
"""Status of a stream whose connection ended before its response."""
UNREACHABLE = 502
"""Status of a call that could not be sent."""
OBJECT: Check = ("a JSON object", lambda value: isinstance(value, dict))
KIND: Check = ("message or response", lambda value: value in ("message", "response"))
MESSAGE: dict[str, Check] = {"type": KIND, "streamId": TEXT, "payload": OBJECT}
RESPONSE: Mapping[str, Check] = MESSAGE | {"status": WHOLE}
UNTYPED = frozenset({"type"})


@dataclass(frozen=True, slots=True)
class ResponseFrame:
    """The last word on a stream.

    :ivar stream_id: of the frame
    :ivar status: as in HTTP, of which 100 to 399 are successes; 499 when the connection ended without a
        response, and 502 when there was none
    """

    stream_id: str
    status: int
    payload: Json

    @property
    def ok(self) -> bool:
        """Whether it is a success."""
        return 100 <= self.status < 400


@dataclass(frozen=True, slots=True)
class MessageFrame:
    """One of any number of words on a stream."""

    stream_id: str
    payload: Json


def read_frame(data: str | bytes) -> MessageFrame | ResponseFrame | Literal["ping"]:
    """A frame of the provider. One without a type is a message.

    :raises ProtocolError: with a sentence for each thing that is wrong
    """
    if isinstance(data, bytes):
        raise ProtocolError(["a frame is binary"])
    frame = strict_object(data, "a frame")
    if frame == PING:
        return "ping"
    is_response = frame.get("type") == "response"
    wrong = list(wrong_fields(frame, RESPONSE if is_response else MESSAGE, UNTYPED))
    if wrong:
        raise ProtocolError([f"a frame is wrong: {sentence}" for sentence in wrong])
    if is_response:
        return ResponseFrame(frame["streamId"], frame["status"], frame["payload"])
    return MessageFrame(frame["streamId"], frame["payload"])


def wrong_error(payload: Json) -> str | None:
    """What is wrong with the payload of a response that is no success: it is empty or says why."""
    return "why is not a string" if payload and not isinstance(payload.get("why"), str) else None
