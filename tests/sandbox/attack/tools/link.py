"""Talks to the daemon that connects accounts: ``guess COUNT`` tries codes, ``hold COUNT`` keeps connections that say half."""

import json
import os
import secrets
import socket
import struct
import sys
from collections import Counter


def ask(path: str, message: dict[str, str]) -> str:
    data = json.dumps(message).encode()
    with socket.socket(socket.AF_UNIX) as one:
        one.settimeout(10)
        one.connect(path)
        one.sendall(struct.pack("!I", len(data)) + data)
        answer = one.recv(65536)
    return str(json.loads(answer[4:]).get("refused", "answered"))[:40] if len(answer) > 4 else "nothing"


def main() -> None:
    verb, path, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if verb == "guess":
        got = Counter(ask(path, {"verb": "whose", "code": secrets.token_urlsafe(16)}) for _ in range(count))
        sys.stdout.write(json.dumps(got))
        return
    held = []
    for _ in range(count):
        one = socket.socket(socket.AF_UNIX)
        one.settimeout(0.2)
        try:
            one.connect(path)
            one.sendall(b"\0\0")
            held.append(one)
        except OSError:
            one.close()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    os.read(0, 1)
    sys.stdout.write(json.dumps(len(held)))


main()
