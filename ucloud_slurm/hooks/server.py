"""The daemon that runs the programs of the site, with rights of its own: it has no database, no token and no sudo.

A caller names an event, and never a program: that is in the configuration. The caller is the uid at the other end of
the socket, as the kernel knows it. Messages are those of :mod:`ucloud_slurm.system.ipc`.
"""

import logging
import os
import socket
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from ucloud_slurm.config import JOB_ACCEPTED, Hook, SlurmSection
from ucloud_slurm.errors import one_line
from ucloud_slurm.hooks.program import HookFailedError, run
from ucloud_slurm.system import ipc
from ucloud_slurm.system.acceptor import accept
from ucloud_slurm.system.ipc import ConnectionLostError, Message

log = logging.getLogger(__name__)

CONNECTIONS = 32  # at a time; the pass that delivers events has a few of them
MESSAGE_SECONDS = 5.0  # for a message to come, and for its answer to go


def environment(slurm: SlurmSection) -> dict[str, str]:
    """The whole environment of a program, with the unit's folder for its state (systemd.exec(5): STATE_DIRECTORY)."""
    state = {name: os.environ[name] for name in ("STATE_DIRECTORY",) if name in os.environ}
    path = f"{slurm.commands}:/usr/bin:/bin:/usr/sbin:/sbin"
    return {"PATH": path, "LANG": "C.UTF-8", "SLURM_CONF": str(slurm.conf), **state}


class HookServer:
    """Serves a listening socket to one account, and to itself."""

    def __init__(self, hooks: Iterable[Hook], environment: dict[str, str], caller: int) -> None:
        """Starts nothing.

        :param hooks: whose programs it runs
        :param environment: of the programs
        :param caller: the uid that may ask
        """
        self._hooks = {event: hook for hook in hooks for event in hook.events}
        self._environment = environment
        self._callers = {caller, os.geteuid()}

    def serve(self, listener: socket.socket) -> None:
        """Answers until the listener is closed."""
        accept(listener, self._serve, CONNECTIONS, "hooks")

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                answer = partial(self._answer, ipc.peer(connection))
                ipc.serve(connection, answer, waits=MESSAGE_SECONDS, sends=MESSAGE_SECONDS)
        except (OSError, ConnectionLostError) as error:
            log.debug("a request for a hook was not answered: %s", error)

    def _answer(self, uid: int, message: Message, _descriptors: Sequence[int]) -> Message:
        if uid not in self._callers:
            log.warning("the account with uid %d may not ask for hooks", uid)
            return {"failed": "This account may not ask for hooks."}
        event, document, within = message.get("event"), message.get("document"), message.get("within")
        if not (isinstance(event, str) and isinstance(document, str) and isinstance(within, (int, float))):
            return {"failed": "The request was not understood; both sides must be of one release."}
        hook = self._hooks.get(event)
        if hook is None:
            return {"failed": f"{one_line(event, 40)} has no program here; restart ucloud-slurm-hookd after a change of hooks"}
        try:
            return {"output": run(hook.program, document, min(hook.seconds, within), self._environment)}
        except HookFailedError as error:
            why = str(error)
        except (OSError, ValueError) as error:
            why = f"{hook.program} could not be run ({one_line(str(error), 200)}); look at the limits of the unit"
        if event == JOB_ACCEPTED:
            log.warning("%s: %s", event, why)  # of the other events the pass that delivers them says it
        return {"failed": why}


def caller_of(path: Path) -> int:
    """The uid to which a socket belongs: systemd gives it to the account that may connect.

    :raises OSError: it is not there
    """
    return path.stat().st_uid
