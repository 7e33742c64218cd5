"""``users``: which user of UCloud is which Unix user, for administrators."""

import csv
import os
import pwd
import sys
from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from typing import Any, TextIO

import click

from ucloud_slurm.bridge.naming import JobPaths
from ucloud_slurm.cli.context import opened
from ucloud_slurm.cli.output import as_json, moment, table
from ucloud_slurm.errors import Misconfigured, NotFound, one_line
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.operators import user_link
from ucloud_slurm.setup.proposal import is_word
from ucloud_slurm.system import origin
from ucloud_slurm.users.mapping import IneligibleUserError

HEAD = ("ucloud_user", "local_user")


@click.group()
def users() -> None:
    """Connect users of UCloud with Unix users of this host (mapping = "table")."""


@users.command("list")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@click.pass_obj
def list_(path: Path | None, json_: bool) -> None:
    """List the connected users."""
    with opened(path) as provider:
        found: list[dict[str, Any]] = [
            {
                "ucloud_user": link.username,
                "local_user": link.local_user,
                "uid": link.uid,
                "added_at": link.added_at,
                "added_by": link.added_by,
                "at_ucloud": str(provider.link_states.of(link.username) or ""),
            }
            for link in provider.people.listed()
        ]
    if json_:
        as_json(found)
        return
    head = ("UCLOUD USER", "USER", "UID", "SINCE", "BY", "AT UCLOUD")
    shown = [row | {"added_at": moment(row["added_at"])} for row in found]
    table(head, [tuple(row.values()) for row in shown])


@users.command()
@click.argument("ucloud_user")
@click.argument("local_user")
@click.option("--shared", is_flag=True, help="Even if another user of UCloud is connected with LOCAL_USER.")
@click.pass_obj
def add(path: Path | None, ucloud_user: str, local_user: str, shared: bool) -> None:
    """Connect UCLOUD_USER with the Unix user LOCAL_USER."""
    with opened(path) as provider:
        before = provider.people.former(ucloud_user, local_user)
        link = user_link(provider, ucloud_user, local_user, origin.here().who)
        provider.people.add([link], per_account=_per_account(provider, shared))
        click.echo(f"{ucloud_user} is connected with {local_user}.")
        for each in before:
            click.echo(f"Before: {each}")


@users.command()
@click.argument("ucloud_user")
@click.pass_obj
def remove(path: Path | None, ucloud_user: str) -> None:
    """Disconnect UCLOUD_USER. Running jobs go on."""
    with opened(path) as provider:
        provider.people.remove(ucloud_user, origin.here().who, provider.now())
        click.echo(f"{ucloud_user} is not connected any more.")


@users.command("import")
@click.argument("file", type=click.File(encoding="utf-8-sig"))
@click.option("--shared", is_flag=True, help="Allow several users of UCloud with one Unix user.")
@click.pass_obj
def import_(path: Path | None, file: TextIO, shared: bool) -> None:
    """Connect all users in FILE, or none: CSV with the columns ucloud_user and local_user (- for standard input)."""
    with opened(path) as provider:
        who, links, wrong = origin.here().who, [], []
        for number, row in _rows(file):
            try:
                links.append(user_link(provider, row["ucloud_user"] or "", row["local_user"] or "", who))
            except Misconfigured as error:
                wrong += [f"{_name(file)}, line {number}: {sentence}" for sentence in error.sentences]
        if wrong:
            raise Misconfigured(wrong)
        new = provider.people.add(links, per_account=_per_account(provider, shared))
        click.echo(f"{new} connected, {len(links) - new} were already.")


@users.command()
@click.pass_obj
def export(path: Path | None) -> None:
    """Print all connected users as the CSV that import reads."""
    with opened(path) as provider:
        links = provider.people.listed()
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(HEAD)
    writer.writerows((link.username, link.local_user) for link in links)


