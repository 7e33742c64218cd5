"""``link`` and ``unlink``, for everybody on this host, and ``linkd``, which answers them.

The first two read no configuration: it is not for everybody to read.
"""

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from ucloud_slurm import journal
from ucloud_slurm.cli.opening import opened
from ucloud_slurm.config import UsersSection
from ucloud_slurm.errors import Misconfigured, one_line
from ucloud_slurm.users.linkd import LARGEST, LinkServer
from ucloud_slurm.users.linking import Linking
from ucloud_slurm.users.runner import listener
from ucloud_slurm.worker.people import tell

SOCKET: Path = UsersSection().link
PATIENCE = 60.0  # seconds; UCloud may have to be told
LARGEST_ANSWER = 64 * 1024

_socket = click.option("--socket", "path", type=click.Path(path_type=Path), default=SOCKET, show_default=True,
                       help="Where the provider listens.")  # fmt: skip
_yes = click.option("--yes", is_flag=True, help="Do not ask.")


@click.command()
@click.argument("code")
@_socket
@_yes
def link(code: str, path: Path, yes: bool) -> None:
    """Connect your account on this cluster with your user of UCloud, by the CODE that UCloud showed you."""
    found = _ask(path, {"do": "look", "code": code})
    user, account = one_line(str(found.get("ucloud_user")), 200), one_line(str(found.get("account")), 40)
    click.echo(f"This lets the UCloud user {user} start jobs on this cluster as you ({account}).")
    if not yes and not click.confirm("Go on?"):
        click.echo("Nothing was changed.")
        sys.exit(1)
    click.echo(one_line(str(_ask(path, {"do": "link", "code": code}).get("done"))))


@click.command()
@_socket
@_yes
def unlink(path: Path, yes: bool) -> None:
    """Take it back: no user of UCloud starts jobs as you any more. Jobs that run go on."""
    found = _ask(path, {"do": "mine"})
    names = found.get("ucloud_users")
    shown = ", ".join(one_line(str(name), 200) for name in names) if isinstance(names, list) else ""
    if not shown:
        click.echo("No user of UCloud is connected with your account.")
        return
    click.echo(f"Connected with your account: {shown}.")
    if not yes and not click.confirm("Give it up?"):
        click.echo("Nothing was changed.")
        sys.exit(1)
    click.echo(one_line(str(_ask(path, {"do": "unlink"}).get("done"))))


@click.command()
@click.pass_obj
def linkd(path: Path | None) -> None:
    """Answer `link` and `unlink`; with the table of users.

    Listens on the socket that systemd hands over, else on `users.link`.
    """
    journal.begin(journal=not sys.stderr.isatty())
    with opened(path) as provider:
        users = provider.config.users
        if users.mapping != "table":
            raise Misconfigured([f'users.mapping: is "{users.mapping}"; people connect themselves with "table" only.'])
        linking = Linking(users, provider.store, provider.now, lambda username: tell(provider, username))
        with listener(users.link, 0o666) as made:
            LinkServer(linking.answer).serve(made)


def _ask(path: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Asks the provider, or says why not and ends."""
    line = json.dumps(request).encode() + b"\n"
    if len(line) > LARGEST:
        _fail("this is too long for a code.")
    data = b""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(os.fspath(path))
            connection.sendall(line)
            while not data.endswith(b"\n") and len(data) < LARGEST_ANSWER and (piece := connection.recv(65536)):
                data += piece
    except OSError as error:
        _fail(f"{path}: nobody answers there ({error.strerror or 'too slow'}). Is this the login node? If it is, ask "
              "the administrator to start ucloud-slurm-link.socket.")  # fmt: skip
    try:
        answer = json.loads(data)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        _fail(f"{path}: the answer cannot be understood; please tell the administrator.")
    if "refused" in answer:
        _fail(one_line(str(answer["refused"])))
    return answer


def _fail(sentence: str) -> NoReturn:
    click.echo(f"ucloud-slurm: {sentence}", err=True)
    sys.exit(1)
