"""The local folder that a drive of UCloud's means, for the user who acts.

Who may use a drive is UCloud's to say, which it does before it asks for anything; what may be done with its files is the
kernel's, as everything is done as the Unix user of who acts. A root comes from the configuration and from the mapping of
users, never from a request.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from ucloud_slurm.bridge.drives import DrivePath, DriveRoot, drives_in, provider_id
from ucloud_slurm.bridge.naming import LocalUser
from ucloud_slurm.bridge.script.inputs import filled, ucloud_path
from ucloud_slurm.config import DriveRule
from ucloud_slurm.errors import CoreRefusedError, CoreUnavailableError, Forbidden, NotFound, Problem, Refused, StorageError
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.lookup import Lookup
from ucloud_slurm.store.drives import Drive
from ucloud_slurm.store.job_rows import OpenJob
from ucloud_slurm.users.files import Place
from ucloud_slurm.users.mapping import Identity, IdentityUnavailableError

if TYPE_CHECKING:
    from ucloud_slurm.ucloud.drives import Drive as DriveAtUCloud
    from ucloud_slurm.ucloud.jobs import Job

ASK_SECONDS = 2.0  # that the mapping has for one answer in a pass
_BRACE = re.compile(r"[{}]")  # it would begin a placeholder


class ResolvedPlace(NamedTuple):
    """A place in a drive, and who acts there.

    :ivar acting: the Unix user whose rights count: of the user of UCloud who acts, never of the drive's owner
    """

    drive: Drive
    rule: DriveRule
    acting: LocalUser
    place: Place


class UnknownDriveError(NotFound):
    """This provider has no such drive, or no longer."""


def resolve(provider: Provider, path: DrivePath, acting: str, within: float | None = None) -> ResolvedPlace:
    """The place that a path means, by the table of drives; a drive that is not in it is looked up at UCloud.

    :param acting: the user of UCloud who acts (header ``ucloud-username``)
    :param within: seconds for the mapping of users, and UCloud
    :raises UnknownDriveError: this provider has no such drive
    :raises Problem: the user is not connected, or the mapping or UCloud does not answer
    """
    until = None if within is None else time.monotonic() + within
    try:
        drive, rule = find(provider, path.drive_id, Lookup(provider, until))
    except (CoreUnavailableError, CoreRefusedError):
        raise Problem("UCloud did not say in time which drive this is; please try again.", status=502) from None
    identity = provider.mapping.identity(acting, drive.project, _left(until))
    root = root_of(provider, drive, rule, acting, identity, until)
    return ResolvedPlace(drive, rule, identity.person, Place(root, path.parts))


def resolve_again(
    provider: Provider, drive_id: str, place: Place, acting: str, local_user: str, within: float | None = None
) -> ResolvedPlace:
    """The same place later, if it is still that of the same Unix user: for what waits, or lasts.

    :param acting: the user of UCloud who asked for it
    :param local_user: the Unix user who they were then
    :raises Problem: see :func:`resolve`; or the drive or the user is another one now
    """
    found = resolve(provider, DrivePath(drive_id, place.parts), acting, within)
    if (found.acting.user, found.place.root) != (local_user, place.root):
        raise Forbidden("The drive, or your account on the cluster, has changed since you asked for this.")
    return found


def check_writable(found: ResolvedPlace) -> None:
    """Refuses a change in a drive that is read-only.

    :raises Refused: it is
    """
    if found.rule.read_only:
        raise Refused("This drive is read-only.", status=403)


def find(provider: Provider, drive_id: str, lookup: Lookup) -> tuple[Drive, DriveRule]:
    """A drive, and the table of the configuration that it is of. One that UCloud has is written into the table of drives.

    :raises UnknownDriveError: this provider has no such drive
    :raises CoreUnavailableError: it is not in the table of drives, and UCloud did not answer
    """
    drive = provider.drives.of_id(drive_id)
    if drive is None:
        at_ucloud = lookup.drive(drive_id)
        drive = None if at_ucloud is None else ours(provider, at_ucloud)
        if drive is None:
            raise UnknownDriveError(f"This provider has no drive {drive_id}.")
        provider.drives.registered(drive, drive_id, provider.now())
    rule = rule_of(provider, drive)
    if rule is None:
        raise UnknownDriveError("The provider does not offer this drive any more. Its files are still on the cluster.")
    return drive, rule


def rule_of(provider: Provider, drive: Drive) -> DriveRule | None:
    """The table of the configuration that a drive is of; None when it is not there any more."""
    rule = provider.config.drive(drive.name)
    return rule if rule is not None and (rule.owner == "user") is (drive.project is None) else None


def ours(provider: Provider, at_ucloud: DriveAtUCloud) -> Drive | None:
    """The row of a drive that UCloud has; None if it is of no table of the configuration."""
    project = at_ucloud.owner.project or None
    owner = at_ucloud.owner.created_by if project is None else None
    for rule in provider.config.drives:
        key = provider_id(provider.config.provider.id, rule.name, owner, project)
        if key == at_ucloud.provider_generated_id and (rule.owner == "user") is (project is None):
            return Drive(key, rule.name, owner, project, at_ucloud.id, provider.now())
    return None


def root_of(
    provider: Provider, drive: Drive, rule: DriveRule, acting: str, identity: Identity, until: float | None = None
) -> str:
    """The local folder of a drive.

    :param acting: the user of UCloud who acts
    :param identity: of that user, in the drive's project
    :param until: when the mapping must have said who the drive's owner is, in monotonic seconds
    :raises Problem: the drive has no folder, or the mapping does not answer
    """
    places: dict[str, str | None] = {"project": drive.project, "account": identity.account if drive.project else None}
    if drive.owner is not None:
        person = identity.person
        if drive.owner != acting:
            try:
                person = provider.mapping.identity(drive.owner, None, _left(until)).person
            except Forbidden:
                raise NotFound("The owner of this drive is not connected with an account on this cluster any more.") from None
        places = {"home": person.home, "user": person.user}
    root = filled("This drive", rule.local, places)
    if root is None:
        raise NotFound("The project of this drive has no account on this cluster.")
    root = root.rstrip("/")
    if not root or _BRACE.search(root):
        raise Refused("This drive has no folder on this cluster that could be used.")
    return root


def roots_of_job(provider: Provider, job: Job, lookup: Lookup, identity: Identity) -> list[DriveRoot]:
    """The drives that a job names in its parameters and resources.

    :param identity: whom the job runs as
    :raises Problem: naming the parameter or resource whose drive cannot be used
    :raises CoreUnavailableError: UCloud had to be asked for a drive and did not answer
    :raises IdentityUnavailableError: the mapping had to be asked and did not answer
    """
    if not provider.offers_drives:
        return []
    found: dict[str, DriveRoot] = {}
    owner = job.owner.created_by
    left = lookup.left()
    until = None if left is None else time.monotonic() + left
    for what, drive_id in drives_in(job):
        if drive_id in found:
            continue
        try:
            drive, rule = find(provider, drive_id, lookup)
            known = identity if drive.project == job.owner.project else None
            acting = known or provider.mapping.identity(owner, drive.project, _left(until))
            root = root_of(provider, drive, rule, owner, acting, until)
        except (StorageError, IdentityUnavailableError):
            raise
        except Problem as problem:
            why = problem.why[0].lower() + problem.why[1:]
            raise Refused(f"{what}: {why}", status=problem.status, error_code=problem.error_code) from None
        found[drive_id] = DriveRoot(f"/{drive_id}", root, rule.read_only)
    return list(found.values())


def output_folder(provider: Provider, row: OpenJob) -> str | None:
    """UCloud's path of a job's folder in a drive of its owner's or its project's; None where it is in no drive yet."""
    drives = provider.drives.of_owner(row.owner, row.project) if provider.offers_drives and not row.external else []
    if not drives:
        return None
    try:
        identity = provider.mapping.identity(row.owner, row.project, ASK_SECONDS)
        if identity.person.user != row.local_user:
            return None
        roots = list(_registered_roots(provider, drives, row.owner, identity))
        return ucloud_path(provider.job_paths(row).folder, roots, {})
    except Problem:
        return None


def _registered_roots(provider: Provider, drives: Sequence[Drive], acting: str, identity: Identity) -> Iterator[DriveRoot]:
    for drive in drives:
        rule = rule_of(provider, drive)
        if rule is not None:
            with suppress(Problem):
                yield DriveRoot(f"/{drive.drive_id}", root_of(provider, drive, rule, acting, identity), rule.read_only)


def _left(until: float | None) -> float | None:
    return None if until is None else until - time.monotonic()
