"""A site with hooks: the daemon that runs the programs, in this process, and programs in a folder."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

from ucloud_slurm.config import Config, SlurmSection, parse_table
from ucloud_slurm.config.hooks import Hook
from ucloud_slurm.hooks.server import HookServer, environment
from ucloud_slurm.system import ipc

# Writes what it gets into a file, a line for each event.
RECORD = "#!/bin/sh\ncat >> {log}\n"


class HookSite:
    """Programs of a site, and the log of what they got."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "hooks"
        self.folder.mkdir()
        self.socket = self.folder / "hooks.sock"
        self.log = self.folder / "log"

    def program(self, name: str, text: str = RECORD) -> Path:
        """Writes a program; ``{log}`` is filled in."""
        path = self.folder / name
        path.write_text(text.replace("{log}", str(self.log)))
        path.chmod(0o755)
        return path

    def hook(self, *events: str, text: str = RECORD, **settings: Any) -> dict[str, Any]:
        """A table of the configuration."""
        program = self.program(events[0], text)
        return {"events": list(events), "program": str(program), "socket": str(self.socket), **settings}

    def got(self) -> list[dict[str, Any]]:
        """The events that programs got, in order."""
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []

    @contextmanager
    def serving(self, hooks: Config | list[dict[str, Any]], caller: int | None = None) -> Iterator[None]:
        """The daemon runs."""
        tables = hooks.hooks if isinstance(hooks, Config) else [parse_table(Hook, hook) for hook in hooks]
        server = HookServer(tables, environment(SlurmSection()), os.geteuid() if caller is None else caller)
        with patch("ucloud_slurm.system.acceptor.ACCEPT_SECONDS", 0.05), ipc.listener(self.socket, 0o600) as listener:
            thread = threading.Thread(target=_serve, args=(server, listener))
            thread.start()
            try:
                yield
            finally:
                listener.close()
                thread.join()


def _serve(server: HookServer, listener: socket.socket) -> None:
    with suppress(OSError):  # it was closed before the thread began
        server.serve(listener)
