"""Opens very many connections, says a little on each, and counts what comes back. One thread, no memory to speak of.

Its argument is an object: ``to`` (address and port, or the path of a socket), ``count``, ``sources`` (addresses that
take turns), ``first`` (what is sent at once), ``drip`` (what is sent each second then), ``again`` (connections that
end are opened anew).
"""

import errno
import json
import os
import resource
import select
import socket
import sys
import time
from collections import Counter
from typing import Any

OPENING = 200  # connections that are being opened at a time
PATIENCE = 20.0  # seconds that opening all may take


class Swarm:
    def __init__(self, wanted: dict[str, Any]) -> None:
        self.to: Any = wanted["to"]
        self.sources: list[str | None] = wanted.get("sources") or [None]
        self.count: int = wanted["count"]
        self.first = wanted.get("first", "").encode("latin-1")
        self.drip = wanted.get("drip", "").encode("latin-1")
        self.again: bool = wanted.get("again", False)
        self.poll = select.epoll()
        self.open: dict[int, socket.socket] = {}
        self.opening: set[int] = set()
        self.begun = 0
        self.got: Counter[str] = Counter()
        self.statuses: Counter[str] = Counter()
        self.peak = 0

    def connect(self) -> None:
        local = isinstance(self.to, str)
        one = socket.socket(socket.AF_UNIX if local else socket.AF_INET)
        one.setblocking(False)
        source = self.sources[self.begun % len(self.sources)]
        self.begun += 1
        try:
            if source is not None:
                one.setsockopt(socket.SOL_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24), 1)
                one.bind((source, 0))
            one.connect(self.to if local else tuple(self.to))
        except BlockingIOError:
            pass
        except OSError as error:
            self.got[errno.errorcode.get(error.errno or 0, "error")] += 1
            one.close()
            return
        self.open[one.fileno()] = one
        self.opening.add(one.fileno())
        self.poll.register(one, select.EPOLLOUT | select.EPOLLIN)

    def end(self, number: int) -> None:
        self.poll.unregister(number)
        self.open.pop(number).close()
        self.opening.discard(number)

    def heard(self, number: int, events: int) -> None:
        one = self.open.get(number)
        if one is None:
            return
        try:
            if events & select.EPOLLOUT and number in self.opening:
                failed = one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if failed:
                    raise OSError(failed, "")
                self.opening.discard(number)
                self.got["opened"] += 1
                if self.first:
                    one.send(self.first)
                self.poll.modify(number, select.EPOLLIN)
            if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                data = one.recv(65536)
                self.got["bytes"] += len(data)
                if data.startswith(b"HTTP/"):
                    self.statuses[data[9:12].decode("latin-1")] += 1
                if not data or (self.again and data.startswith(b"HTTP/")):
                    self.got["closed"] += not data
                    self.end(number)
        except BlockingIOError:
            pass
        except OSError as error:
            self.got["closed"] += 1
            self.got[errno.errorcode.get(error.errno or 0, "error")] += 1
            self.end(number)

    def run(self) -> None:
        self.poll.register(0, select.EPOLLIN | select.EPOLLHUP)
        begun = dripped = time.monotonic()
        ready = False
        while True:
            wanted = self.begun < self.count or (self.again and len(self.open) < self.count)
            while wanted and len(self.opening) < OPENING:
                self.connect()
                wanted = self.begun < self.count or (self.again and len(self.open) < self.count and bool(self.opening))
            for number, events in self.poll.poll(0.05 if wanted or self.opening else 0.2, 512):
                if number == 0:
                    return
                self.heard(number, events)
            now = time.monotonic()
            self.peak = max(self.peak, len(self.open) - len(self.opening))
            if not ready and (now - begun > PATIENCE or (self.begun >= self.count and not self.opening)):
                ready = True
                sys.stdout.write("ready\n")
                sys.stdout.flush()
            if self.drip and now - dripped > 1:
                dripped = now
                for number, one in list(self.open.items()):
                    try:
                        one.send(self.drip)
                    except BlockingIOError:
                        pass
                    except OSError:
                        self.got["closed"] += 1
                        self.end(number)


def main() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.nice(5)
    swarm = Swarm(json.loads(sys.argv[1]))
    swarm.run()
    said = {"open": len(swarm.open), "peak": swarm.peak, "statuses": swarm.statuses, "got": swarm.got}
    sys.stdout.write(json.dumps(said))


main()
