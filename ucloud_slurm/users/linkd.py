"""The server of :mod:`ucloud_slurm.users.linking`: a local socket for everybody on this host.

The caller is whom the kernel names. One line of JSON comes, one goes back.
"""

import json
import logging
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ucloud_slurm.errors import one_line
from ucloud_slurm.users.runner import peer

log = logging.getLogger(__name__)

LARGEST = 1024  # bytes of a request
WITHIN = 5.0  # seconds in which it must be there
MOST = 32  # connections at a time
MOST_OF_ONE = 4  # of them those of one account
WAKE = 1.0  # seconds between two looks whether to stop

Answer = Callable[[int, dict[str, Any]], dict[str, Any]]


class LinkServer:
    """Serves until it is stopped."""

    def __init__(self, answer: Answer) -> None:
        """Keeps who answers.

        :param answer: is given the caller's uid and what they say
        """
        self._answer = answer
        self._lock = threading.Lock()
        self._of: dict[int, int] = {}
        self._stopped = threading.Event()

    def serve(self, listener: socket.socket) -> None:
        """Answers everybody, each in a thread of their own."""
        listener.settimeout(WAKE)
        while not self._stopped.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            uid = peer(connection)
            if self._enter(uid):
                threading.Thread(target=self._serve, args=(connection, uid), daemon=True).start()
            else:
                with connection, suppress(OSError):
                    connection.setblocking(False)
                    connection.sendall(_line({"refused": "Too many people do this at the moment; try again."}))

    def stop(self) -> None:
        """Ends soon."""
        self._stopped.set()

    def _enter(self, uid: int) -> bool:
        with self._lock:
            if sum(self._of.values()) >= MOST or self._of.get(uid, 0) >= MOST_OF_ONE:
                return False
            self._of[uid] = self._of.get(uid, 0) + 1
            return True

    def _leave(self, uid: int) -> None:
        with self._lock:
            self._of[uid] -= 1
            if not self._of[uid]:
                del self._of[uid]

    def _serve(self, connection: socket.socket, uid: int) -> None:
        try:
            with connection, suppress(OSError):
                request = _read(connection)
                if request is None:
                    answer = {"refused": "This is no request that is understood here."}
                else:
                    answer = self._answer(uid, request)
                connection.settimeout(WITHIN)
                connection.sendall(_line(answer))
        except Exception as error:  # noqa: BLE001  one request must not end the others
            log.error("unexpected %s: %s", type(error).__name__, one_line(str(error), 200))  # noqa: TRY400
        finally:
            self._leave(uid)


def _read(connection: socket.socket) -> dict[str, Any] | None:
    """The request; None when it is not one line of JSON, in time and not too long."""
    until = time.monotonic() + WITHIN
    data = b""
    while not data.endswith(b"\n"):
        connection.settimeout(max(until - time.monotonic(), 0.001))
        piece = connection.recv(LARGEST + 1 - len(data))
        if not piece or len(data) + len(piece) > LARGEST:
            return None
        data += piece
    try:
        request = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return request if isinstance(request, dict) else None


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"
