"""``reconcile``: the database, Slurm and UCloud are compared, and what differs is repaired."""

import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from ucloud_slurm.cli.context import EX_TEMPFAIL, opened
from ucloud_slurm.cli.output import as_json, table
from ucloud_slurm.system.filelock import WORKER, exclusive_lock
from ucloud_slurm.worker import reconcile as worker_reconcile
from ucloud_slurm.worker.comparison import Difference
from ucloud_slurm.worker.reconcile import Outcome

PASS_SECONDS = 120.0  # that a pass of the worker may take before it is given up to wait for its end


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what differs and what would be done; nothing is written.")
@click.option("--gone", multiple=True, metavar="CLUSTER", help="This cluster is not used any more: its jobs end as FAILURE.")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@click.pass_obj
def reconcile(path: Path | None, dry_run: bool, gone: tuple[str, ...], json_: bool) -> None:
    """Compare the database, Slurm and UCloud, say what differs, and repair it.

    For a database that was restored from a backup or lost, and after the cluster has moved. Until it has run, nothing is
    reported to UCloud from such a database; the worker runs it too, and leaves only what needs your decision. It may run at
    any time, and again: then it finds nothing. Everything is asked before anything is changed.

    Exits with 0 when nothing differs or all is repaired, with 1 when something is left for you (with --dry-run: when
    anything differs), and with 75 when UCloud or Slurm did not answer and nothing was changed.
    """
    with opened(path) as provider, exclusive_lock(provider.store.path, WORKER, PASS_SECONDS) as mine:
        if not mine:
            _unchanged("a pass of the worker is under way; try again in a minute")
        try:
            found = worker_reconcile.reconcile(provider, gone=frozenset(gone), dry_run=dry_run)
        except worker_reconcile.UNAVAILABLE as error:
            _unchanged(str(error))
    if json_:
        as_json(_document(found))
    else:
        _print(found, dry_run=dry_run)
    sys.exit(bool(found.differences if dry_run else found.left))


def _unchanged(why: str) -> NoReturn:
    click.echo(f"ucloud-slurm: nothing was changed: {why}", err=True)
    sys.exit(EX_TEMPFAIL)


def _print(found: Outcome, *, dry_run: bool) -> None:
    if found.differences:
        rows = [(each.job.id, each.database, each.slurm, each.job.ucloud, each.act, each.what) for each in found.differences]
        table(("JOB", "DATABASE", "SLURM", "UCLOUD", "DO", "WHAT"), rows)
        click.echo()
    number, left = len(found.differences) - len(found.left), len(found.left)
    differ = "Nothing differs." if not found.differences else f"{number} of {number + left} differences "
    if found.differences:
        differ += "would be repaired." if dry_run else "are repaired." if found.repaired else "can be repaired."
    click.echo(differ)
    if left:
        click.echo(f"{left} need you: see WHAT.")
    if found.behind and dry_run:
        click.echo(f"Until then nothing is reported to UCloud: {found.behind}.")
    elif found.behind:
        click.echo(f"Reports to UCloud go on: {found.behind}, and is reconciled now.")


def _document(found: Outcome) -> dict[str, Any]:
    return {"behind": found.behind, "repaired": found.repaired, "differences": [_as_dict(each) for each in found.differences]}


def _as_dict(found: Difference) -> dict[str, Any]:
    job = found.job
    return {
        "job": job.id,
        "slurm_id": found.slurm_id,
        "database": None if job.row is None else {"phase": job.row.phase, "state": job.row.state},
        "slurm": None if job.slurm is None else {"state": job.slurm.state, "ended": job.slurm.ended},
        "ucloud": job.ucloud,
        "act": found.act,
        "what": found.what,
    }
