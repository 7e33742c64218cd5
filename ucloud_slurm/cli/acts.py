"""``acts``: what administrators and users have changed, who did it, when and from where."""

from contextlib import closing
from pathlib import Path

import click

from ucloud_slurm.cli.context import configured
from ucloud_slurm.cli.output import MOST, Since, as_json, moment, table
from ucloud_slurm.store.acts import Act, Acts
from ucloud_slurm.store.reading import ReadOnlyStore


@click.command()
@click.option("--since", type=Since(), default=0.0, help="A span (90m, 12h, 7d), or a date in UTC. Left out: all.")
@click.option("--most", type=MOST, default=1000, show_default=True, metavar="NUMBER", help="How many: the newest.")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@click.pass_obj
def acts(path: Path | None, since: float, most: int, json_: bool) -> None:
    """List what administrators and users have changed: who, when, what, and from where.

    Commands that only show something are not in it, and neither is what the service does by itself.
    """
    with configured(path) as config, closing(ReadOnlyStore.of(config.database)) as store:
        found = Acts(store).listed(since, most + 1)
    if len(found) > most:
        click.echo(f"ucloud-slurm: there are more than these {most}; see --most.", err=True)
    found = found[-most:]
    if json_:
        as_json([act._asdict() | {"at": moment(act.at)} for act in found])
        return
    table(("WHEN", "WHO", "KIND", "WHAT", "FROM"), [(moment(act.at), act.who, act.kind, act.what, _from(act)) for act in found])


def _from(act: Act) -> str | None:
    """Where it came from, in one cell: the account and the host, the terminal, the address of the person's host."""
    place = f"{act.account}@{act.host}" if act.account and act.host else None
    return " ".join(part for part in (place, act.terminal, act.client) if part) or None
