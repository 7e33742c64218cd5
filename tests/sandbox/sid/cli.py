"""``python -m tests.sandbox sid``: a Debian sid in a folder, with a newer Slurm and pyslurm, to try this checkout."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tests.sandbox.output import explained, say

if TYPE_CHECKING:
    from tests.sandbox.sid.sid import Sid

FOLDER = Path("/var/tmp/ucloud-slurm-sid")


@click.group()
@click.option("--folder", type=click.Path(path_type=Path), default=FOLDER, show_default=True, help="Where everything of it is.")
@click.pass_context
def sid(context: click.Context, folder: Path) -> None:
    """A Debian sid in a folder, with a newer Slurm and pyslurm, to try this checkout in. For developers; needs root."""
    from tests.sandbox.sid.sid import Sid

    context.obj = Sid(folder, say)


@sid.command()
@click.pass_obj
def build(sid: "Sid") -> None:
    """Make what is not there yet; takes some minutes the first time."""
    with explained():
        sid.build()


@sid.command()
@click.option("--online", is_flag=True, help="Let it have this machine's network, instead of one of its own.")
@click.option(
    "--fetch",
    multiple=True,
    metavar="PATH",
    help="A file or folder to take back into the checkout afterwards; can be repeated.",
)
@click.argument("command", nargs=-1, required=True)
@click.pass_obj
def run(sid: "Sid", command: tuple[str, ...], online: bool, fetch: tuple[str, ...]) -> None:
    """Run a command in a copy of the checkout, after `--`. What is missing is built first.

    Its processes, among them any cluster that it starts, end with it. Exits as the command does.
    """
    with explained():
        sys.exit(sid.run(command, online=online, fetch=fetch))


@sid.command()
@click.pass_obj
def remove(sid: "Sid") -> None:
    """Delete all of it. Packages that were installed to make it stay."""
    with explained():
        sid.remove()
