"""A provider with drives in this process: Ada and Bob are connected with ada and bob, whose folders are in the test's own."""

import grp
import pwd
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Clock, World, configuration
from tests.sandbox.core import SimulatedCore
from tests.support.model import Model
from ucloud_slurm.bridge.products import compare
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.store.people import UserLink
from ucloud_slurm.ucloud.channel import Project, User
from ucloud_slurm.users import name_service

ADA, BOB, EVE = "Ada#1", "Bob#2", "Eve#3"
GROUP = 54300
UIDS = {"ada": 54321, "bob": 54322}
LINKS = {ADA: "ada", BOB: "bob"}
HOME = {"name": "home", "title": "Home", "local": "{home}", "terminal": True}


def project_drive(folder: Path, **more: Any) -> dict[str, Any]:
    """Drives of projects, below that folder."""
    return {"name": "project", "title": "Project", "owner": "project", "local": f"{folder}/projects/{{project}}"} | more


def accounts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has ada and bob on this host, in the group that jobs may run as; this process is ada's."""
    getpwnam, getgrnam, groups_of = pwd.getpwnam, grp.getgrnam, name_service.groups_of
    people = {
        name: pwd.struct_passwd((name, "x", uid, uid, "", str(folder / "homes" / name), "/bin/bash"))
        for name, uid in UIDS.items()
    }
    for name in people:
        (folder / "homes" / name).mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(pwd, "getpwnam", lambda name: people.get(name) or getpwnam(name))
    group = grp.struct_group(("ucloud-users", "x", GROUP, list(people)))
    monkeypatch.setattr(grp, "getgrnam", lambda name: group if name == group.gr_name else getgrnam(name))
    monkeypatch.setattr(name_service, "groups_of", lambda name, gid: [gid, GROUP] if name in people else groups_of(name, gid))
    monkeypatch.setattr("ucloud_slurm.provider.context.own_account", lambda: "ada")


def drive_provider(
    core: SimulatedCore, clock: Clock, model: Model, folder: Path, drives: Sequence[dict[str, Any]], **tables: Any
) -> Provider:
    """Such a provider, of which UCloud knows nothing yet."""
    settings: dict[str, Any] = {"users": {"mapping": "table"}, "drives": list(drives), "jobs": {"folder": "{home}/jobs"}}
    settings |= tables
    provider = Provider.open(configuration(core, folder, **settings), now=clock, scheduler=model)
    provider.people.add([UserLink(name, user, UIDS[user], 0.0, "root") for name, user in LINKS.items()])
    model.user = "ada"
    return provider


def name_users(world: World, *names: str) -> None:
    """UCloud names users on its channel."""
    for name in names:
        world.core.directory.add_user(name)
    world.provider.wallets.take([User(name) for name in names], "example", world.clock())


def name_project(world: World, project: str, *members: str) -> None:
    """UCloud names a project on its channel, and so its members."""
    world.core.directory.add_project(project, {name: "USER" if number else "PI" for number, name in enumerate(members)})
    record = Project(project, f"title of {project}", world.clock(), True, tuple(members))
    world.provider.wallets.take([record], "example", world.clock())


def sync(world: World) -> None:
    """Registers the products of drives, as ``products sync`` does, and lets UCloud ask what they support."""
    provider, name = world.provider, world.provider.config.provider.id
    found = compare((), name, provider.core.products_v2(name), provider.config.drives)
    provider.core.create_products([each.product for each in found.products])
    if world.url:
        world.core.retrieve_drive_products()
