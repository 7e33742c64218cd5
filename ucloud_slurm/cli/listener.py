"""``listener``: hears UCloud's channel. Reads the configuration, and becomes the small process that needs none."""

import os
import sys
from pathlib import Path

import click

from ucloud_slurm.cli.context import opened
from ucloud_slurm.config import Config, location
from ucloud_slurm.listener.settings import Settings
from ucloud_slurm.system import journal


@click.command("listener")
@click.option("--renew", is_flag=True, help="Only put a fresh access token into the database; the listener does that.")
@click.pass_obj
def listen(path: Path | None, renew: bool) -> None:
    """Hear from UCloud what becomes of wallets, projects and users.

    Started by its systemd unit. Whenever a wallet is locked or unlocked a pass of the worker follows at once. Exits
    with 0 where the UCloud of ucloud.era has no such channel.
    """
    journal.begin(verbose=False, journal=not sys.stderr.isatty())
    with opened(path) as provider:
        config, era = provider.config, provider.era
        if not era.has_channel:
            click.echo(f"ucloud-slurm: UCloud of the era {era.name} has no channel; no listener is needed.", err=True)
            return
        if renew:
            provider.core.access_token()
            return
        command = settings(config, (path or location()).absolute()).command()
    os.execv(command[0], command)  # noqa: S606  no shell is wanted


def settings(config: Config, path: Path) -> Settings:
    """What the listener needs of the configuration.

    :param path: of the file
    """
    ca_file = config.ucloud.ca_file
    return Settings(
        url=config.ucloud.url,
        ca_file=str(ca_file.absolute()) if ca_file else None,
        timeout=config.ucloud.timeout,
        provider=config.provider.id,
        database=str(config.database.path.absolute()),
        config=str(path),
    )
