"""The ``ucloud-slurm`` command and its verbs.

Only the verb that is asked for is imported: a pass of the worker starts every few seconds.
"""

from importlib import import_module
from pathlib import Path

import click

from ucloud_slurm import __version__
from ucloud_slurm.config import VARIABLE

# Each verb, and where it is: a module of this room, and its name there.
VERBS = {
    "check": ("check", "check"),
    "jobs": ("inspect", "jobs"),
    "link": ("link", "link"),
    "linkd": ("link", "linkd"),
    "listener": ("listener", "listen"),
    "outbox": ("inspect", "outbox"),
    "products": ("products", "products"),
    "runner": ("runner", "runner"),
    "show": ("inspect", "show"),
    "unlink": ("link", "unlink"),
    "users": ("users", "users"),
    "worker": ("worker", "worker"),
}


class Verbs(click.Group):
    """The verbs, each imported when it is looked at."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """See :class:`click.Group`."""
        return sorted(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """See :class:`click.Group`."""
        if cmd_name not in VERBS:
            return None
        module, name = VERBS[cmd_name]
        verb = getattr(import_module(f"ucloud_slurm.cli.{module}"), name)
        assert isinstance(verb, click.Command)  # noqa: S101
        return verb


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ucloud-slurm")
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    envvar=VARIABLE,
    help=f"The configuration file. Default: ${VARIABLE}, else /etc/ucloud-slurm/config.toml.",
)
@click.pass_context
def main(context: click.Context, path: Path | None) -> None:
    """Makes this Slurm cluster a UCloud provider."""
    context.obj = path
