"""Drives: the ids that this provider gives them, the folders that they mean, and the paths in them. Pure.

Contract: a path of a file is ``/<drive id>/a/b``; UCloud passes it on as the browser sent it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from ucloud_slurm.errors import Refused

if TYPE_CHECKING:
    from ucloud_slurm.ucloud.jobs import Job

TRANSFER_PATH = "files/transfer"  # below the provider's base path: where browsers reach the file unit
MAX_PART_BYTES = 255  # NAME_MAX of Linux
MAX_PATH_BYTES = 4095  # PATH_MAX of Linux without the NUL


class DrivePath(NamedTuple):
    """A path in a drive.

    :ivar drive_id: UCloud's
    :ivar parts: the names below the drive's folder; none for the folder itself
    """

    drive_id: str
    parts: tuple[str, ...]

    def __str__(self) -> str:
        return "/".join(["", self.drive_id, *self.parts])


class DriveRoot(NamedTuple):
    """A drive as a place of files that jobs use; beside the tables ``[[files]]`` of the configuration.

    :ivar ucloud: ``/<drive id>``
    :ivar local: its folder, in which placeholders are filled in as in ``[[files]]``
    """

    ucloud: str
    local: str
    read_only: bool


def provider_id(provider: str, name: str, owner: str | None, project: str | None) -> str:
    """The provider's id of a drive: unique over all its resources, and without a comma, at which UCloud takes lists apart.

    With the prefix ``h-`` UCloud sorts a drive first for its owner.

    :param name: of the table ``[[drives]]``
    :param owner: the user of UCloud whose it is; without a meaning for a project's
    """
    whose = (owner or "") if project is None else project
    return f"{'h' if project is None else 'p'}-{provider}/{name}/{whose.replace('%', '%25').replace(',', '%2C')}"


def drives_in(job: Job) -> Iterator[tuple[str, str]]:
    """The drives that a job names: the field that names one, for error messages, and UCloud's id of it."""
    values = [(f"The parameter '{name}'", value) for name, value in job.specification.parameters.items()]
    values += [(f"specification.resources[{number}]", value) for number, value in enumerate(job.specification.resources)]
    for what, value in values:
        first = value.path.removeprefix("/").partition("/")[0]
        if value.type == "file" and first.isascii() and first.isdigit():
            yield what, first


def drive_path(path: str) -> DrivePath:
    """Takes a path apart. A slash at its end is legal, a backslash is a character like others.

    :raises Refused: it has a part that is empty, a dot, two dots or too long, a NUL, or no drive
    """
    text = path.removeprefix("/").removesuffix("/")
    drive, *parts = text.split("/")
    if not drive.isascii() or not drive.isdigit():
        raise Refused("The path does not begin with the id of a drive.")
    if any(part in ("", ".", "..") for part in parts):
        raise Refused("The path has a part that is empty, a dot or two dots.")
    if "\0" in path or any(0xD800 <= ord(character) < 0xE000 for character in path):
        raise Refused("The path contains a character that is not allowed.")
    if any(len(part.encode()) > MAX_PART_BYTES for part in parts):
        raise Refused(f"The path has a name of more than {MAX_PART_BYTES} bytes.")
    if len(text.encode()) > MAX_PATH_BYTES:
        raise Refused(f"The path is longer than {MAX_PATH_BYTES} bytes.")
    return DrivePath(drive, tuple(parts))
