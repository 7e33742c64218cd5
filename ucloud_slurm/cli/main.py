"""The ``ucloud-slurm`` command and its verbs.

A verb is imported when it is used: a pass of the worker starts every few seconds and must load little.
"""

import errno
import io
import os
import sys
from importlib import import_module
from pathlib import Path
from types import TracebackType

import click

from ucloud_slurm import __version__
from ucloud_slurm.config import VARIABLE
from ucloud_slurm.errors import place
from ucloud_slurm.system import journal

EX_USAGE = 2
NOT_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

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
    type=click.Path(path_type=Path, readable=False),  # who may read it, its reader says
    envvar=VARIABLE,
    help=f"The configuration file. Default: ${VARIABLE}, else /etc/ucloud-slurm/config.toml.",
)
@click.pass_context
def main(context: click.Context, path: Path | None) -> None:
    """Make this Slurm cluster a provider of UCloud."""
    context.obj = path


def run() -> None:
    """Does what the command line of this process says, and ends the process. What nobody has foreseen is one sentence, too."""
    _open_streams()
    sys.excepthook = _unforeseen
    if (word := next((word for word in sys.argv[1:] if not _is_text(word)), None)) is not None:
        journal.say(f"{word!a} on the command line should be text in UTF-8.")
        sys.exit(EX_USAGE)
    main(prog_name="ucloud-slurm")


def _is_text(word: str) -> bool:
    """Whether an argument is text, and not bytes, which neither the database nor JSON can have."""
    return word.encode("utf-8", "replace").decode() == word


def _open_streams() -> None:
    """Opens standard streams that are closed: files get their numbers else. Letters that a terminal lacks become ASCII."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _unforeseen(_kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
    """Says what went wrong in one sentence. The text of an error can be a secret."""
    if isinstance(error, OSError) and error.filename is None and error.errno in NOT_WRITTEN:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # where the rest goes at the end
        journal.say(f"The output cannot be written ({error.strerror}).")
    else:
        what = f"{type(error).__name__} at {place(error)}"
        journal.say(f"{what} is a mistake of this program; please report it, with the file that ucloud-slurm report writes.")
