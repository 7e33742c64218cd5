"""Drives are registered at UCloud: one for each connected user and each project of ours, by the tables ``[[drives]]``.

UCloud ends when it hears of a user or a project that it does not know, so that only those get drives whom it has named.
Registration is idempotent by the provider's id: a drive that UCloud has already, as after the database was lost, is looked
up there. A pass registers a few, and most passes have none to register.
"""

import json
import logging
from collections.abc import Iterator, Sequence

from ucloud_slurm.bridge.drives import provider_id
from ucloud_slurm.config import DriveRule
from ucloud_slurm.errors import CoreRefusedError, CoreUnavailableError, Problem
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.drives import ASK_SECONDS, output_folder, root_of, rule_of
from ucloud_slurm.store.drives import Drive, ProjectMembers
from ucloud_slurm.ucloud.named import DriveRegistration, NamedUser, RegisteredProduct
from ucloud_slurm.ucloud.reports import JobState, JobUpdate
from ucloud_slurm.users.mapping import IdentityUnavailableError

log = logging.getLogger(__name__)

MOST_IN_PASS = 20  # drives that one pass registers
MOST_MEMBERS = 3  # of a project who are asked about


def register_drives(provider: Provider, *, projects: bool) -> bool:
    """Registers drives that are missing at UCloud.

    :param projects: whether to look for projects without drives too, which reads who is in each of them
    :returns: False when UCloud, or the mapping of users, could not be asked
    """
    provider.drives.want(list(_wanted(provider, projects=projects)))
    due = provider.drives.due(provider.now(), MOST_IN_PASS)
    try:
        possible = [(drive, rule) for drive in due if (rule := _possible(provider, drive)) is not None]
    except IdentityUnavailableError as error:
        log.warning("drives could not be registered yet: %s", error)
        return False
    if not possible:
        return True
    registered: list[Drive] = []
    try:
        _register_all(provider, possible, registered)
    except CoreUnavailableError as error:
        log.log(error.severity, "%d drives could not be registered yet: %s", len(possible) - len(registered), error)
        return False
    except CoreRefusedError as error:
        log.error("no drives are registered: UCloud does not say which products it has: %s", error)
    finally:
        if registered:
            _show_folders(provider, registered)
    return True


# -- which should be there --------------------------------------------------------------------------------------


def _wanted(provider: Provider, *, projects: bool) -> Iterator[Drive]:
    """Drives that are not in the table yet, of those whom UCloud has named."""
    config, now = provider.config, provider.now()
    for rule in config.drives:
        owners: list[tuple[str | None, str | None]] = []
        if rule.owner == "user":
            owners = [(user, None) for user in _users(provider, rule)]
        elif projects:
            owners = [(None, project) for project in _projects(provider, rule)]
        for owner, project in owners:
            key = provider_id(config.provider.id, rule.name, owner, project)
            yield Drive(key, rule.name, owner, project, None, now, try_at=now)


def _users(provider: Provider, rule: DriveRule) -> list[str]:
    table = provider.config.users.mapping == "table"
    return provider.drives.connected_without(rule.name) if table else provider.drives.users_without(rule.name)


def _projects(provider: Provider, rule: DriveRule) -> list[str]:
    table = provider.config.users.mapping == "table"
    found = provider.drives.projects_without(rule.name)
    return [each.id for each in found if not table or _connected(provider, each)]


def _connected(provider: Provider, project: ProjectMembers) -> list[str]:
    """The members of a project who are connected."""
    return [name for name in json.loads(project.members) if provider.people.of(name) is not None]


# -- registering ------------------------------------------------------------------------------------------------


