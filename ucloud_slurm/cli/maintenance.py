"""``maintenance``: when which machines accept no new jobs."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click

from ucloud_slurm.cli.context import opened
from ucloud_slurm.cli.output import as_json, moment, table
from ucloud_slurm.errors import one_line
from ucloud_slurm.provider import operators
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.store.job_state import JobPhase
from ucloud_slurm.store.maintenance import ALL, MaintenanceWindow, covering
from ucloud_slurm.system import origin

HEAD = ("MACHINE", "STATE", "SINCE", "UNTIL", "BY")

_product = click.option(
    "--product",
    "products",
    multiple=True,
    metavar="PRODUCT",
    help="Only this machine: its id, or category/id. It can be given several times. Left out: all machines.",
)


@click.group(invoke_without_command=True)
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@click.pass_context
def maintenance(context: click.Context, json_: bool) -> None:
    """Show which machines accept no new jobs, and how many of their jobs wait, are being submitted, or are at Slurm."""
    if context.invoked_subcommand is None:
        with opened(context.obj) as provider:
            _show(provider, json_=json_)


@maintenance.command()
@click.argument("message")
@click.option("--until", metavar="TIME", help="A date and time in UTC (2026-12-01T18:00), or a span from now (90m, 12h, 7d).")
@_product
@click.pass_obj
def on(path: Path | None, message: str, until: str | None, products: tuple[str, ...]) -> None:
    """Accept no new jobs: each is refused with MESSAGE, one line that the researcher reads.

    Jobs that were accepted and are not at Slurm yet wait until it is off; jobs at Slurm go on. Without --until it ends with
    `maintenance off`. A machine that is under maintenance gets the new message and time.
    """
    with opened(path) as provider:
        end = None if until is None else operators.end_time(until, provider.now())
        operators.begin_maintenance(provider, operators.machines(provider, products) or [ALL], message, end, origin.here().who)
        _show(provider)


@maintenance.command()
@_product
@click.pass_obj
def off(path: Path | None, products: tuple[str, ...]) -> None:
    """Accept new jobs again. The worker submits those that wait."""
    with opened(path) as provider:
        named = operators.machines(provider, products)
        ended = operators.end_maintenance(provider, named, origin.here().who)
        for key in named or ended:
            what = "accepts new jobs again" if key in ended else "was not under maintenance"
            click.echo(f"{operators.machine_name(key)}: {what}.")
        if not named and not ended:
            click.echo("No machine was under maintenance.")


def _show(provider: Provider, *, json_: bool = False) -> None:
    now, windows = provider.now(), provider.maintenance.listed()
    jobs = _jobs(provider, [window for window in windows if not window.is_over(now)])
    if json_:
        as_json({"windows": [window._asdict() | {"state": _state(window, now)} for window in windows], "jobs": jobs})
        return
    if not windows:
        click.echo("No machine is under maintenance.")
        return
    rows = [
        (operators.machine_name(each.key), _state(each, now), moment(each.begun_at), moment(each.until), each.begun_by)
        for each in windows
    ]
    table(HEAD, rows)
    for window in windows:
        click.echo(f"{one_line(operators.machine_name(window.key))}: {one_line(window.message)}")
    click.echo(
        f"Jobs of machines under maintenance: {jobs['waiting']} wait for its end, {jobs['submitting']} are being submitted, "
        f"{jobs['at_slurm']} are at Slurm."
    )


def _jobs(provider: Provider, windows: Sequence[MaintenanceWindow]) -> dict[str, int]:
    """How many jobs of the machines in these windows are how far."""
    phases = Counter(row.phase for row in provider.jobs.open() if covering(windows, row.category, row.product))
    return {"waiting": phases[JobPhase.ACCEPTED], "submitting": phases[JobPhase.SUBMITTING], "at_slurm": phases[JobPhase.LIVE]}


def _state(window: MaintenanceWindow, now: float) -> str:
    return "over" if window.is_over(now) else "on"
