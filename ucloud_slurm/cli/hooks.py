"""``hooks``: delivers events to programs of the site, runs these programs, and shows what waits."""

import sys
from pathlib import Path

import click

from ucloud_slurm.cli.context import EX_TEMPFAIL, configured, opened
from ucloud_slurm.cli.output import LARGEST, as_json, moment, most_option, table
from ucloud_slurm.config import HOOK_SOCKET
from ucloud_slurm.errors import Misconfigured
from ucloud_slurm.hooks.server import HookServer, caller_of, environment
from ucloud_slurm.provider import operators
from ucloud_slurm.store.acts import HOOKS
from ucloud_slurm.store.hooks import HookEvent
from ucloud_slurm.system import ipc, journal, origin
from ucloud_slurm.worker.hooks import deliver_events
from ucloud_slurm.worker.run import Result


@click.group()
def hooks() -> None:
    """Programs of the site that get events: what waits for them, and what failed."""


@hooks.command()
@click.pass_obj
def deliver(path: Path | None) -> None:
    """Deliver the events that wait: one pass, then it exits.

    Started by its systemd timer. Exits with 75 if the daemon that runs the programs does not answer.
    """
    _begin_journal()
    with opened(path) as provider:
        if deliver_events(provider) is Result.NOT_ALL:
            sys.exit(EX_TEMPFAIL)


@hooks.command()
@click.option(
    "--socket",
    "where",
    type=click.Path(path_type=Path, readable=False),  # it belongs to the account that may connect
    default=HOOK_SOCKET,
    show_default=True,
    help="The socket. Only hooks with this socket are served.",
)
@click.pass_obj
def serve(path: Path | None, where: Path) -> None:
    """Run the programs of the site, for the account to which the socket belongs.

    Started by its systemd units, under an account of its own, which has no access to the database.
    """
    _begin_journal()
    with configured(path) as config:
        mine = [hook for hook in config.hooks if hook.socket == where]
        if not mine:
            raise Misconfigured(
                [f"hooks: no program has the socket {where}; configure one, or stop ucloud-slurm-hookd.socket."]
            )
        with ipc.listener(where, 0o600) as listener:
            HookServer(mine, environment(config.slurm), caller_of(where)).serve(listener)


@hooks.command("list")
@click.option("--all", "everything", is_flag=True, help="Also list delivered and dropped events: the newest ones.")
@most_option
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@click.pass_obj
def list_(path: Path | None, everything: bool, most: int, json_: bool) -> None:
    """List the events that wait for their program, and those whose program has failed too often."""
    with opened(path) as provider:
        events = provider.hook_events
        found = events.newest(most + 1) if everything else events.listed(most + 1)
    if len(found) > most:
        click.echo(f"ucloud-slurm: there are more than these {most}; see --most.", err=True)
    shown = found[:most]
    if everything:
        shown.reverse()
    if json_:
        as_json([event._asdict() for event in shown])
        return
    table(("ID", "EVENT", "SUBJECT", "WRITTEN", "ATTEMPTS", "NEXT", "OUTCOME", "FAILURE"), [_line(event) for event in shown])


@hooks.command()
@click.pass_obj
def retry(path: Path | None) -> None:
    """Deliver all events that wait or have failed as soon as possible, after their program was repaired."""
    with opened(path) as provider:
        number = operators.retry_events(provider, origin.here().who)
        click.echo(f"{number} events are delivered at the next pass.")


@hooks.command()
@click.argument("event", type=click.IntRange(1, LARGEST))
@click.pass_obj
def drop(path: Path | None, event: int) -> None:
    """Give up an EVENT (its number in `hooks list`), so that later ones about the same subject go on."""
    with opened(path) as provider:
        operators.drop_event(provider, event, origin.here().who)


@hooks.command()
@click.pass_obj
def replay(path: Path | None) -> None:
    """Write the people, projects and wallets of now as events, for a program that is new.

    Only events that have a program are written: person-connected, project-changed and wallet-changed.
    """
    with opened(path) as provider:
        acts, now = provider.acts, provider.now()
        with provider.store.writing():
            if number := provider.hook_events.replay(now):
                acts.record(HOOKS, f"wrote {number} people, projects and wallets as events", now)
        click.echo(f"{number} events are delivered at the next pass.")


def _line(event: HookEvent) -> tuple[object, ...]:
    waits = event.outcome is None
    return (
        event.id,
        event.event,
        event.subject,
        moment(event.created_at),
        event.attempts,
        moment(event.next_at) if waits and event.next_at else None,
        event.outcome or "waiting",
        event.failure,
    )


def _begin_journal() -> None:
    journal.begin(journal=not sys.stderr.isatty())
