"""``standby``: the daemon that renews the lease of the host that works, and copies its database for the other one."""

import signal
import sys
import threading
from pathlib import Path

import click

from ucloud_slurm.cli.context import configured
from ucloud_slurm.store.standby import Keeper
from ucloud_slurm.system import journal


@click.command()
@click.pass_obj
def standby(path: Path | None) -> None:
    """Renew this host's lease in database.standby and copy its database there, or watch the lease of the other host.

    Started by its systemd unit, on both hosts. When it is stopped it leaves a copy of everything and releases the lease:
    another host can take over at once, and this one works no more until it is started again.
    """
    journal.begin(verbose=False, journal=not sys.stderr.isatty())
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    with configured(path) as config:
        Keeper(config.database).run(stopping)
