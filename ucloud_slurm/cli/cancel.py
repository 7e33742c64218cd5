"""``cancel``: ends a job that UCloud has not asked to end."""

from pathlib import Path

import click

from ucloud_slurm.cli.context import opened
from ucloud_slurm.provider.operators import cancel_job
from ucloud_slurm.system import origin


@click.command()
@click.argument("job")
@click.option("--why", metavar="TEXT", help="One line that the researcher reads in UCloud.")
@click.pass_obj
def cancel(path: Path | None, job: str, why: str | None) -> None:
    """Cancel one JOB (UCloud's id), whatever it does. What it has used is billed.

    It is marked to end, and Slurm is asked at once; while Slurm does not answer, the worker asks again at each pass.
    """
    with opened(path) as provider:
        click.echo(cancel_job(provider, job, why, origin.here().who))
