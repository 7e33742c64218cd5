"""The binary records of the notification channel: big-endian, several in a message (contract: notification channel)."""

import json
import struct
from dataclasses import dataclass
from typing import Any

from tests.sandbox.core.errors import ProtocolError

Json = dict[str, Any]
AUTH, WALLET, PROJECT, CATEGORY, USER, REPLAY_USER = range(6)
LOCKED, IS_PROJECT = 1, 2
"""Flags of a wallet."""
WITH_ZERO = 1
"""The flag with which a provider asks for eight more bytes in each wallet."""


@dataclass(frozen=True, slots=True)
class Auth:
    """The first word of a provider.

    :ivar replay_from: milliseconds since the epoch; 0 for everything
    """

    replay_from: int
    flags: int
    token: str


@dataclass(frozen=True, slots=True)
class ReplayUser:
    """A provider wants to hear again what concerns a user."""

    username: str


def read(data: bytes) -> Auth | ReplayUser:
    """What a provider said.

    :raises ProtocolError: when it is neither
    """
    try:
        if data[0] == AUTH:
            replay_from, flags = struct.unpack_from(">qQ", data, 1)
            return Auth(replay_from, flags, _text(data, 17))
        if data[0] == REPLAY_USER:
            return ReplayUser(_text(data, 1))
    except (IndexError, struct.error, UnicodeError) as error:
        raise ProtocolError([f"a message on the notification channel cannot be read ({error})"]) from None
    raise ProtocolError([f"a message on the notification channel begins with {data[0]}"])


def user(reference: int, username: str) -> bytes:
    """A user, by a number from now on."""
    return struct.pack(">BI", USER, reference) + text(username)


def project(reference: int, modified_at: int, content: Json) -> bytes:
    """A project, by a number from now on.

    :param modified_at: milliseconds since the epoch
    """
    return struct.pack(">BIq", PROJECT, reference, modified_at) + text(json.dumps(content))


def category(reference: int, content: Json) -> bytes:
    """A product category, by a number from now on."""
    return struct.pack(">BI", CATEGORY, reference) + text(json.dumps(content))


def wallet(workspace: int, category_: int, quota: int, usage: int, flags: int, changed_at: int, *, with_zero: bool) -> bytes:
    """A wallet.

    :param workspace: the number of a user or project
    :param category_: the number of a category
    :param changed_at: milliseconds since the epoch
    """
    plain = struct.pack(">BIIqqIq", WALLET, workspace, category_, quota, usage, flags, changed_at)
    return plain + (bytes(8) if with_zero else b"")


def text(content: str) -> bytes:
    """A length and so many bytes."""
    encoded = content.encode()
    return struct.pack(">I", len(encoded)) + encoded


def _text(data: bytes, start: int) -> str:
    (length,) = struct.unpack_from(">I", data, start)
    piece = data[start + 4 : start + 4 + length]
    if len(piece) != length:
        raise IndexError("a text is shorter than it says")
    return piece.decode()
