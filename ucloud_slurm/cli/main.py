"""The ``ucloud-slurm`` command and its verbs.

A verb is imported when it is used: a pass of the worker starts every few seconds and must load little.
"""

from importlib import import_module
from pathlib import Path

import click

from ucloud_slurm import __version__
from ucloud_slurm.config import VARIABLE

# Each verb: its module in this room, and its name there.
MODULES = {
    "acts": ("acts", "acts"),
    "audit": ("audit", "audit"),
    "cancel": ("cancel", "cancel"),
    "check": ("check", "check"),
    "database": ("database", "database"),
    "drives": ("drives", "drives"),
    "hooks": ("hooks", "hooks"),
    "jobs": ("inspect", "jobs"),
    "link": ("link", "link"),
    "linkd": ("daemons", "linkd"),
    "listener": ("daemons", "listener"),
    "maintenance": ("maintenance", "maintenance"),
    "outbox": ("inspect", "outbox"),
    "page": ("page", "page"),
    "products": ("products", "products"),
    "reconcile": ("reconcile", "reconcile"),
    "report": ("report", "report"),
    "runner": ("daemons", "runner"),
    "setup": ("setup", "setup"),
    "show": ("inspect", "show"),
    "standby": ("standby", "standby"),
    "status": ("status", "status"),
    "unlink": ("link", "unlink"),
    "users": ("users", "users"),
    "worker": ("worker", "worker"),
}


class LazyGroup(click.Group):
    """A group that imports a verb when it is looked up."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in MODULES:
            return None
        module, name = MODULES[cmd_name]
        verb: click.Command = getattr(import_module(f"ucloud_slurm.cli.{module}"), name)
        return verb


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
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
    """Make this Slurm cluster a provider of UCloud."""
    context.obj = path
