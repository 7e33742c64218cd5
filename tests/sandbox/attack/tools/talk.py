"""Speaks to local sockets and to TCP ports.

``connect PLACES`` prints what each place answers to a request, or the error; ``ask PATH MESSAGES`` prints the answer to
each message of the service's own protocol, and how many descriptors came with it; ``say PATH HEXES`` prints what comes
back for bytes.
"""

import errno
import json
import os
import socket
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

REQUEST = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
CHANNELS = (
    "open",
    "listen",
    "terminal",
    "read",
    "begin",
    "resume",
    "work",
    "shell",
)  # requests that come with a socket for what is opened
Place = str | list[Any]


def dial(where: Place) -> socket.socket:
    one = socket.socket(socket.AF_UNIX if isinstance(where, str) else socket.AF_INET)
    one.settimeout(20)
    one.connect(where if isinstance(where, str) else tuple(where))
    return one


def connect(places: Sequence[Place]) -> dict[str, str]:
    got = {}
    for place in places:
        name = place if isinstance(place, str) else f"{place[0]}:{place[1]}"
        try:
            with dial(place) as one:
                one.settimeout(5)
                one.sendall(REQUEST)
                answer = one.recv(4096)
                got[name] = answer.decode("latin-1").partition("\r\n")[0] if answer else "closed"
        except OSError as error:
            got[name] = errno.errorcode.get(error.errno or 0, type(error).__name__)
    return got


def ask(path: str, messages: Sequence[Any]) -> list[tuple[Any, int]]:
    answers: list[tuple[Any, int]] = []
    for message in messages:
        data = json.dumps(message).encode()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        given = [theirs.fileno()] if message.get("verb") in CHANNELS else []
        try:
            with dial(path) as one, ours:
                socket.send_fds(one, [struct.pack("!I", len(data)) + data], given)
                theirs.close()
                answer, descriptors, _, _ = socket.recv_fds(one, 1 << 20, 8)
                while 4 < len(answer) < 4 + struct.unpack("!I", answer[:4])[0] and (piece := one.recv(1 << 20)):
                    answer += piece
                ours.setblocking(False)
                with suppress(OSError):
                    descriptors += socket.recv_fds(ours, 1, 8)[1]
                for each in descriptors:
                    os.close(each)
                answers.append((json.loads(answer[4:] or b"null"), len(descriptors)))
        except (OSError, ValueError) as error:
            answers.append((str(error), 0))
    return answers


def say(path: str, hexes: Sequence[str]) -> list[str]:
    answers = []
    for each in hexes:
        try:
            with dial(path) as one:
                one.sendall(bytes.fromhex(each))
                one.shutdown(socket.SHUT_WR)
                answers.append(one.recv(64).decode("latin-1"))
        except OSError:
            answers.append("")
    return answers


def main() -> None:
    verb, *arguments = sys.argv[1:]
    if verb == "connect":
        found: object = connect(json.loads(arguments[0]))
    else:
        found = (ask if verb == "ask" else say)(arguments[0], json.loads(arguments[1]))
    sys.stdout.write(json.dumps(found))


main()