@users.command()
@click.argument("ucloud_user")
@click.option("--project", help="The project of UCloud that would pay. Default: the user's own workspace.")
@click.pass_obj
def test(path: Path | None, ucloud_user: str, project: str | None) -> None:
    """Print the Unix user that jobs of UCLOUD_USER run as, and try to act as that user."""
    with opened(path) as provider:
        if provider.config.users.mapping == "table" and provider.people.of(ucloud_user) is None:
            raise NotFound(f"{ucloud_user} is not connected: ucloud-slurm users add {quote(ucloud_user)} LOCAL_USER")
        try:
            identity = provider.mapping.identity(ucloud_user, project)
        except IneligibleUserError as error:
            raise Misconfigured([f"{error.reason}."]) from None
        person = identity.person
        folder = JobPaths.of(provider.config.jobs.folder, person, f"check-{os.getpid()}").folder
        provider.impersonation(person.user).self_test(folder)
        uid, account = pwd.getpwnam(person.user).pw_uid, identity.account or "that of the product"
        click.echo(f"{ucloud_user} is {person.user} (uid {uid}); Slurm account: {account}; jobs in {Path(folder).parent}")


@users.command()
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@click.pass_obj
def history(path: Path | None, json_: bool) -> None:
    """List every change, with its time and author."""
    with opened(path) as provider:
        rows = [row._asdict() for row in provider.people.history()]
    if json_:
        as_json(rows)
        return
    table(("WHEN", "WHO", "WHAT"), [(moment(row["at"]), row["who"], row["what"]) for row in rows])


@users.group()
def projects() -> None:
    """Choose the Slurm accounts of UCloud's projects."""


@projects.command("list")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@click.pass_obj
def list_projects(path: Path | None, json_: bool) -> None:
    """List the Slurm accounts of projects."""
    with opened(path) as provider:
        rows: list[dict[str, Any]] = [row._asdict() for row in provider.people.projects()]
    if json_:
        as_json(rows)
        return
    table(
        ("PROJECT", "SLURM ACCOUNT", "SINCE", "BY"),
        [(row["project"], row["account"], moment(row["added_at"]), row["added_by"]) for row in rows],
    )


@projects.command("add")
@click.argument("project")
@click.argument("account")
@click.pass_obj
def add_project(path: Path | None, project: str, account: str) -> None:
    """Submit jobs of PROJECT (UCloud's id) under the Slurm ACCOUNT."""
    if not is_word(account):
        raise click.BadParameter(f"{account!r} is not the name of a Slurm account.")
    if not project or one_line(project, 200) != project:
        raise click.BadParameter(f"{project[:40]!r} is not the id of a project of UCloud.")
    with opened(path) as provider:
        provider.people.add_project(project, account, origin.here().who, provider.now())
        click.echo(f"Jobs of {project} go to the Slurm account {account}.")


@projects.command("remove")
@click.argument("project")
@click.pass_obj
def remove_project(path: Path | None, project: str) -> None:
    """Remove the Slurm account of PROJECT."""
    with opened(path) as provider:
        provider.people.remove_project(project, origin.here().who, provider.now())
        click.echo(f"{project} has no Slurm account of its own any more.")


def _per_account(provider: Provider, shared: bool) -> int | None:
    return None if shared else provider.config.users.connections_per_account


def _name(file: TextIO) -> str:
    return str(getattr(file, "name", "standard input"))


def _rows(file: TextIO) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.DictReader(file)
    try:
        if tuple(reader.fieldnames or ()) != HEAD:
            raise Misconfigured([f"{_name(file)}, line 1: should be {','.join(HEAD)}."])
        for row in reader:
            if None in row or None in row.values():
                raise Misconfigured([f"{_name(file)}, line {reader.line_num}: should have two columns."])
            yield reader.line_num, row
    except UnicodeDecodeError:
        raise Misconfigured([f"{_name(file)}: is not text in UTF-8; save it as CSV in UTF-8."]) from None
    except csv.Error as error:
        raise Misconfigured([f"{_name(file)}, after line {reader.line_num}: is no CSV ({error})."]) from None
