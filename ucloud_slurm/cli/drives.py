"""``drives``: which drives there are, and UCloud's ids of them."""

from pathlib import Path
from typing import Any

import click

from ucloud_slurm.cli.context import opened
from ucloud_slurm.cli.output import as_json, columns, moment, most_option, table
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.drives import rule_of
from ucloud_slurm.store.drives import Drive


@click.command()
@most_option
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@click.pass_obj
def drives(path: Path | None, most: int, json_: bool) -> None:
    """List the drives that UCloud has, or should have, and whose they are."""
    with opened(path) as provider:
        rows = [_row(provider, drive) for drive in provider.drives.listed(most + 1)]
    if len(rows) > most:
        click.echo(f"ucloud-slurm: only {most} drives are listed, and there are more (--most).", err=True)
    rows = rows[:most]
    if json_:
        as_json(rows)
        return
    head = ("DRIVE", "NAME", "OWNER", "PROJECT", "REGISTERED", "STATE")
    table(head, columns(rows, "drive", "name", "owner", "project", "registered", "state"))


def _row(provider: Provider, drive: Drive) -> dict[str, Any]:
    if rule_of(provider, drive) is None:
        state = "not configured any more"
    elif drive.drive_id is None:
        state = f"not registered, next try {moment(drive.try_at)}"
    else:
        state = "registered"
    return {
        "drive": drive.drive_id,
        "name": drive.name,
        "owner": drive.owner,
        "project": drive.project,
        "registered": moment(drive.registered_at),
        "state": state,
        "provider_id": drive.provider_id,
    }
