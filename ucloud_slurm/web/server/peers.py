"""Who may connect to the web service's unix socket: root, the service itself, and members of the socket's group."""

import os
import socket
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ucloud_slurm.system import ipc


def is_allowed(uid: int, groups: Collection[int], own_uid: int, group: int | None) -> bool:
    """Whether a process may connect.

    :param groups: its groups
    :param group: of the socket
    """
    return uid in (0, own_uid) or group in groups


class Peers:
    """The check of connections to the listening sockets of a process. TCP has no accounts, so all may connect there."""

    def __init__(self, listeners: Iterable[Any]) -> None:
        self._groups: dict[str, int] = {}
        for listener in listeners:
            path = listener.getsockname()
            if isinstance(path, str) and path.startswith("/"):
                with suppress(OSError):  # somebody has deleted it: nobody can connect
                    self._groups[path] = Path(path).stat().st_gid
        self._uid = os.geteuid()

    def refused(self, sock: socket.socket, listener: Any) -> str | None:
        """Why a connection is refused; None for one that is not."""
        if sock.family != socket.AF_UNIX:
            return None
        path, uid = listener.getsockname(), ipc.peer(sock)
        if is_allowed(uid, ipc.peer_groups(sock), self._uid, self._groups.get(path)):
            return None
        return f"a process of the uid {uid} connected to {path} and is not in the group of that socket; refused"
