"""``jobs``, ``show`` and ``outbox``: the database as tables and as JSON."""

import json
import sys
from pathlib import Path
from typing import Any, TypeVar

import click

from ucloud_slurm.bridge.usage import Accounting
from ucloud_slurm.cli.context import opened
from ucloud_slurm.cli.output import as_json, columns, moment, most_option, table
from ucloud_slurm.provider import operators
from ucloud_slurm.provider.billing import accounting_of, rest_key
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.lookup import Lookup
from ucloud_slurm.store.job_rows import JobRow
from ucloud_slurm.store.job_state import JobPhase
from ucloud_slurm.system import origin

T = TypeVar("T")


@click.command()
@click.option("--all", "everything", is_flag=True, help="Also list ended jobs.")
@most_option
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@click.pass_obj
def jobs(path: Path | None, everything: bool, most: int, json_: bool) -> None:
    """List the jobs, with the Slurm job of each."""
    with opened(path) as provider:
        _jobs(provider, most, everything=everything, json_=json_)


def _jobs(provider: Provider, most: int, *, everything: bool, json_: bool) -> None:
    """The jobs, newest first."""
    if everything:
        rows = provider.jobs.newest(most + 1)
    else:
        rows = provider.jobs.in_phase(JobPhase.ACCEPTED, JobPhase.SUBMITTING, JobPhase.LIVE)[::-1]
    rows = _first(rows, most)
    if json_:
        as_json([_summary(row) for row in rows])
        return
    head = ("JOB", "SLURM", "PHASE", "STATE", "OWNER", "USER", "PRODUCT", "ACCEPTED", "NAME")
    names = ("job", "slurm_id", "phase", "state", "owner", "user", "product", "accepted", "name")
    table(head, columns(map(_summary, rows), *names))


@click.command()
@click.argument("job")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@click.pass_obj
def show(path: Path | None, job: str, json_: bool) -> None:
    """Show one JOB (UCloud's id): its runs, its charges, its bill and its messages to UCloud."""
    with opened(path) as provider:
        _show(provider, job, json_=json_)


def _show(provider: Provider, job_id: str, *, json_: bool) -> None:
    """One job with its runs, charges and messages."""
    row = provider.jobs.get(job_id)
    if row is None:
        click.echo(f"ucloud-slurm: there is no job {job_id!r}; `ucloud-slurm jobs --all` lists them.", err=True)
        sys.exit(1)
    runs = [run._asdict() for run in provider.charges.runs(row.id)]
    charges = [charge._asdict() for charge in provider.charges.of(row.id)]
    messages = [message._asdict() for message in provider.outbox.of(row.id)]
    accounting = accounting_of(provider, Lookup(provider), row, ask=False)
    bill = _bill(provider, row, accounting)
    if json_:
        as_json(_summary(row) | {"bill": bill, "runs": runs, "charges": charges, "messages": messages})
        return
    for name, value in _summary(row).items():
        if name != "account":  # the same as the user
            click.echo(f"{name.replace('_', ' ') + ':':<14}{'-' if value is None else value}")
    click.echo("\nRuns that have ended")
    times = ("submitted", "started", "ended")
    shown = [run | {name: moment(run[name]) for name in times} for run in runs]
    names = (*times, "seconds", "nodes", "cpus", "partition", "tres", "state")
    table([name.upper() for name in names], columns(shown, *names))
    click.echo("\nCharges")
    shown = [charge | {"outcome": charge["outcome"] or "waiting"} for charge in charges]
    head = ("CHARGE", "UNITS", "TIMES", "FROM", "TO", "OUTCOME")
    table(head, columns(shown, "charge_id", "units", "multiplier", "start", "end", "outcome"))
    if bill["used"] is not None:
        measure = accounting.tariff.measure if accounting else "seconds"
        click.echo(
            f"\nUsed {bill['used']} {measure}, charged {bill['charged']}, rest {bill['rest']} "
            f"(a unit is {bill['unit_seconds']} seconds)."
        )
        if accounting:
            click.echo(f"The rest of the wallet is now {bill['wallet_rest']}/{bill['unit_seconds']} of a unit.")
    click.echo("\nMessages to UCloud")
    table(("ID", "WRITTEN", "KIND", "SENDS", "OUTCOME", "WHAT"), [_line(message) for message in messages])


@click.command()
@click.option("--all", "everything", is_flag=True, help="Also list delivered messages: the newest ones.")
@most_option
@click.option("--retry", is_flag=True, help="First queue the messages again that UCloud has refused.")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@click.pass_obj
def outbox(path: Path | None, everything: bool, most: int, retry: bool, json_: bool) -> None:
    """List the messages that wait for UCloud, and those that UCloud has refused."""
    with opened(path) as provider:
        if retry:
            operators.retry_messages(provider, origin.here().who)
        _outbox(provider, most, everything=everything, json_=json_)


def _outbox(provider: Provider, most: int, *, everything: bool, json_: bool) -> None:
    """The outbox, oldest first."""
    found = provider.outbox.newest(most + 1) if everything else provider.outbox.listed(most + 1)
    rows = [row._asdict() for row in _first(found, most)]
    if everything:
        rows.reverse()
    if json_:
        as_json(rows)
        return
    head = ("ID", "JOB", "WRITTEN", "KIND", "SENDS", "OUTCOME", "WHAT", "ANSWER")
    table(head, [(row["id"], row["job_id"], *_line(row)[1:], row["answer"]) for row in rows])


def _first(rows: list[T], most: int) -> list[T]:
    """The first rows; prints a note when there are more."""
    if len(rows) > most:
        click.echo(f"ucloud-slurm: there are more than these {most}; see --most.", err=True)
    return rows[:most]


def _summary(row: JobRow) -> dict[str, Any]:
    return {
        "job": row.id,
        "slurm_id": row.slurm_id,
        "phase": row.phase,
        "state": row.state,
        "slurm_state": row.slurm_state,
        "message": row.reason,
        "name": row.name,
        "owner": row.owner,
        "project": row.project,
        "user": row.local_user,
        "account": row.local_user,  # the name of this key before "user"
        "category": row.category,
        "product": row.product,
        "accepted": moment(row.accepted_at),
        "ended": moment(row.ended_at),
        "request": row.request_id,
        "stop": row.stop,
        "refused": row.refused_why,
    }


def _bill(provider: Provider, row: JobRow, accounting: Accounting | None) -> dict[str, Any]:
    """What Slurm counted, what was charged and the rest, in node-, CPU-, GPU- or billing-seconds.

    ``wallet_rest`` is what the wallet carries to its next job, in parts of a unit, of which it has ``unit_seconds``.
    """
    rest = None if row.used is None else row.used - row.charged
    return {
        "used": row.used,
        "charged": row.charged,
        "rest": rest,
        "unit_seconds": accounting.frequency_seconds if accounting else None,
        "wallet_rest": provider.charges.rest(rest_key(provider, row, accounting)) if accounting else None,
    }


def _line(message: dict[str, Any]) -> tuple[Any, ...]:
    body = json.loads(message["body"])
    if message["kind"] == "charge":
        what = f"{body['units']} units x {body['numberOfProducts']}"
    elif message["kind"] == "usage":
        what = f"{body['usage']} units in all"
    else:
        what = ": ".join(filter(None, (body["update"].get("state"), body["update"]["status"])))
    outcome = message["outcome"] or "waiting"
    return (message["id"], moment(message["created_at"]), message["kind"], message["sends"], outcome, what)
