"""The ``ucloud-slurm`` command and its verbs."""

import sys
import time
from pathlib import Path

import click

from ucloud_slurm import __version__, journal
from ucloud_slurm.cli import look, sandbox
from ucloud_slurm.cli.checks import run_checks
from ucloud_slurm.cli.link import link, linkd, unlink
from ucloud_slurm.cli.listener import listen
from ucloud_slurm.cli.opening import explained, opened
from ucloud_slurm.cli.output import as_json
from ucloud_slurm.cli.products import products
from ucloud_slurm.cli.sid import sid
from ucloud_slurm.cli.users import users
from ucloud_slurm.config import VARIABLE, read
from ucloud_slurm.errors import Problem
from ucloud_slurm.provider import Provider
from ucloud_slurm.users.runner import Runner, listener
from ucloud_slurm.users.service import refuse_root
from ucloud_slurm.worker.one_pass import Result, one_pass

EX_TEMPFAIL = 75  # sysexits.h


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ucloud-slurm")
@click.option("--config", "path", type=click.Path(path_type=Path), envvar=VARIABLE,
              help=f"The configuration file. Default: ${VARIABLE}, else /etc/ucloud-slurm/config.toml.")  # fmt: skip
@click.pass_context
def main(context: click.Context, path: Path | None) -> None:
    """Makes this Slurm cluster a UCloud provider."""
    context.obj = path


@main.command()
@click.option("--loop", type=float, metavar="SECONDS", help="Repeat, with so many seconds from start to start.")
@click.option("--wait", type=float, default=0.0, metavar="SECONDS",
              help="Wait so long for another pass that is under way, instead of leaving all to it.")  # fmt: skip
@click.option("--verbose", is_flag=True, help="Say more.")
@click.pass_obj
def worker(path: Path | None, loop: float | None, wait: float, verbose: bool) -> None:
    """Do one pass: submit what is owed, watch, tell, charge, stop.

    Exits with 0, or with 75 when Slurm or UCloud could not be reached; what was not done is done at the next pass.
    """
    journal.begin(verbose=verbose, journal=not sys.stderr.isatty())
    with opened(path) as provider:
        while True:
            begun = time.monotonic()
            result = _one(provider, wait, forgive=loop is not None)
            if loop is None:
                sys.exit(EX_TEMPFAIL if result is Result.NOT_ALL else 0)
            time.sleep(max(0.0, loop - (time.monotonic() - begun)))


def _one(provider: Provider, wait: float, *, forgive: bool) -> Result:
    try:
        return one_pass(provider, wait=wait)
    except Problem as error:
        if not forgive:
            click.echo(f"ucloud-slurm: {error.why}", err=True)
        else:
            click.echo(f"ucloud-slurm: this pass was not finished: {error.why}", err=True)
        return Result.NOT_ALL


@main.command()
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@click.pass_obj
def check(path: Path | None, json_: bool) -> None:
    """Try everything: configuration, database, keys, Slurm, UCloud, accounts.

    Exits with 0 when all is well, else with 1. Warnings do not count.
    """
    findings = run_checks(path)
    if json_:
        as_json([finding.as_dict() for finding in findings])
    else:
        for finding in findings:
            click.echo(finding.line())
    sys.exit(any(finding.failed for finding in findings))


@main.command()
@click.option("--all", "everything", is_flag=True, help="Also those that have ended.")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@click.pass_obj
def jobs(path: Path | None, everything: bool, json_: bool) -> None:
    """List the jobs, and the Slurm job of each."""
    with opened(path) as provider:
        look.jobs(provider, everything=everything, json_=json_)


@main.command()
@click.argument("job")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@click.pass_obj
def show(path: Path | None, job: str, json_: bool) -> None:
    """Show one JOB (UCloud's id): what it used, what was told, what was charged and what is left."""
    with opened(path) as provider:
        look.show(provider, job, json_=json_)


@main.command()
@click.option("--all", "everything", is_flag=True, help="Also what was delivered.")
@click.option("--retry", is_flag=True, help="First put what UCloud refused back into its place, to be sent again.")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@click.pass_obj
def outbox(path: Path | None, everything: bool, retry: bool, json_: bool) -> None:
    """List what waits to be told to UCloud, and what UCloud refused for good."""
    with opened(path) as provider:
        if retry:
            provider.outbox.retry()
        look.outbox(provider, everything=everything, json_=json_)


@main.command()
@click.pass_obj
def runner(path: Path | None) -> None:
    """Do what must be done as other accounts than our own, by the one rule of sudo.

    Started by its systemd units; listens on users.runner.
    """
    journal.begin(verbose=False, journal=not sys.stderr.isatty())
    with explained():
        refuse_root()
        config = read(path)
        with listener(config.users.runner, 0o600) as socket:
            Runner(config.users.sudo, config.users.program).serve(socket)


main.add_command(users)
main.add_command(products)
for verb in (link, unlink, linkd, listen):
    main.add_command(verb)
sandbox.sandbox.add_command(sid)
main.add_command(sandbox.sandbox)
