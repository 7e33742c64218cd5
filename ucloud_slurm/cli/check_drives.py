"""``check``: the drives that users see, their folders and products, and the unit that moves their files."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from ucloud_slurm.bridge.naming import JobPaths, LocalUser
from ucloud_slurm.bridge.script.inputs import filled
from ucloud_slurm.cli.check_accounts import people
from ucloud_slurm.cli.checking import Budget, open_core
from ucloud_slurm.cli.output import Line
from ucloud_slurm.config import Config, DriveRule
from ucloud_slurm.errors import CoreRefusedError, Problem
from ucloud_slurm.store.people import People, ProjectAccount
from ucloud_slurm.store.sqlite import Store
from ucloud_slurm.system.serving import FILES_SOCKET
from ucloud_slurm.ucloud.eras import ERAS

START = "systemctl enable --now ucloud-slurm-files.socket ucloud-slurm-files.service"


def drives(config: Config, budget: Budget, socket: Path = FILES_SOCKET) -> Iterator[Line]:
    """The drives; nothing where none are configured."""
    if not config.drives:
        return
    if not ERAS[config.ucloud.era].has_drives:
        yield "warning", f"UCloud of the era {config.ucloud.era} sees no drives of this provider; use the tables [[files]]"
        return
    if config.users.mapping == "service":
        yield (
            "warning",
            f"all users act as {config.service_account()} in the drives of projects: who may use one can read and change "
            "what that account can",
        )
    sample = min(people(config), key=lambda person: person.user, default=None)
    project = _sample_project(config)
    for rule in config.drives:
        yield from _folder(rule, sample, project)
    yield from _jobs_folder(config, sample, project)
    yield from _products(config, budget)
    if not socket.exists():
        yield "warning", f"{socket} is not there, so that files can neither be uploaded nor downloaded: {START}"


def _sample_project(config: Config) -> ProjectAccount | None:
    store = Store.of(config.database)
    try:
        return next(iter(People(store).projects()), None)
    finally:
        store.close()


def _places(rule: DriveRule, person: LocalUser | None, project: ProjectAccount | None) -> Mapping[str, str | None]:
    if rule.owner == "user":
        return {"home": person.home, "user": person.user} if person else {}
    return {"project": project.project, "account": project.account} if project else {}


def _folder(rule: DriveRule, person: LocalUser | None, project: ProjectAccount | None) -> Iterator[Line]:
    """Whether the folder of somebody's drive is there."""
    root = _root(rule, person, project)
    if root is None:
        whose = "user is connected" if rule.owner == "user" else "project has a Slurm account"
        yield "ok", f"{rule.name}: {rule.local}; no {whose} yet with whose folder it could be tried"
        return
    try:
        there: bool | None = Path(root).is_dir()
    except PermissionError:
        there = None  # only its owner can look
    if there is False:
        yield (
            "warning",
            f"{rule.name}: {root} is not a folder of this host; drives are read here, as their users: mount it on this host, "
            "or correct local",
        )
    else:
        yield "ok", f"{rule.name}: {root}, for example{'' if there else ', which only its owner can see'}"


def _root(rule: DriveRule, person: LocalUser | None, project: ProjectAccount | None) -> str | None:
    try:
        return filled(rule.name, rule.local, _places(rule, person, project))
    except Problem:
        return None


def _jobs_folder(config: Config, person: LocalUser | None, project: ProjectAccount | None) -> Iterator[Line]:
    """Whether users see the files of their jobs."""
    if person is None:
        return
    folder = JobPaths.of(config.jobs.folder, person, "1").folder
    roots = [root for rule in config.drives if (root := _root(rule, person, project)) is not None]
    if not any(folder.startswith(f"{root.rstrip('/')}/") for root in roots):
        yield (
            "warning",
            f"jobs.folder: {config.jobs.folder} is in no drive, so that UCloud shows no files of jobs; "
            'jobs.folder = "{home}/ucloud-jobs" with a drive of {home} shows them',
        )


def _products(config: Config, budget: Budget) -> Iterator[Line]:
    core = open_core(config, budget.left())
    try:
        known = {(each.category, each.id) for each in core.registered_storage(config.provider.id)}
    except CoreRefusedError as error:
        yield "failed", f"UCloud does not say which products it has: {error}"
        return
    finally:
        core.close()
    missing = [rule.product_id for rule in config.drives if (rule.category, rule.product_id) not in known]
    if missing:
        yield ("warning", f"UCloud has no product {', '.join(missing)}, and shows no such drives: ucloud-slurm products sync")
    else:
        yield "ok", f"UCloud has the products of {len(config.drives)} drives"
