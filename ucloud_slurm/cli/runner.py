"""``runner``: the small service that may use sudo."""

import sys
from pathlib import Path

import click

from ucloud_slurm.cli.context import explained
from ucloud_slurm.config import read
from ucloud_slurm.system import ipc, journal
from ucloud_slurm.users.runner import Runner
from ucloud_slurm.users.service import refuse_root


@click.command()
@click.pass_obj
def runner(path: Path | None) -> None:
    """Do what must be done as other accounts than our own, by the one rule of sudo.

    Started by its systemd units; listens on users.runner.
    """
    journal.begin(verbose=False, journal=not sys.stderr.isatty())
    with explained():
        refuse_root()
        config = read(path)
        with ipc.listener(config.users.runner, 0o600) as socket:
            Runner(config.users.sudo, config.users.program).serve(socket)
