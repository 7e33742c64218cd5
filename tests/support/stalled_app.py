"""The product's application over a model of Slurm, whose disk or name service does not answer while a file says so.

``STALLED`` names a folder: the configuration is in its file ``config``, and while its file ``disk`` exists no transaction
ends, while its file ``names`` exists no account is found. Everybody's jobs run as ada.
"""

import os
import pickle
import pwd
import time
from pathlib import Path
from typing import Any

from tests.support.model import Model
from ucloud_slurm.app import create_app
from ucloud_slurm.provider import context
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.store import sqlite

FOLDER = Path(os.environ["STALLED"])
ADA = pwd.struct_passwd(("ada", "x", 54321, 54321, "", str(FOLDER / "home"), "/bin/bash"))
PATIENCE = 60.0


def stall(what: str) -> None:
    """Waits while a file exists."""
    until = time.monotonic() + PATIENCE
    while (FOLDER / what).exists() and time.monotonic() < until:
        time.sleep(0.01)


def find(name: str) -> pwd.struct_passwd:
    """As ``pwd.getpwnam``."""
    stall("names")
    return ADA if name == "ada" else by_name(name)


class StalledConnection(sqlite.Connection):
    """A connection whose transactions end when the disk answers."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.conn.set_trace_callback(lambda sql: stall("disk") if sql == "commit" else None)


def application() -> Any:
    """Made in each process of gunicorn."""
    provider = Provider.open(pickle.loads((FOLDER / "config").read_bytes()), scheduler=Model(time.time, user="ada"))
    return create_app(provider=provider)


by_name = pwd.getpwnam
pwd.getpwnam = find
context.own_account = lambda: "ada"  # type: ignore[attr-defined]
sqlite.Connection = StalledConnection  # type: ignore[misc]
app = application()
