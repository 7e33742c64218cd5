"""Messages between processes of a host: JSON objects behind their length, with open descriptors (unix(7))."""

from __future__ import annotations

import _socket
import os
import sys
import time

from ucloud_slurm.errors import Misconfigured
from ucloud_slurm.system.lean import Suppress, from_json, to_json

TYPE_CHECKING = False  # what else is imported loads slowly, and the program that acts as a user starts often
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import Any, TypeAlias

    Message: TypeAlias = "dict[str, Any]"
    Channel: TypeAlias = "_socket.socket"
else:
    Message, Channel = dict, _socket.socket

LARGEST_BYTES = 16 * 1024 * 1024  # of a message: a script may have 4 MiB, and JSON writes some characters in six
FORM = 5  # of the requests and answers of the runner and of users' programs: raised when they change
BACKLOG = 64  # connections that wait with the kernel
SO_PEERGROUPS = getattr(_socket, "SO_PEERGROUPS", 59)  # Python has no name for it
MOST_GROUPS = 256  # Python's getsockopt returns 1024 bytes at most
_LENGTH_BYTES = 4
_NUMBER_BYTES = 4  # of a descriptor


class ConnectionLostError(Exception):
    """No whole message was sent or received."""


class MessageError(ConnectionLostError):
    """What the other side sends is too long, too slow or no JSON object; the other side can still be answered."""


def is_of_other_release(request: Message) -> bool:
    """Whether the sender of a request to the runner is of a release with other messages: during an upgrade both run."""
    return "deadline" not in request or request.get("form", FORM) != FORM


class TooSlowError(MessageError):
    """The other side did not send a whole message in time."""


def send(channel: Channel, message: Message, descriptors: Sequence[int] = (), *, within: float) -> None:
    """Sends a message. The receiver gets copies of the descriptors; the sender's stay open.

    :param within: seconds
    :raises ConnectionLostError: it could not be sent whole
    """
    until = time.monotonic() + within
    try:
        data = to_json(message).encode()
        channel.settimeout(max(within, 0.001))
        rest = memoryview(len(data).to_bytes(_LENGTH_BYTES, "big") + data)
        if descriptors:
            rest = rest[_send_some(channel, rest, descriptors) :]
        while rest:
            channel.settimeout(max(until - time.monotonic(), 0.001))
            rest = rest[channel.send(rest) :]
    except OSError as error:
        raise ConnectionLostError(f"the message was not taken ({error})") from None
    except RecursionError as error:
        raise ConnectionLostError(f"the message cannot be written ({error})") from None


def receive(channel: Channel, most: int, *, within: float | None, descriptors: int = 0) -> tuple[Message, list[int]]:
    """Receives a message and the descriptors that come with it, which are the caller's to close.

    :param most: bytes that it may have
    :param within: seconds until it must be whole; None: no limit
    :param descriptors: how many may come with all of it; a message with more is an error
    :raises MessageError: too long, too slow, with more descriptors, or not a JSON object
    :raises ConnectionLostError: the other side closed the connection
    """
    until = None if within is None else time.monotonic() + within
    received: list[int] = []
    try:
        length = int.from_bytes(_read(channel, _LENGTH_BYTES, until, received, descriptors), "big")
        if length > most:
            raise MessageError(f"the message is too long ({length} bytes)")
        message = from_json(_read(channel, length, until, received, descriptors).decode())
        if not isinstance(message, dict):
            raise MessageError("the message cannot be read (it is no object)")
    except BaseException as error:
        close(received)
        if isinstance(error, TimeoutError):
            raise TooSlowError("the message took too long") from None
        if isinstance(error, OSError):
            raise ConnectionLostError(f"no message came ({error})") from None
        if isinstance(error, (ValueError, RecursionError)):
            raise MessageError(f"the message cannot be read ({error})") from None
        raise
    return message, received


def serve(
    channel: Channel, answer: Callable[[Message, Sequence[int]], Message], *, waits: float, sends: float, descriptors: int = 0
) -> None:
    """Receives one message and sends its answer.

    :param answer: gives the answer; the descriptors that came with the message are closed after it
    :param waits: seconds until the message must be whole
    :param sends: seconds for the answer to go
    :param descriptors: how many may come with the message
    :raises ConnectionLostError: no message came, or the answer was not taken
    """
    message, received = receive(channel, LARGEST_BYTES, within=waits, descriptors=descriptors)
    try:
        reply = answer(message, received)
    finally:
        close(received)
    send(channel, reply, within=sends)


