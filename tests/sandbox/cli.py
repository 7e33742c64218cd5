"""``python -m tests.sandbox``: a private real Slurm on this machine, for trying, and the demonstration.

The sandbox is imported only when one of its verbs is used: a pass of the worker starts every few seconds.
"""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tests.sandbox.claim import alone
from tests.sandbox.output import explained, say
from tests.sandbox.sid.cli import sid
from ucloud_slurm.cli.output import as_json

if TYPE_CHECKING:
    from tests.sandbox.cluster import Cluster

FOLDER = Path("/var/tmp/ucloud-slurm-sandbox")
PORT = 17000
LOOKING = ("plan", "status", "plots", "sid", "older")  # verbs that leave the sandbox as it is


@click.group()
@click.option(
    "--folder", type=click.Path(path_type=Path), default=FOLDER, show_default=True, help="Where everything of the sandbox is."
)
@click.option("--port", type=click.IntRange(1024, 65000), default=PORT, show_default=True, help="Its first TCP port.")
@click.pass_context
def sandbox(context: click.Context, folder: Path, port: int) -> None:
    """A private real Slurm on this machine, for trying."""
    from tests.sandbox.cluster import Cluster, ClusterSettings

    if context.invoked_subcommand not in LOOKING:
        with explained():
            context.with_resource(alone(folder))
    context.obj = Cluster(ClusterSettings(folder=folder, base_port=port), say)


@sandbox.command()
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@click.pass_obj
def plan(cluster: "Cluster", json_: bool) -> None:
    """Say what `up` would do to this machine, and do nothing."""
    with explained():
        sentences = cluster.plan()
    if json_:
        as_json(sentences)
        return
    for sentence in sentences:
        click.echo(f"- {sentence}")


@sandbox.command()
@click.pass_obj
def up(cluster: "Cluster") -> None:
    """Start the cluster; Slurm is installed from the distribution's packages if it is not there."""
    with explained():
        if not cluster.running():
            for sentence in cluster.plan():
                click.echo(f"- {sentence}")
        cluster.start()
    click.echo(f"The cluster is up. To look at it: SLURM_CONF={cluster.conf} sinfo")


@sandbox.command()
@click.pass_obj
def down(cluster: "Cluster") -> None:
    """End all its processes, jobs included; what is on disk stays for the next time."""
    with explained():
        cluster.stop()


@sandbox.command()
@click.pass_obj
def remove(cluster: "Cluster") -> None:
    """Also delete its folder and the accounts it made. Installed packages stay."""
    with explained():
        cluster.remove()


@sandbox.command()
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@click.pass_obj
def status(cluster: "Cluster", json_: bool) -> None:
    """List its processes. Exits with 0 when all of them run."""
    with explained():
        alive = cluster.status()
    if json_:
        as_json(alive)
    else:
        for name, up_ in alive.items():
            click.echo(f"{name:<12} {'up' if up_ else 'down'}")
    sys.exit(not all(alive.values()))


@sandbox.command()
@click.option("--keep", is_flag=True, help="Leave the cluster running at the end.")
@click.option(
    "--era",
    type=click.Choice(["today", "2022", "2021"]),
    default="today",
    show_default=True,
    help="The era of the UCloud that plays along.",
)
@click.pass_obj
def demo(cluster: "Cluster", keep: bool, era: str) -> None:
    """Play the three conversations of UCloud's developer guide with real jobs, side by side.

    Then follow a log, open a shell, extend and suspend a job; with today's UCloud, send a file to a drive, have a job read
    it, and fetch its result. Takes about five minutes. Exits with 0 only if everything went as it should.
    """
    from tests.sandbox.demo.play import Demo

    with explained():
        sys.exit(0 if Demo(cluster, click.echo, keep=keep, era=era).play() else 1)


