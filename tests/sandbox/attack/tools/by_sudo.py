"""Starts the privileged program through sudo, as the service does, and asks it for things.

Arguments: the words behind ``sudo -n``, the messages, variables of the environment. Prints sudo's exit status, what
was said first, and the answers with the number of their descriptors.
"""

import json
import os
import socket
import struct
import subprocess
import sys
from typing import Any


def receive(channel: socket.socket) -> tuple[Any, int]:
    data, descriptors, _, _ = socket.recv_fds(channel, 1 << 16, 8)
    while 4 <= len(data) < 4 + struct.unpack("!I", data[:4])[0]:
        piece = channel.recv(1 << 16)
        if not piece:
            break
        data += piece
    for each in descriptors:
        os.close(each)
    return (json.loads(data[4:]) if len(data) > 4 else None), len(descriptors)


def main() -> None:
    words, messages, variables = (json.loads(each) for each in sys.argv[1:4])
    ours, theirs = socket.socketpair()
    ours.settimeout(15)
    env = {"PATH": "/usr/bin:/bin"} | variables
    with subprocess.Popen(
        ["/usr/bin/sudo", "-n", *words], stdin=theirs.fileno(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env
    ) as process:
        theirs.close()
        answers: list[tuple[Any, int]] = []
        hello: Any = None
        try:
            hello, _ = receive(ours)
            for message in messages:
                data = json.dumps(message).encode()
                ours.sendall(struct.pack("!I", len(data)) + data)
                answers.append(receive(ours))
        except (OSError, ValueError) as error:
            answers.append((str(error), 0))
        ours.close()
        output, errors = process.communicate(timeout=20)
    said = {"status": process.returncode, "hello": hello, "answers": answers}
    sys.stdout.write(json.dumps(said | {"output": (output + errors).decode(errors="replace")[-300:]}))


main()
