"""``worker``: one pass, or a pass every so many seconds."""

from pathlib import Path

import click

from ucloud_slurm.cli.output import Seconds
from ucloud_slurm.cli.passes import work


@click.command()
@click.option("--loop", type=Seconds(0), metavar="SECONDS", help="Repeat, with so many seconds from start to start.")
@click.option("--wait", type=Seconds(0), default=0.0, metavar="SECONDS", help="Wait so long for the end of another pass.")
@click.option("--verbose", is_flag=True, help="Log more.")
@click.pass_obj
def worker(path: Path | None, loop: float | None, wait: float, verbose: bool) -> None:
    """Do one pass: submit accepted jobs, poll Slurm, send updates and charges to UCloud, cancel jobs that must end.

    Exits with 0, or with 75 when Slurm or UCloud could not be reached; the next pass does what is left.
    """
    work(path, loop=loop, wait=wait, verbose=verbose)