@sandbox.command()
@click.option("--only", metavar="GROUPS", help="Measure only these groups, such as creates,passes.")
@click.option(
    "--backend",
    type=click.Choice(["commands", "pyslurm"]),
    default="commands",
    show_default=True,
    help="How the sites reach Slurm.",
)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="A folder for the numbers as JSON; `plots` draws them."
)
@click.option("--quick", is_flag=True, help="Only try the bench, with few repetitions; the numbers mean little.")
@click.pass_obj
def bench(cluster: "Cluster", only: str | None, backend: str, out: Path | None, quick: bool) -> None:
    """Measure creates, passes and more beside Slurm's bare commands.

    Takes about ten minutes, and leaves nothing running that was not running before. Files are a run of their own, with
    --only files. Exits with 0 also when a number is not as wanted: the table says so.
    """
    from tests.sandbox.bench.run import Bench, chosen, file_name

    with explained():
        groups = chosen(only, backend)
        report = Bench(cluster, click.echo, backend=backend).run(groups, quick=quick)
        if out is not None:
            report.write(out / file_name(groups, backend))


@sandbox.command()
@click.argument("commit")
@click.option("--rounds", type=click.IntRange(1), default=2, show_default=True, help="How often each side is measured.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="A folder for the numbers as JSON."
)
def older(commit: str, rounds: int, out: Path) -> None:
    """Measure COMMIT and this checkout in turn, each by its own bench.

    Takes about four minutes for each side and round.
    """
    from tests.sandbox.bench.older import HEAD, compared, run

    with explained():
        then, now = run(commit, out, rounds, click.echo)
    for cells in (HEAD, *(each.cells() for each in compared(then, now))):
        click.echo(f"{cells[0]:<60} " + "".join(f"{cell:>16}" for cell in cells[1:]))


@sandbox.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
def plots(folder: Path) -> None:
    """Draw what `bench --out` has written into FOLDER, as SVG beside it. Needs matplotlib."""
    from tests.sandbox.bench.plots import draw

    with explained():
        for path in draw(folder):
            click.echo(path)


@sandbox.command()
@click.option("--only", metavar="ATTACKS", help="Play only these attacks, and no load, such as half-frames,code-in-ps.")
@click.option("--load/--no-load", default=True, show_default=True, help="Also do everything at once, and measure.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="A file for the table and the figures as JSON.")
@click.pass_obj
def attack(cluster: "Cluster", only: str | None, load: bool, out: Path | None) -> None:
    """Attack the installed service as strangers, researchers, jobs and a taken-over service do (root).

    Takes about ten minutes, and leaves nothing running that was not running before. Exits with 0 only if the service
    held against all of it.
    """
    from tests.sandbox.attack.run import Kit

    with explained():
        sys.exit(0 if Kit(cluster, click.echo).run(only, load=load, out=out) else 1)


@sandbox.command()
@click.option("--seed", type=int, help="Of a run that is to be repeated; a new one unless given.")
@click.option("--stories", type=click.IntRange(1), default=1000, show_default=True, help="How many jobs' stories are played.")
@click.option("--short", is_flag=True, help="The short form, of about a minute.")
@click.option("--broken", metavar="BUILD", help="Try a build that is broken: repeated-submit, lost-row or invented-state.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="A file for the report as JSON.")
@click.pass_obj
def outage(cluster: "Cluster", seed: int | None, stories: int, out: Path | None, *, short: bool, broken: str | None) -> None:
    """Stop and kill every part at seeded instants while a thousand jobs live, and compare everything in the end (root).

    Takes about twenty minutes, or a few with --stories 250; there are at least half as many kills as stories, so that runs of
    several seeds add up to a long one. Exits with 0 only if nothing was lost, doubled, invented or billed wrongly; with a
    broken build, only if the comparison has found out. The seed decides what happens and in which order; when it happens
    is also up to the machine.
    """
    from tests.sandbox.outage.broken import named
    from tests.sandbox.outage.run import SHORT, Kit, of_broken, sized

    with explained():
        build = named(broken) if broken else None
        size = of_broken(build) if build else SHORT if short else sized(stories)
        sys.exit(0 if Kit(cluster, click.echo).run(seed or int(time.time()), size, out, build) else 1)


sandbox.add_command(sid)