def _possible(provider: Provider, drive: Drive) -> DriveRule | None:
    """The table of a drive that has a folder for somebody here; one without is tried later.

    :raises IdentityUnavailableError: the mapping does not answer
    """
    rule = rule_of(provider, drive)
    if rule is not None:
        for user in _who_acts(provider, drive):
            try:
                identity = provider.mapping.identity(user, drive.project, ASK_SECONDS)
                root_of(provider, drive, rule, user, identity)
            except IdentityUnavailableError:
                raise
            except Problem:
                continue
            return rule
    provider.drives.postpone(drive.provider_id, provider.now())
    return None


def _who_acts(provider: Provider, drive: Drive) -> list[str]:
    """Users of UCloud who would use a drive; a mapping that asks others is asked about a few of them."""
    if drive.project is None:
        return [drive.owner or ""]
    project = provider.drives.project(drive.project)
    if project is None:
        return []
    if provider.config.users.mapping == "table":
        return _connected(provider, project)
    return [str(name) for name in json.loads(project.members)[:MOST_MEMBERS]]


def _register_all(provider: Provider, drives: Sequence[tuple[Drive, DriveRule]], registered: list[Drive]) -> None:
    """Registers drives whose product UCloud has.

    :param registered: gets those that UCloud has now
    :raises CoreUnavailableError: UCloud did not answer
    """
    found = provider.core.registered_storage(provider.config.provider.id)
    products = {(each.category, each.id): each for each in found}
    missing = set()
    for drive, rule in drives:
        product = products.get((rule.category, rule.product_id))
        if product is None:
            missing.add(rule.product_id)
        elif _register(provider, drive, rule, product):
            registered.append(drive)
            continue
        provider.drives.postpone(drive.provider_id, provider.now())
    for product_id in sorted(missing):
        log.warning("drives wait: UCloud has no product %s; run ucloud-slurm products sync", product_id)


def _register(provider: Provider, drive: Drive, rule: DriveRule, product: RegisteredProduct) -> bool:
    """Registers one drive.

    :returns: False when it cannot be registered now
    :raises CoreUnavailableError: UCloud did not answer; the next pass tries again, and finds the drive where it was made
    """
    owner = named_user(provider, drive.owner) if drive.owner is not None else None
    project = provider.wallets.named_project(drive.project) if drive.project is not None else None
    if owner is None and project is None:
        return False
    writable = not rule.read_only
    try:
        wanted = DriveRegistration(drive.provider_id, rule.title, product, owner, project, writable)
        drive_id = provider.core.register_drive(wanted) or _found(provider, drive)
    except CoreRefusedError as error:
        log.error("UCloud does not register the drive %s of %s: %s", drive.name, drive.whose, error)
        return False
    if drive_id is None:
        log.error("UCloud has something else with the id of the drive %s of %s", drive.name, drive.whose)
        return False
    provider.drives.registered(drive, drive_id, provider.now())
    log.info("drive %s (%s of %s): registered", drive_id, drive.name, drive.whose)
    return True


def _show_folders(provider: Provider, drives: Sequence[Drive]) -> None:
    """UCloud shows the folders of jobs that began before it knew the drive that they are in."""
    owners, projects = {drive.owner for drive in drives}, {drive.project for drive in drives} - {None}
    for row in provider.jobs.open(provider.scheduler.cluster):
        if row.state is JobState.RUNNING and (row.owner in owners or row.project in projects):
            folder = output_folder(provider, row)
            if folder is not None:
                update = JobUpdate(None, "The files of the job can be seen in UCloud.", output_folder=folder)
                provider.outbox.enqueue_update(row.id, update, provider.now())


def _found(provider: Provider, drive: Drive) -> str | None:
    """UCloud's id of a drive that it has already."""
    found = (each for each in provider.core.drives([drive.provider_id]) if each.provider_generated_id == drive.provider_id)
    return next((each.id for each in found), None)


def named_user(provider: Provider, username: str) -> NamedUser | None:
    """A user, if UCloud has named this one: on its channel, or in a call."""
    state = provider.link_states.of(username)
    return provider.wallets.named_user(username) or (state.user if state is not None else None)
