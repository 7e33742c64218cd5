"""``link`` and ``unlink``, for everybody on the login node, and ``linkd``, the daemon that hears them."""

import json
import socket
import sys
from pathlib import Path
from typing import Any

import click

from ucloud_slurm.cli.context import explained, opened
from ucloud_slurm.config import LINK_SOCKET
from ucloud_slurm.errors import Misconfigured, NotNow, Refused, StorageTrouble, one_line
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.linking import tell
from ucloud_slurm.system import journal
from ucloud_slurm.ucloud.errors import CoreUnavailableError
from ucloud_slurm.users.linking import Linking, Server
from ucloud_slurm.users.runner import listener

PATIENCE = 60.0  # seconds that the daemon has for an answer: it tells UCloud in them
LARGEST = 64 * 1024  # bytes of an answer

_socket = click.option(
    "--socket",
    "path",
    type=click.Path(path_type=Path),
    default=LINK_SOCKET,
    show_default=True,
    help="The socket of the daemon.",
)


@click.command()
@click.argument("code")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_socket
def link(code: str, yes: bool, path: Path) -> None:
    """Connect your account with your user of UCloud, by the CODE that was shown there."""
    with explained():
        found = _ask(path, {"verb": "whose", "code": code})
        user, account = _shown(found["username"]), _shown(found["account"])
        question = f"This lets the UCloud user {user} start jobs on this cluster as you ({account}). Go on?"
        if not yes and not click.confirm(question):
            raise Refused("Nothing was changed.")
        done = _ask(path, {"verb": "link", "code": code})
        click.echo(f"{user} is connected with {account}.")
        if done.get("told") is not True:
            click.echo("UCloud cannot be reached at the moment; it is told soon.")


@click.command()
@_socket
def unlink(path: Path) -> None:
    """Disconnect your account from UCloud. Jobs that run go on."""
    with explained():
        done = _ask(path, {"verb": "unlink"})
        for user in done["usernames"]:
            click.echo(f"{_shown(user)} is not connected with {_shown(done['account'])} any more.")


@click.command()
@click.pass_obj
def linkd(path: Path | None) -> None:
    """Wait for people of this host who connect themselves with UCloud.

    Started by its systemd units; listens on users.link. Needs mapping = "table".
    """
    journal.begin(verbose=False, journal=not sys.stderr.isatty())
    with opened(path) as provider:
        if provider.config.users.mapping != "table":
            raise Misconfigured(['users.mapping: nobody connects themselves unless it is "table".'])
        with listener(provider.config.users.link, 0o666) as waiting:
            Server(linking(provider)).serve(waiting)


def linking(provider: Provider) -> Linking:
    """What the daemon decides, with the parts of the product that it needs."""

    def told(username: str) -> bool:
        try:
            tell(provider, username)
        except (CoreUnavailableError, StorageTrouble) as error:
            click.echo(f"ucloud-slurm: UCloud is told of a connection later: {error}", err=True)
            return False
        return True

    return Linking(provider.config.users, provider.people, provider.codes, told, provider.now)


def _ask(path: Path, message: dict[str, str]) -> dict[str, Any]:
    """Has the daemon do something.

    :raises Refused: it does not
    :raises NotNow: it is not there
    """
    line = json.dumps(message).encode() + b"\n"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(str(path))
            connection.sendall(line)
            with connection.makefile("rb") as answers:
                answer = json.loads(answers.readline(LARGEST))
    except (FileNotFoundError, ConnectionRefusedError, PermissionError):
        raise NotNow(
            f"Nobody answers at {path}. Type this on the login node of the cluster; if you do, please tell "
            "the provider's support."
        ) from None
    except (OSError, ValueError):
        raise NotNow("No answer came. Please try again; if it stays so, tell the provider's support.") from None
    if not isinstance(answer, dict) or "refused" in answer:
        raise Refused(_shown(answer["refused"] if isinstance(answer, dict) else "The answer cannot be read."))
    return answer


def _shown(text: object) -> str:
    """Foreign text as it may be printed."""
    return one_line(str(text), 300)
