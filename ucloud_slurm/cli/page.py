"""``page``: the operator's page in a browser, for as long as somebody looks at it."""

import signal
import socket
import sys
import time
from pathlib import Path

import click

from ucloud_slurm.cli.context import opened
from ucloud_slurm.errors import Misconfigured
from ucloud_slurm.page.access import LINK_SECONDS, Access
from ucloud_slurm.page.app import create_page
from ucloud_slurm.page.server import Server
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.system import ipc, journal

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
    type=click.IntRange(1),
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
@click.pass_obj
def page(path: Path | None, port: int, idle: int, local: Path | None) -> None:
    """Show jobs, messages, people, wallets, drives and use in your browser. Nothing can be changed there.

    Prints a line for ssh and a link, which opens the page once. Ends with Ctrl-C.
    """
    journal.begin(journal=not sys.stderr.isatty())
    signal.signal(signal.SIGTERM, _interrupt)
    with opened(path) as provider:
        try:
            if local is not None:
                _at_socket(provider, local)
            else:
                _at_port(provider, port, idle * 60.0)
        except KeyboardInterrupt:
            click.echo("The page is closed.")


def _at_port(provider: Provider, port: int, idle: float) -> None:
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(("127.0.0.1", port))
        except OSError as error:
            raise Misconfigured([f"--port: {port} cannot be used ({error.strerror}); leave it out for a free one."]) from None
        listening.listen()
        port, access = listening.getsockname()[1], Access(time.monotonic)
        server = Server(listening, create_page(provider, access, port))
        click.echo(f"On your computer, type\n\n    ssh -N -L {port}:127.0.0.1:{port} {socket.getfqdn()}\n")
        click.echo(f"and open this link there, within {LINK_SECONDS / 60:.0f} minutes; it works once:\n")
        click.echo(f"    http://127.0.0.1:{port}/enter?token={access.token}\n")
        click.echo(f"Ctrl-C closes the page, and so do {idle / 60:.0f} minutes without a request.")
        server.serve_while(lambda: access.idle_seconds() < idle)
        click.echo(f"The page is closed: nobody has asked for {idle / 60:.0f} minutes.")


def _at_socket(provider: Provider, path: Path) -> None:
    with ipc.listener(path, SOCKET_MODE) as listening:
        server = Server(listening, create_page(provider, None))
        click.echo(f"The page is served at {path}, to everybody who can connect.")
        server.serve_while(lambda: True)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
