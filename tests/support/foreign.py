"""Foreign calls: what may wait for others. None is made while the thread keeps every other writer of the database waiting.

Where Python has an audit event for a call, the event is looked at; other functions are replaced by ones that look first.
Not seen: a lock of C, and a process of its own that a test starts.
"""

import concurrent.futures
import functools
import grp
import logging
import os
import pwd
import queue
import select
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import ucloud_slurm
from ucloud_slurm.store.sqlite import in_write_transaction
from ucloud_slurm.users import name_service

PACKAGE = str(Path(ucloud_slurm.__file__).parent)
STORE = str(Path(PACKAGE, "store"))
EVENTS = frozenset(
    (
        *("subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "pty.spawn"),
        *("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo", "socket.gethostbyname"),
        *("socket.gethostbyaddr", "socket.getnameinfo", "http.client.connect", "http.client.send", "urllib.Request"),
    )
)
FUNCTIONS: dict[Any, tuple[str, ...]] = {
    pwd: ("getpwnam", "getpwuid", "getpwall"),
    grp: ("getgrnam", "getgrgid", "getgrall"),
    os: ("getgrouplist", "initgroups", "waitpid"),
    name_service: ("groups_of",),
    time: ("sleep",),
    select: ("select",),
    socket.socket: (
        *("connect", "connect_ex", "accept", "send", "sendall", "sendmsg"),
        *("recv", "recv_into", "recvmsg", "recvfrom"),
    ),
    threading.Thread: ("join",),
    threading.Condition: ("wait",),  # events, semaphores and queues wait with it
    concurrent.futures.Future: ("result", "exception"),
    concurrent.futures: ("wait",),
    queue.Queue: ("join",),
    logging.Logger: ("debug", "info", "warning", "error", "exception", "critical", "log"),  # the journal may be full
}

violations: list[str] = []
slow_disk = time.sleep  # what a transaction may wait for


class ForeignCallError(AssertionError):
    """Something waits for others while every other writer of the database waits for it."""


def refuse(call: str) -> None:
    """Notes and refuses a call in a write transaction.

    :raises ForeignCallError: this thread is in one; the text names the call and the places of the package that led to it
    """
    if not in_write_transaction():
        return
    frame: FrameType | None = sys._getframe(1)
    places = []
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(PACKAGE) and not name.startswith(STORE):
            places.append(f"{Path(name).relative_to(PACKAGE)}:{frame.f_lineno}")
        frame = frame.f_back
    violations.append(f"{call} in a write transaction, called by {' < '.join(places) or 'a test'}")
    raise ForeignCallError(violations[-1])


def foreign(call: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that is refused in a write transaction; stand-ins of foreign functions are made with it, too."""

    @functools.wraps(function)
    def looked_at(*arguments: Any, **more: Any) -> Any:
        refuse(call)
        return function(*arguments, **more)

    return looked_at


def install() -> None:
    """Looks at every foreign call of this process from now on."""
    sys.addaudithook(lambda event, _arguments: refuse(event) if event in EVENTS else None)
    for place, names in FUNCTIONS.items():
        for name in names:
            setattr(place, name, foreign(f"{place.__name__}.{name}", getattr(place, name)))
