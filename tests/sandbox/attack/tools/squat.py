"""Tries to stand in for the service: binds its ports and paths whenever they are free, and tells who called.

Arguments: the ports, and the paths of sockets. Runs until its input is closed.
"""

import json
import select
import socket
import sys
from contextlib import suppress
from pathlib import Path

ANSWER = b"HTTP/1.1 204 No Content\r\nX-UCloud-Upstream: 127.0.0.1:22\r\nContent-Length: 0\r\n\r\n"


def take(where: str | int) -> socket.socket | None:
    one = socket.socket(socket.AF_UNIX if isinstance(where, str) else socket.AF_INET)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if isinstance(where, str):
        path = Path(where)
        with suppress(OSError):
            path.parent.rename(f"{path.parent}.old")
        with suppress(OSError):
            path.unlink()
        with suppress(OSError):
            path.parent.mkdir()
    try:
        one.bind(where if isinstance(where, str) else ("127.0.0.1", where))
        one.listen(64)
    except OSError:
        one.close()
        return None
    return one


def main() -> None:
    places: list[str | int] = [*json.loads(sys.argv[1]), *json.loads(sys.argv[2])]
    taken: dict[str | int, socket.socket] = {}
    heard: list[str] = []
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        for place in places:
            if place not in taken and (one := take(place)):
                taken[place] = one
        if select.select([0], [], [], 0)[0]:
            break
        ready, _, _ = select.select([*taken.values()], [], [], 0.001)
        for one in ready:
            channel, _ = one.accept()
            channel.settimeout(2)
            with suppress(OSError):
                heard.append(channel.recv(65536).decode("latin-1"))
                channel.sendall(ANSWER)
            channel.close()
    sys.stdout.write(json.dumps({"taken": sorted(map(str, taken)), "heard": heard}))


main()
