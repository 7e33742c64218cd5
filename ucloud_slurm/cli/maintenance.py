"""``maintenance``: when which machines accept no new jobs."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from ucloud_slurm.cli.context import opened
from ucloud_slurm.cli.output import as_json, moment, table
from ucloud_slurm.errors import Refused, one_line
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.store.acts import MAINTENANCE
from ucloud_slurm.store.job_state import JobPhase
from ucloud_slurm.store.maintenance import ALL, MaintenanceWindow, covering
from ucloud_slurm.system import origin

MOST_CHARACTERS = 200  # of a message
SPAN_SECONDS = {"m": 60, "h": 3600, "d": 86400}
LONGEST_SECONDS = 366 * 86400.0
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
        now, by, acts, keys = provider.now(), origin.here().who, provider.acts, _keys(provider, products)
        message, end = _message(message), None if until is None else _moment(until, now)
        what = f"maintenance of {_names(keys)}{f' until {moment(end)}' if end is not None else ''}: {message}"
        with provider.store.writing():
            provider.maintenance.begin(MaintenanceWindow(*key, message, end, now, by) for key in keys)
            acts.record(MAINTENANCE, what, now)
        _show(provider)


@maintenance.command()
@_product
@click.pass_obj
def off(path: Path | None, products: tuple[str, ...]) -> None:
    """Accept new jobs again. The worker submits those that wait."""
    with opened(path) as provider:
        windows = {window.key: window for window in provider.maintenance.listed()}
        keys = _keys(provider, products) if products else [*windows]
        everything = windows.get(ALL)
        if products and everything is not None and not everything.is_over(provider.now()):
            raise Refused(
                "All machines are under maintenance, not only these; end it with `maintenance off` without --product."
            )
        now, by, acts, ended = provider.now(), origin.here().who, provider.acts, [key for key in keys if key in windows]
        with provider.store.writing():
            provider.maintenance.end(ended, now, by)
            if ended:
                acts.record(MAINTENANCE, f"end of the maintenance of {_names(ended)}", now)
        for key in keys:
            click.echo(f"{_name(key)}: {'accepts new jobs again' if key in windows else 'was not under maintenance'}.")
        if not keys:
            click.echo("No machine was under maintenance.")


def _show(provider: Provider, *, json_: bool = False) -> None:
    now, windows = provider.now(), provider.maintenance.listed()
    jobs = _jobs(provider, [window for window in windows if not window.is_over(now)])
    if json_:
        states = ({"state": _state(window, now)} for window in windows)
        as_json({"windows": [asdict(window) | state for window, state in zip(windows, states, strict=True)], "jobs": jobs})
        return
    if not windows:
        click.echo("No machine is under maintenance.")
        return
    rows = [(_name(each.key), _state(each, now), moment(each.begun_at), moment(each.until), each.begun_by) for each in windows]
    table(HEAD, rows)
    for window in windows:
        click.echo(f"{one_line(_name(window.key))}: {one_line(window.message)}")
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


def _name(key: tuple[str, str]) -> str:
    return "all" if key == ALL else "/".join(key)


def _names(keys: Sequence[tuple[str, str]]) -> str:
    return ", ".join(map(_name, keys))


def _keys(provider: Provider, names: Sequence[str]) -> list[tuple[str, str]]:
    """Category and id of the named products; those of :data:`ALL` where none is named.

    :raises Refused: a name is that of no product, or of several
    """
    keys = []
    for name in dict.fromkeys(names):
        found = [each for each in provider.config.products if name in (each.id, f"{each.category}/{each.id}")]
        if len(found) != 1:
            what = "is the id of several products; name one" if found else "is not a configured product; there are"
            known = ", ".join(f"{each.category}/{each.id}" for each in found or provider.config.products)
            raise Refused(f"--product: {one_line(name, 100)} {what}: {known}.")
        keys.append((found[0].category, found[0].id))
    return keys or [ALL]


def _message(text: str) -> str:
    """The message, which is sent to UCloud.

    :raises Refused: it is not one line of printable characters, or too long
    """
    text = text.strip()
    if not (text.isprintable() and 1 <= len(text) <= MOST_CHARACTERS):
        raise Refused(f"MESSAGE should be one line of 1 to {MOST_CHARACTERS} characters, without control characters.")
    return text


def _moment(text: str, now: float) -> float:
    """A time in seconds since the epoch.

    :raises Refused: it is none, or not in the year that begins now
    """
    if match := re.fullmatch(r"([0-9]{1,6})([mhd])", text):
        seconds = now + int(match[1]) * SPAN_SECONDS[match[2]]
    else:
        try:
            when = datetime.fromisoformat(text)
        except ValueError:
            what = "is neither a time in UTC such as 2026-12-01T18:00 nor a span such as 90m, 12h or 7d"
            raise Refused(f"--until: {one_line(text, 40)} {what}.") from None
        seconds = (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    if not now < seconds <= now + LONGEST_SECONDS:
        raise Refused(f"--until: {one_line(text, 40)} should be after now, and within a year.")
    return seconds
