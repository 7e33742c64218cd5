"""The tables of the configuration file about drives: folders of the cluster that users see in UCloud."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from ucloud_slurm.config.types import Duration, Pattern, RootPath, Section, key

DriveName = Annotated[str, Pattern(r"^[a-z0-9][a-z0-9-]{0,39}$")]
Title = Annotated[str, Pattern(r"^[^\x00-\x1f\x7f]{1,200}$")]


@dataclass(frozen=True, kw_only=True)
class DriveRule(Section):
    """A folder of the cluster that users see as a drive of UCloud."""

    name: DriveName = key(
        example="home",
        description="The name of these drives: a part of the provider's ids of them, so that it cannot be changed later.",
    )
    title: Title = key(example="Home on the cluster", description="What users read.")
    owner: Literal["user", "project"] = key(
        default="user", description="Whose it is: user, one drive for each connected user; project, one for each project."
    )
    local: RootPath = key(
        example="{home}",
        description="The folder on this host and on the compute nodes. {home} and {user} are filled in for a user, "
        "{account} and {project} for a project.",
    )
    product: DriveName | None = key(
        default=None, example="home", description="The product's name at UCloud; left out: the drive's name."
    )
    category: DriveName = key(
        default="storage", description="The product's category at UCloud, which is free of charge. Machines are not in it."
    )
    read_only: bool = key(default=False, description="Nothing in it can be changed through UCloud.")
    terminal: bool = key(
        default=False, description="Users may open a shell of theirs on this host in its folders (Open terminal)."
    )

    @property
    def product_id(self) -> str:
        """The product's name."""
        return self.product or self.name

    def __post_init__(self) -> None:
        other = ("{account}", "{project}") if self.owner == "user" else ("{home}", "{user}")
        found = next((word for word in other if word in self.local), None)
        if found is not None:
            raise ValueError(f'local: {found} has no value for a drive with owner = "{self.owner}"')
        if self.owner == "project" and not {"{account}", "{project}"} & _words(self.local):
            raise ValueError("local: should contain {account} or {project}, else all projects would share one folder")
        if self.local == "/":
            raise ValueError("local: the root of the file system cannot be a drive")


def _words(template: str) -> set[str]:
    return {word for word in ("{account}", "{project}") if word in template}


@dataclass(frozen=True, kw_only=True)
class TransfersSection(Section):
    """Uploads and downloads, which the file unit (ucloud-slurm-files.service) serves."""

    at_once: int = key(default=100, ge=1, le=1000, description="How many transfers are served at a time.")
    at_once_per_user: int = key(default=10, ge=1, description="How many of them one user of UCloud may have.")
    link: Duration = key(default=120.0, description="How long a link to a download is valid. It works once.")
    resume: Duration = key(
        default=2 * 86400.0,
        description="How long an upload that was interrupted can be continued. What came is deleted afterwards.",
    )


def check_drives(drives: Sequence[DriveRule], mapping: str) -> None:
    """Drives must be told apart, and one user must not see another's.

    :param mapping: of the users
    :raises ValueError: naming the drive
    """
    for number, rule in enumerate(drives, 1):
        if any(rule.name == other.name for other in drives[: number - 1]):
            raise ValueError(f"drives[{number}]: {rule.name} is configured twice")
        if any(rule.product_id == other.product_id for other in drives[: number - 1]):
            raise ValueError(f"drives[{number}]: two drives are of the product {rule.product_id}; give each one of its own")
        if rule.owner == "user" and mapping == "service":
            raise ValueError(
                f'drives[{number}]: with users.mapping = "service" all users would see the same files; use "table" or '
                '"script", or drives with owner = "project"'
            )
        if rule.terminal and mapping == "service":
            raise ValueError(
                f'drives[{number}]: with users.mapping = "service" a terminal would be a shell of the account that all users '
                "share, on this host; leave terminal out"
            )
