"""``link`` and ``unlink``: commands of every user on the login node, which ask the daemon ``linkd``."""

import socket
from pathlib import Path

import click

from ucloud_slurm.cli.context import explained
from ucloud_slurm.config import LINK_SOCKET
from ucloud_slurm.errors import NotNow, Refused, one_line
from ucloud_slurm.system import ipc

ANSWER_SECONDS = 60.0  # that the daemon has for its answer: it calls UCloud meanwhile
ANSWER_BYTES = 64 * 1024

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
    """Connect your account with your user of UCloud, by the CODE that UCloud shows you."""
    with explained():
        found = _ask(path, {"verb": "whose", "code": code})
        user, account = _shown(found["username"]), _shown(found["account"])
        question = f"This lets the UCloud user {user} start jobs on this cluster as you ({account}). Go on?"
        if not yes and not click.confirm(question):
            raise Refused("Nothing was changed.")
        done = _ask(path, {"verb": "link", "code": code})
        click.echo(f"{user} is connected with {account}.")
        if done.get("reported") is not True:
            click.echo("UCloud cannot be reached at the moment; it is informed soon.")


@click.command()
@_socket
def unlink(path: Path) -> None:
    """Disconnect your account from UCloud. Running jobs go on."""
    with explained():
        done = _ask(path, {"verb": "unlink"})
        for user in done["usernames"]:
            click.echo(f"{_shown(user)} is not connected with {_shown(done['account'])} any more.")


def _ask(path: Path, message: ipc.Message) -> ipc.Message:
    """Sends a request to the daemon; returns its answer.

    :raises Refused: the daemon refuses
    :raises NotNow: the daemon does not answer
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(ANSWER_SECONDS)
            connection.connect(str(path))
            ipc.send(connection, message, within=ANSWER_SECONDS)
            answer, _ = ipc.receive(connection, ANSWER_BYTES, within=ANSWER_SECONDS)
    except (FileNotFoundError, ConnectionRefusedError, PermissionError):
        raise NotNow(
            f"Nobody answers at {path}. Type this on the login node of the cluster; if this is the login node, please "
            "write to the provider's support."
        ) from None
    except (OSError, ipc.ConnectionLostError):
        raise NotNow("No answer came. Please try again; if it stays so, write to the provider's support.") from None
    if "refused" in answer:
        raise Refused(_shown(answer["refused"]))
    return answer


def _shown(text: object) -> str:
    """Text of others, in one printable line."""
    return one_line(str(text), 300)
