"""``audit``: Slurm's seconds beside the units that UCloud was sent, and what nobody knows or pays for."""

import sys
from pathlib import Path
from typing import Any

import click

from ucloud_slurm.cli.context import EX_TEMPFAIL, opened
from ucloud_slurm.cli.output import Since, as_json, moment, table
from ucloud_slurm.errors import CoreRefusedError, CoreUnavailableError
from ucloud_slurm.provider import audit as provider_audit
from ucloud_slurm.provider.audit import Audit, AuditedWallet
from ucloud_slurm.slurm.errors import SchedulerUnavailableError
from ucloud_slurm.ucloud.channel import Payer


@click.command()
@click.option("--since", type=Since(), default="1d", show_default=True, help="A span (90m, 12h, 7d), or a date in UTC.")
@click.option("--json", "json_", is_flag=True, help="Print JSON, with every job.")
@click.pass_obj
def audit(path: Path | None, since: float, json_: bool) -> None:
    """Compare Slurm's accounting database with the bills.

    Lists what is not explained: jobs that were renamed, moved or enlarged, jobs that UCloud does not have, and use that is
    billed to nobody. Exits with 1 when there is any, with 75 when Slurm or UCloud could not be asked, else with 0.
    """
    with opened(path) as provider:
        try:
            found = provider_audit.audit(provider, since)
        except (SchedulerUnavailableError, CoreUnavailableError, CoreRefusedError) as error:
            click.echo(f"ucloud-slurm: nothing was compared: {error}", err=True)
            sys.exit(EX_TEMPFAIL)
    if json_:
        as_json(_document(found, since))
    else:
        _print(found)
    sys.exit(bool(found.findings))


def _print(found: Audit) -> None:
    wallets = [(_owner(each.payer), each.payer.category, each.jobs, *_units(each)) for each in found.wallets()]
    table(("WALLET", "CATEGORY", "JOBS", "USED", "SENT", "REST"), wallets)
    if found.findings:
        click.echo("\nNot explained")
        rows = [(each.kind.value, each.slurm_id, each.job_id, each.text) for each in found.findings]
        table(("WHAT", "SLURM", "JOB", "WHY"), rows)
    else:
        click.echo(f"\nEverything is explained: {len(found.jobs)} jobs.")


def _units(wallet: AuditedWallet) -> tuple[str, int, str]:
    return f"{wallet.used_units:.2f}", wallet.units, f"{wallet.used_units - wallet.units:+.2f}"


def _owner(payer: Payer) -> str:
    return f"{payer.kind.value} {payer.owner}"


def _document(found: Audit, since: float) -> dict[str, Any]:
    wallets = [each._asdict() | {"payer": _owner(each.payer), "category": each.payer.category} for each in found.wallets()]
    jobs = [each._asdict() | {"payer": _owner(each.payer), "category": each.payer.category} for each in found.jobs]
    return {"since": moment(since), "wallets": wallets, "jobs": jobs, "findings": [each._asdict() for each in found.findings]}