def take(channel: Channel, size: int, flags: int = 0) -> bytes:
    """Receives what comes without descriptors. What comes with some is left there, until the socket is closed.

    The kernel would close them in this call, which may take as long as their sender likes (socket(7): SO_LINGER). So
    may the close of a socket whose other end somebody else has. For a stream :func:`keep_in_line` has to be called first.

    :raises MessageError: descriptors have come
    """
    data, _, result, _ = channel.recvmsg(size, 0, flags | _socket.MSG_PEEK)
    if result & _socket.MSG_CTRUNC:
        raise MessageError("more descriptors came than are accepted")
    return channel.recv(len(data), flags) if data else b""


def keep_in_line(channel: Channel) -> None:
    """Has what is sent out of band (send(2): MSG_OOB) come in its place, so that :func:`take` sees its descriptors."""
    channel.setsockopt(_socket.SOL_SOCKET, _socket.SO_OOBINLINE, 1)


def send_descriptor(channel: Channel, descriptor: int) -> None:
    """Sends one descriptor on a socket of packets (:func:`receive_descriptor`).

    :raises OSError: it cannot be sent
    """
    _send_some(channel, b".", [descriptor])


def receive_descriptor(channel: Channel) -> int | None:
    """The one descriptor that has arrived on a socket of packets, which is the caller's to close; never waits.

    :returns: None where none has arrived, or more than one
    """
    try:
        _, received = _receive_some(channel, 1, 1, _socket.MSG_DONTWAIT)
    except (MessageError, OSError):
        return None
    return received[0] if received else None


def close(descriptors: Sequence[int]) -> None:
    """Closes all of these descriptors, also when the close of one reports an error."""
    for descriptor in descriptors:
        with Suppress(OSError):
            os.close(descriptor)


def peer(connection: Channel) -> int:
    """The uid of the process at the other end of a local socket, as the kernel knows it (unix(7): SO_PEERCRED)."""
    return int.from_bytes(connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)[4:8], sys.byteorder)


def peer_groups(connection: Channel) -> set[int]:
    """The groups of the process at the other end of a local socket (unix(7): SO_PEERCRED, SO_PEERGROUPS).

    Of a process with more than ``MOST_GROUPS`` only the first one.
    """
    groups = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)[8:]
    with Suppress(OSError):
        groups += connection.getsockopt(_socket.SOL_SOCKET, SO_PEERGROUPS, 4 * MOST_GROUPS)
    return {int.from_bytes(groups[place : place + 4], sys.byteorder) for place in range(0, len(groups), 4)}


def listener(path: Path, mode: int) -> socket.socket:
    """The listening socket that systemd passes (sd_listen_fds(3)), else one that is made here.

    :param mode: permissions of the socket: who may connect
    :raises Misconfigured: it cannot be made
    """
    import socket

    if os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS") == "1":
        return socket.socket(fileno=3)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket():  # of a process that has ended; anything else is not ours
            path.unlink()
        made.bind(str(path))
        path.chmod(mode)
        made.listen(BACKLOG)
    except OSError as error:
        made.close()
        raise Misconfigured(
            [
                f"{path}: the socket cannot be made ({error.strerror or error}); start it with its systemd unit, "
                "or make the folder and give it to this account."
            ]
        ) from None
    return made


def _read(channel: Channel, length: int, until: float | None, received: list[int], descriptors: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        channel.settimeout(None if until is None else max(until - time.monotonic(), 0.001))
        size, most = min(length - len(data), 1 << 20), descriptors - len(received)
        piece, found = _receive_some(channel, size, most) if descriptors else (take(channel, size), [])
        received += found
        if not piece:
            raise ConnectionLostError("the connection was closed")
        data += piece
    return bytes(data)


def _send_some(channel: Channel, data: bytes | memoryview, descriptors: Sequence[int]) -> int:
    numbers = b"".join(each.to_bytes(_NUMBER_BYTES, sys.byteorder) for each in descriptors)
    return channel.sendmsg([data], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, numbers)])


def _receive_some(channel: Channel, size: int, most: int, flags: int = 0) -> tuple[bytes, list[int]]:
    """Receives once, with at most so many descriptors. The kernel closes what is beyond them, without a flush."""
    numbers: list[int] = []
    room = _socket.CMSG_LEN(most * _NUMBER_BYTES)
    piece, control, result, _ = channel.recvmsg(size, room, flags | _socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in control:
        if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
            whole = range(0, len(data) - len(data) % _NUMBER_BYTES, _NUMBER_BYTES)
            numbers += (int.from_bytes(data[place : place + _NUMBER_BYTES], sys.byteorder) for place in whole)
    if result & _socket.MSG_CTRUNC or len(numbers) > most:
        close(numbers)
        raise MessageError("more descriptors came than are accepted")
    return piece, numbers
