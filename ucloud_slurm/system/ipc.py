"""Messages between processes of ours on one host: JSON behind its length, with open descriptors.

Only the standard library is used: the small programs at the other end import this.
"""

import json
import os
import socket
import struct
import time
from collections.abc import Callable, Sequence
from typing import Any

LARGEST = 16 * 1024 * 1024  # bytes; a script may have 4 MiB, and JSON writes some characters in six
_LENGTH = struct.Struct("!I")

Message = dict[str, Any]


class ConnectionLostError(Exception):
    """The other side is gone, too slow, or says what is not a message."""


def send(channel: socket.socket, message: Message, descriptors: Sequence[int] = (), *, within: float) -> None:
    """Sends a message. The descriptors are the other side's own copies from then on; ours stay open.

    :param within: seconds
    :raises ConnectionLostError: it could not be sent whole
    """
    data = json.dumps(message).encode()
    until = time.monotonic() + within
    try:
        channel.settimeout(max(within, 0.001))
        rest = memoryview(_LENGTH.pack(len(data)) + data)
        if descriptors:
            rest = rest[socket.send_fds(channel, [rest], list(descriptors)) :]
        while rest:
            channel.settimeout(max(until - time.monotonic(), 0.001))
            rest = rest[channel.send(rest) :]
    except OSError as error:
        raise ConnectionLostError(f"nobody takes a message ({error})") from None


def receive(channel: socket.socket, most: int, *, within: float | None) -> tuple[Message, list[int]]:
    """Receives a message and the descriptors that came with it, which are the caller's.

    :param most: bytes that it may have
    :param within: seconds until it must be there whole; None: no limit
    :raises ConnectionLostError: see there
    """
    until = None if within is None else time.monotonic() + within
    descriptors: list[int] = []
    try:
        (length,) = _LENGTH.unpack(_read(channel, _LENGTH.size, until, descriptors))
        if length > most:
            raise ConnectionLostError(f"a message has {length} bytes")
        message = json.loads(_read(channel, length, until, descriptors))
        if not isinstance(message, dict):
            raise ConnectionLostError("a message is not an object")
    except BaseException as error:
        close(descriptors)
        if isinstance(error, (OSError, ValueError, RecursionError)):
            raise ConnectionLostError(f"no message came ({error})") from None
        raise
    return message, descriptors


def serve(
    channel: socket.socket, answer: Callable[[Message], tuple[Message, list[int]]], *, waits: float, sends: float
) -> None:
    """Answers one message. What its sender hands over is closed; so is what is given back, once it is sent.

    :param answer: gives the answer, and the descriptors that go with it
    :param waits: seconds until the message must be there
    :param sends: seconds for the answer to go
    :raises ConnectionLostError: see there
    """
    message, handed = receive(channel, LARGEST, within=waits)
    close(handed)
    said, given = answer(message)
    try:
        send(channel, said, given, within=sends)
    finally:
        close(given)


def close(descriptors: Sequence[int]) -> None:
    """Closes descriptors that nobody wants."""
    for descriptor in descriptors:
        os.close(descriptor)


def _read(channel: socket.socket, length: int, until: float | None, descriptors: list[int]) -> bytes:
    data = bytearray()
    while len(data) < length:
        channel.settimeout(None if until is None else max(until - time.monotonic(), 0.001))
        piece, found, _, _ = socket.recv_fds(channel, min(length - len(data), 1 << 20), 4)
        descriptors += found
        for descriptor in found:
            os.set_inheritable(descriptor, False)
        if not piece:
            raise ConnectionLostError("the other side is gone")
        data += piece
    return bytes(data)
