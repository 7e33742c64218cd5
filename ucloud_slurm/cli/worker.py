"""``worker``: one pass, or one after the other."""

import gc
import sys
import time
from pathlib import Path

import click

from ucloud_slurm.cli.context import opened
from ucloud_slurm.errors import Problem
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.system import journal
from ucloud_slurm.worker.run import Result, run_once

EX_TEMPFAIL = 75  # sysexits.h


@click.command()
@click.option("--loop", type=float, metavar="SECONDS", help="Repeat, with so many seconds from start to start.")
@click.option(
    "--wait",
    type=float,
    default=0.0,
    metavar="SECONDS",
    help="Wait so long for another pass that is under way, instead of leaving all to it.",
)
@click.option("--verbose", is_flag=True, help="Say more.")
@click.pass_obj
def worker(path: Path | None, loop: float | None, wait: float, verbose: bool) -> None:
    """Do one pass: submit what is owed, watch, tell, charge, stop.

    Exits with 0, or with 75 when Slurm or UCloud could not be reached; what was not done is done at the next pass.
    """
    journal.begin(verbose=verbose, journal=not sys.stderr.isatty())
    # A pass makes many small things that last as long as it does; looking for cycles among them costs half as much.
    gc.disable()
    with opened(path) as provider:
        while True:
            begun = time.monotonic()
            result = _one(provider, wait, forgive=loop is not None)
            if loop is not None:
                gc.collect()
            if loop is None:
                sys.exit(EX_TEMPFAIL if result is Result.NOT_ALL else 0)
            time.sleep(max(0.0, loop - (time.monotonic() - begun)))


def _one(provider: Provider, wait: float, *, forgive: bool) -> Result:
    try:
        return run_once(provider, wait=wait)
    except Problem as error:
        if not forgive:
            click.echo(f"ucloud-slurm: {error.why}", err=True)
        else:
            click.echo(f"ucloud-slurm: this pass was not finished: {error.why}", err=True)
        return Result.NOT_ALL
