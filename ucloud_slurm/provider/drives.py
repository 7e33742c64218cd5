"""The local folder that a drive of UCloud's means, for the user who acts."""

from dataclasses import dataclass

from ucloud_slurm.bridge.drives import DrivePath
from ucloud_slurm.bridge.naming import LocalUser
from ucloud_slurm.config import DriveRule
from ucloud_slurm.errors import NotFound, Refused
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.store.drives import Drive
from ucloud_slurm.users.files import Place


@dataclass(frozen=True, slots=True)
class ResolvedPlace:
    """A place in a drive, and who acts there.

    :ivar acting: the Unix user whose rights count: of the user of UCloud who acts, never of the drive's owner
    """

    drive: Drive
    rule: DriveRule
    acting: LocalUser
    place: Place


def resolve(provider: Provider, path: DrivePath, acting: str, within: float | None = None) -> ResolvedPlace:
    """The place that a path means, by the table of drives; a drive that is not in it is looked up at UCloud.

    :param acting: the user of UCloud who acts (header ``ucloud-username``)
    :param within: seconds for the mapping of users, and UCloud
    :raises NotFound: this provider has no such drive
    :raises Problem: the user is not connected, or the mapping does not answer
    """
    raise NotImplementedError


def check_writable(found: ResolvedPlace) -> None:
    """Refuses a change in a drive that is read-only.

    :raises Refused: it is
    """
    if found.rule.read_only:
        raise Refused("This drive is read-only.", status=403)


__all__ = ["NotFound", "ResolvedPlace", "check_writable", "resolve"]
