"""``runner``, ``linkd`` and ``listener``: the daemons that systemd starts beside the service and the worker."""

import os
import sys
from pathlib import Path

import click

from ucloud_slurm.cli.context import configured, opened
from ucloud_slurm.config import Config, location
from ucloud_slurm.errors import CoreUnavailableError, Misconfigured, StorageError
from ucloud_slurm.listener.settings import Settings
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.linking import report_connection
from ucloud_slurm.system import ipc, journal
from ucloud_slurm.system.child import continue_group_at_end
from ucloud_slurm.users.linking import Linking, LinkServer
from ucloud_slurm.users.runner import Runner


@click.command()
@click.pass_obj
def runner(path: Path | None) -> None:
    """Act as other accounts than the service's, by one rule of sudo.

    Started by its systemd units; listens on users.runner.
    """
    _begin_journal()
    with configured(path) as config:
        try:
            _kept = continue_group_at_end()
        except OSError as error:
            raise Misconfigured([f"/bin/sh: the runner cannot start it ({error.strerror}); let this account run it."]) from None
        with ipc.listener(config.users.runner, 0o600) as socket:
            Runner(config.users.sudo, config.users.program).serve(socket)


@click.command()
@click.pass_obj
def linkd(path: Path | None) -> None:
    """Serve the users of this host who connect their account with UCloud.

    Started by its systemd units; listens on users.link. Needs mapping = "table".
    """
    _begin_journal()
    with opened(path) as provider:
        if provider.config.users.mapping != "table":
            raise Misconfigured(['users.mapping: users connect their accounts only where it is "table".'])
        with ipc.listener(provider.config.users.link, 0o666) as socket:
            LinkServer(linking(provider)).serve(socket)


def linking(provider: Provider) -> Linking:
    """What linkd serves, made of the parts of a provider."""

    def report(username: str) -> bool:
        try:
            report_connection(provider, username)
        except (CoreUnavailableError, StorageError) as error:
            journal.say(f"UCloud does not know of a changed connection yet: {error}")
            return False
        return True

    return Linking(provider.config.users, provider.people, provider.codes, report, provider.now)


@click.command()
@click.option("--renew", is_flag=True, help="Only store a fresh access token in the database; the listener uses this.")
@click.pass_obj
def listener(path: Path | None, renew: bool) -> None:
    """Receive UCloud's notifications about wallets, projects and users.

    Started by its systemd unit. When a wallet is locked or unlocked, a pass of the worker follows at once. Exits with 0
    where the UCloud of ucloud.era has no such channel.
    """
    _begin_journal()
    with opened(path) as provider:
        config, era = provider.config, provider.era
        if not era.has_channel:
            journal.say(f"UCloud of the era {era.name} has no channel; no listener is needed.")
            return
        if renew:
            provider.core.access_token()
            return
        command = _settings(config, (path or location()).absolute()).command()
    os.execv(command[0], command)  # noqa: S606  no shell is wanted


def _settings(config: Config, path: Path) -> Settings:
    ca_file, credentials = config.ucloud.ca_file, config.ucloud.proxy_credentials_file
    return Settings(
        url=config.ucloud.url,
        ca_file=str(ca_file.absolute()) if ca_file else None,
        timeout=config.ucloud.timeout,
        provider=config.provider.id,
        database=str(config.database.path.absolute()),
        config=str(path),
        proxy=config.ucloud.proxy,
        proxy_credentials_file=str(credentials.absolute()) if credentials else None,
        journal=config.journal.format,
        standby=config.database.standby is not None,
    )


def _begin_journal() -> None:
    journal.begin(verbose=False, journal=not sys.stderr.isatty())
