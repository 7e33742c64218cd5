"""``database``: backups of the database, their verification, and the way back from one."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from ucloud_slurm.cli.context import configured
from ucloud_slurm.cli.output import as_json, moment
from ucloud_slurm.config.database import DatabaseSection
from ucloud_slurm.errors import Misconfigured
from ucloud_slurm.setup.services import LISTENER, units
from ucloud_slurm.store import backup
from ucloud_slurm.store import restore as restoring
from ucloud_slurm.store import standby as taking
from ucloud_slurm.store.backup import Contents
from ucloud_slurm.store.database_file import closed
from ucloud_slurm.store.fence import Fence
from ucloud_slurm.store.standby import WATCH_SECONDS

RECONCILE = "Nothing is reported to UCloud until this has run: ucloud-slurm reconcile"


@click.group()
def database() -> None:
    """Back up, verify and restore the database."""


@database.command("backup")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@click.pass_obj
def backup_(path: Path | None, json_: bool) -> None:
    """Make a backup in database.backups, verify it, and delete the oldest ones.

    The service may run meanwhile. Exits with 1 when no backup was made: also where another host works, whose database counts.
    """
    with _section(path) as section:
        if section.standby is not None:
            Fence(section.path).check()
        keep, leave = section.backups_kept, section.minimum_free
        made = backup.make(section.path, section.backup_folder, time.time(), keep=keep, leave=leave)
        _show(made, json_)


@database.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@click.pass_obj
def verify(path: Path | None, file: Path | None, json_: bool) -> None:
    """Read all of a backup, or of the database itself if no FILE is named, and say what is wrong with it.

    The service may run meanwhile. Exits with 78 when the file cannot be used.
    """
    with _section(path) as section:
        _show(backup.verify(file or section.path, in_use=file is None), json_)


@database.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@click.pass_obj
def restore(path: Path | None, file: Path, json_: bool) -> None:
    """Put a backup in the place of the database, which is kept beside it under another name.

    Exits with 1, and changes nothing, while a process has the database open. The restored database is older than what
    UCloud knows: nothing is reported from it until `ucloud-slurm reconcile` has run.
    """
    with _section(path) as section:
        replaced = restoring.restore(file, section.path, section.backup_folder, time.time())
        if json_:
            as_json({"restored": str(section.path), "from": str(file), "replaced": replaced and str(replaced)})
            return
        click.echo(f"{section.path} has been restored from {file}.")
        if replaced:
            click.echo(f"The database of before is {replaced}.")
        click.echo(RECONCILE)


@database.command()
@click.pass_obj
def adopt(path: Path | None) -> None:
    """Take over the database of another host, which must not use it any more.

    Needed after the disk or a copy of the file has moved here. Exits with 1, and changes nothing, while a process has the
    database open. Nothing is reported from it until `ucloud-slurm reconcile` has run.
    """
    with _section(path) as section:
        restoring.adopt(section.path, section.backup_folder, time.time())
        click.echo(f"{section.path} belongs to this host.")
        click.echo(RECONCILE)


@database.command("take-over")
@click.option("--first", is_flag=True, help="There was no lease yet, and the database of this host is the one that counts.")
@click.option("--force", is_flag=True, help="Do not watch the other host: it is off, or cannot reach Slurm and UCloud.")
@click.pass_obj
def take_over(path: Path | None, first: bool, force: bool) -> None:
    """Make this host the one that works, with the newest copy of the database in database.standby.

    A host that has released its lease is not waited for. Another one is watched: exits with 1, and changes nothing, where it
    works. --force does not watch; two hosts that work at once can report different states and bills of one job.
    """
    with _section(path) as section:
        folder = taking.folder_of(section)
        if not first and not force:
            click.echo(f"Reading the lease in {folder.path}; this may take {WATCH_SECONDS:.0f} s.", err=True)
        copy = taking.take_over(section, first=first, force=force)
        if copy is not None:
            click.echo(f"{section.path} has been restored from {copy}; the worker reconciles it in its first pass.")
    with configured(path) as config:
        click.echo(f"This host has the lease. Start it: systemctl enable --now {' '.join((*units(config), LISTENER))}")


@contextmanager
def _section(path: Path | None) -> Iterator[DatabaseSection]:
    """The configuration of the database; or one line for what is wrong, and exit status 78 or 1."""
    with configured(path) as config:
        try:
            yield config.database
        except OSError as error:
            where = Path(error.filename or config.database.path)
            raise Misconfigured([f"{where} {closed(where, error)}."]) from None


def _show(contents: Contents, json_: bool) -> None:
    if json_:
        as_json(contents._asdict() | {"path": str(contents.path), "written_at": moment(contents.written_at)})
        return
    facts = f"{contents.size / 2**20:.1f} MiB, {contents.jobs} jobs, {contents.migration}"
    click.echo(f"{contents.path}: whole ({facts}, written {moment(contents.written_at)})")
