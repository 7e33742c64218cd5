"""``link`` and ``unlink``: commands of every user on the login node, which ask the daemon ``linkd``."""

import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

import click

from ucloud_slurm.cli.context import explained
from ucloud_slurm.config import LINK_SOCKET
from ucloud_slurm.errors import NotNow, Refused, one_line
from ucloud_slurm.system import ipc

ANSWER_SECONDS = 60.0  # that the daemon has for its answer: it calls UCloud meanwhile
ANSWER_BYTES = 64 * 1024
POLL_SECONDS = 1.0  # between two questions for the answer of the browser
LONGEST_SECONDS = 900.0  # that the browser is waited for, whatever the daemon says
MAX_CODE_CHARACTERS = 100
READABLE = (
    "other people on this host can read the code in the list of processes. Next time type ucloud-slurm link without it: "
    "it asks for the code."
)

_socket = click.option(
    "--socket",
    "path",
    type=click.Path(path_type=Path),
    default=LINK_SOCKET,
    show_default=True,
    help="The socket of the daemon.",
)


@click.command()
@click.argument("code", required=False, metavar="")
@click.option("--yes", is_flag=True, help="Do not ask here. The browser is asked all the same.")
@_socket
def link(code: str | None, yes: bool, path: Path) -> None:
    """Connect your account with your user of UCloud, by the code that UCloud shows you.

    The code is asked for, or read from the standard input. Then the page of UCloud in your browser asks whether this
    is your account.
    """
    with explained():
        if code is not None:
            click.echo(f"ucloud-slurm: {READABLE}", err=True)
        code = code or _typed_code()
        found = _ask(path, {"verb": "whose", "code": code})
        user, account = _shown(found["username"]), _shown(found["account"])
        for sentence in found.get("before", []):
            click.echo(_shown(sentence))
        question = f"This lets the UCloud user {user} start jobs on this cluster as you ({account}). Go on?"
        if not yes and not click.confirm(question):
            raise Refused("Nothing was changed.")
        claimed = _ask(path, {"verb": "claim", "code": code})
        click.echo(f"Now answer the page of UCloud in your browser: it asks whether {account} is your account.")
        done = _wait(path, code, min(float(claimed["seconds"]), LONGEST_SECONDS))
        click.echo(f"{user} is connected with {account}.")
        if done.get("reported") is not True:
            click.echo("UCloud cannot be reached at the moment; it is informed soon.")


def _typed_code() -> str:
    """The code that is typed, unseen, or that comes through a pipe.

    :raises Refused: there is none
    """
    try:
        text = str(click.prompt("Code", hide_input=True)) if sys.stdin.isatty() else sys.stdin.readline(MAX_CODE_CHARACTERS)
    except UnicodeDecodeError:
        text = ""
    if not text.strip():
        raise Refused("No code was typed.")
    return text.strip()[:MAX_CODE_CHARACTERS]


def _wait(path: Path, code: str, seconds: float) -> ipc.Message:
    """Waits for the answer of the browser.

    :raises Refused: it was no, or none came in time
    """
    until = time.monotonic() + seconds
    why = "The browser has not answered in time. Nothing was changed; please connect again at UCloud."
    try:
        while time.monotonic() < until:
            time.sleep(POLL_SECONDS)
            with suppress(NotNow):
                answer = _ask(path, {"verb": "outcome", "code": code})
                if answer.get("outcome") == "connected":
                    return answer
    except KeyboardInterrupt:
        why = "Given up. Nothing was changed."
    with suppress(NotNow):
        answer = _ask(path, {"verb": "release", "code": code})
        if answer.get("outcome") == "connected":
            return answer
    raise Refused(why)


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
    :raises NotNow: the daemon does not answer at the moment
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
    if answer.get("busy") is True:
        raise NotNow(_shown(answer["refused"]))
    if "refused" in answer:
        raise Refused(_shown(answer["refused"]))
    return answer


def _shown(text: object) -> str:
    """Text of others, in one printable line."""
    return one_line(str(text), 300)
