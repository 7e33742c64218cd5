"""``worker``: one pass, or a pass every so many seconds."""

import gc
import sys
import time
from pathlib import Path

import click

from ucloud_slurm.cli.context import EX_TEMPFAIL, opened
from ucloud_slurm.errors import Problem
from ucloud_slurm.system import journal
from ucloud_slurm.worker.run import Result, run_once


@click.command()
@click.option("--loop", type=float, metavar="SECONDS", help="Repeat, with so many seconds from start to start.")
@click.option("--wait", type=float, default=0.0, metavar="SECONDS", help="Wait so long for the end of another pass.")
@click.option("--verbose", is_flag=True, help="Log more.")
@click.pass_obj
def worker(path: Path | None, loop: float | None, wait: float, verbose: bool) -> None:
    """Do one pass: submit accepted jobs, poll Slurm, send updates and charges to UCloud, cancel jobs that must end.

    Exits with 0, or with 75 when Slurm or UCloud could not be reached; the next pass does what is left.
    """
    journal.begin(verbose=verbose, journal=not sys.stderr.isatty())
    # The objects of a pass live until its end; collecting garbage meanwhile costs half as much as the pass.
    gc.disable()
    with opened(path) as provider:
        while True:
            begun = time.monotonic()
            try:
                result = run_once(provider, wait=wait)
            except Problem as error:
                result = Result.NOT_ALL
                click.echo(f"ucloud-slurm: this pass was not finished: {error.why}", err=True)
            if loop is None:
                sys.exit(EX_TEMPFAIL if result is Result.NOT_ALL else 0)
            gc.collect()
            time.sleep(max(0.0, loop - (time.monotonic() - begun)))
