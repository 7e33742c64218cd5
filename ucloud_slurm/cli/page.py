"""``page``: the operator's page in a browser, for as long as somebody looks at it."""

import re
import signal
import socket
import sys
import time
from pathlib import Path

import click

from ucloud_slurm.cli.context import opened
from ucloud_slurm.cli.output import LARGEST
from ucloud_slurm.errors import Misconfigured, one_line
from ucloud_slurm.page.access import LINK_SECONDS, Access
from ucloud_slurm.page.app import create_page
from ucloud_slurm.page.guard import Guard
from ucloud_slurm.page.server import Server
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.system import ipc, journal, origin

SOCKET_MODE = 0o660


@click.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    metavar="NUMBER",
    help="The port of 127.0.0.1, the same here and on your computer. Default: a free one.",
)
@click.option(
    "--idle",
    type=click.IntRange(1, LARGEST),
    default=30,
    show_default=True,
    metavar="MINUTES",
    help="End after so long without a request.",
)
@click.option(
    "--socket",
    "local",
    type=click.Path(path_type=Path),
    help="Serve at this Unix socket (mode 0660) instead, to everybody whom the proxy behind it lets in, until it is stopped.",
)
@click.option(
    "--acts",
    is_flag=True,
    help="Let those who see the page cancel jobs, connect and disconnect users, begin and end maintenance, and queue "
    "messages and events again. Each is recorded.",
)
@click.option(
    "--user-header",
    "header",
    metavar="NAME",
    help="With --socket and --acts: the request header in which the proxy says who asks. Each act is recorded as theirs.",
)
@click.pass_obj
def page(path: Path | None, port: int, idle: int, local: Path | None, acts: bool, header: str | None) -> None:
    """Show jobs, messages, people, wallets, drives and use in your browser. Nothing can be changed there without --acts.

    Prints a line for ssh and a link, which opens the page once. Ends with Ctrl-C.
    """
    journal.begin(journal=not sys.stderr.isatty())
    signal.signal(signal.SIGTERM, _interrupt)
    with opened(path) as provider:
        guard = _guard(header, acts=acts, local=local is not None)
        try:
            if local is not None:
                _at_socket(provider, local, guard)
            else:
                _at_port(provider, port, idle * 60.0, guard)
        except KeyboardInterrupt:
            click.echo("The page is closed.")


def _guard(header: str | None, *, acts: bool, local: bool) -> Guard | None:
    """Who may change something; None: nobody.

    :param local: the page is served at a Unix socket
    :raises Misconfigured: it would not be known who does it, or a header would be believed that anybody can send
    """
    if header is not None and not (acts and local):
        raise Misconfigured(["--user-header: is read with --socket and --acts only; leave it out."])
    if header is not None and re.fullmatch(r"[A-Za-z0-9-]+", header) is None:
        raise Misconfigured([f"--user-header: {one_line(header, 40)!r} should be the name of a header, such as X-Remote-User."])
    if acts and local and header is None:
        raise Misconfigured(["--acts: at a socket, name the header in which the proxy says who asks (--user-header)."])
    return Guard(origin.here().who, header) if acts else None


def _at_port(provider: Provider, port: int, idle: float, guard: Guard | None) -> None:
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(("127.0.0.1", port))
        except OSError as error:
            raise Misconfigured([f"--port: {port} cannot be used ({error.strerror}); leave it out for a free one."]) from None
        listening.listen()
        port, access = listening.getsockname()[1], Access(time.monotonic, listening.getsockname()[1])
        server = Server(listening, create_page(provider, access, port, guard))
        click.echo(f"On your computer, type\n\n    ssh -N -L {port}:127.0.0.1:{port} {_host()}\n")
        click.echo(f"and open this link there, within {LINK_SECONDS / 60:.0f} minutes; it works once:\n")
        click.echo(f"    http://127.0.0.1:{port}/enter?token={access.token}\n")
        click.echo(f"Ctrl-C closes the page, and so do {idle / 60:.0f} minutes without a request.")
        server.serve_while(lambda: access.idle_seconds() < idle)
        click.echo(f"The page is closed: nobody has asked for {idle / 60:.0f} minutes.")


def _host() -> str:
    """The name by which other hosts reach this one, as far as it knows."""
    full = socket.getfqdn()
    return socket.gethostname() if full.startswith("localhost") else full


def _at_socket(provider: Provider, path: Path, guard: Guard | None) -> None:
    with ipc.listener(path, SOCKET_MODE) as listening:
        server = Server(listening, create_page(provider, None, guard=guard))
        click.echo(f"The page is served at {path}, to everybody who can connect.")
        server.serve_while(lambda: True)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
