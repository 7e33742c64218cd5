"""The files that a job uses: UCloud's paths translated to local ones, and the checks of them in the script.

A path is translated by its text alone. Only the compute node knows what it leads to, and symbolic links of the user may
lead out of the folder that the configuration names. So the script checks every path before the application starts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ucloud_slurm.bridge.drives import DriveRoot
from ucloud_slurm.bridge.script.bash import is_plain, quoted
from ucloud_slurm.config import FilesRoot
from ucloud_slurm.errors import Refused

if TYPE_CHECKING:
    from ucloud_slurm.ucloud.applications import Application
    from ucloud_slurm.ucloud.jobs import Job

MAX_PART_BYTES = 255  # NAME_MAX of Linux
MAX_PATH_BYTES = 4095  # PATH_MAX of Linux without the NUL

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,63}")

# What UCloud can attach to a job besides files.
OTHER_KINDS = {
    "peer": "connections to other jobs",
    "license_server": "licence servers",
    "block_storage": "disks",
    "network": "public addresses",
    "ingress": "public links",
    "private_network": "private networks",
}

CHECK = (
    "# A file of UCloud's must be there, and no link may lead it out of the folder that was meant",
    "ucloud_input() {",
    "    local root path",
    "    IFS= read -r -d '' root < <(realpath -z -e -- \"$3\" 2> /dev/null) &&",
    "        IFS= read -r -d '' path < <(realpath -z -e -- \"$2\" 2> /dev/null) ||",
    '        ucloud_stop "$1: there is no $2, or it cannot be reached."',
    "    case $path/ in",
    '        "${root%/}"/*) ;;',
    '        *) ucloud_stop "$1: $2 leads out of $3." ;;',
    "    esac",
    "}",
)


class InputFile(NamedTuple):
    """A file or folder that the job uses.

    :ivar what: the field that names it, for error messages
    :ivar parameter: name of its parameter, None for an attached folder
    :ivar path: local path
    :ivar root: the local folder that it must not lead out of
    """

    what: str
    parameter: str | None
    path: str
    root: str
    read_only: bool


def input_files(
    job: Job, application: Application, roots: Sequence[FilesRoot | DriveRoot], places: Mapping[str, str | None]
) -> list[InputFile]:
    """The files of a job: those of its parameters in the application's order, then those that are attached.

    :param roots: the tables ``[[files]]``, and the drives of the job
    :param places: values of the placeholders of ``[[files]]`` for this job; None for those that it does not have
    :raises Refused: naming the parameter or resource whose path cannot be used
    """
    return [
        _input(what, parameter, path, read_only, roots, places)
        for what, parameter, path, read_only in _wanted(job, application)
    ]


def checks(files: Sequence[InputFile]) -> list[str]:
    """The lines of the script that check the files of a job."""
    return [*CHECK, *(f"ucloud_input {quoted((one.what, one.path, one.root))}" for one in files)] if files else []


def ucloud_path(folder: str, roots: Sequence[FilesRoot | DriveRoot], places: Mapping[str, str | None]) -> str | None:
    """UCloud's path of a local folder, by the longest root that contains it; None where no root does.

    :param folder: absolute
    :param places: see :func:`input_files`
    """
    what, best = "The job's folder", (0, "")
    for root in roots:
        local, path = filled(what, root.local, places), filled(what, root.ucloud, places)
        if local is None or path is None:
            continue
        own = local.rstrip("/") + "/"
        if folder.startswith(own) and len(own) > best[0]:
            best = len(own), f"{path.rstrip('/')}/{folder.removeprefix(own)}"
    return best[1] or None


def _wanted(job: Job, application: Application) -> Iterator[tuple[str, str | None, str, bool]]:
    for parameter in application.invocation.parameters:
        what = f"The parameter '{parameter.name}'"
        value = job.specification.parameters.get(parameter.name)
        if value is not None and value.type == "file":
            yield what, parameter.name, value.path, value.read_only
        elif value is None and parameter.type in ("input_file", "input_directory"):
            default = _default(what, parameter.default_value)
            if default is not None:
                yield what, parameter.name, default, False
    for number, resource in enumerate(job.specification.resources):
        what = f"specification.resources[{number}]"
        if resource.type != "file":
            kind = OTHER_KINDS.get(resource.type, f"'{resource.type}'")
            raise Refused(f"{what}: this provider cannot attach {kind} to a job.")
        yield what, None, resource.path, resource.read_only


def _default(what: str, default: Any) -> str | None:
    """The path in a default, which is a string or an object that holds one (contract: defaultValue)."""
    if isinstance(default, dict):
        default = default.get("path", default.get("value"))
    if default is None or isinstance(default, str):
        return default
    raise Refused(f"{what} has a default that is not a path.")


def _input(
    what: str,
    parameter: str | None,
    path: str,
    read_only: bool,
    roots: Sequence[FilesRoot | DriveRoot],
    places: Mapping[str, str | None],
) -> InputFile:
    parts = _parts(what, path)
    best: tuple[int, FilesRoot | DriveRoot] | None = None
    for root in roots:
        prefix = filled(what, root.ucloud, places)
        if prefix is None or filled(what, root.local, places) is None:
            continue
        own = [part for part in prefix.split("/") if part]
        if parts[: len(own)] == own and (best is None or len(own) > best[0]):
            best = len(own), root
    if best is None:
        raise Refused(f"{what}: this provider has no files at '{path}'.")
    length, root = best
    place = str(filled(what, root.local, places))
    local = "/".join([place.rstrip("/"), *parts[length:]]) or "/"
    if len(local.encode()) > MAX_PATH_BYTES:
        raise Refused(f"{what}: the path is longer than {MAX_PATH_BYTES} bytes.")
    return InputFile(what, parameter, local, place, read_only or root.read_only)


def _parts(what: str, path: str) -> list[str]:
    """The parts of an absolute path that has none that is empty, a dot or two dots."""
    if not path.startswith("/"):
        raise Refused(f"{what}: the path does not begin with a slash.")
    parts = path[1:].split("/") if path != "/" else []
    for part in parts:
        if part in ("", ".", ".."):
            raise Refused(f"{what}: the path has a part that is empty, a dot or two dots.")
        for character in part:
            if not is_plain(character):
                raise Refused(f"{what}: the path contains a character that is not allowed (U+{ord(character):04X}).")
        if len(part.encode()) > MAX_PART_BYTES:
            raise Refused(f"{what}: the path has a part of more than {MAX_PART_BYTES} bytes.")
    return parts


def filled(what: str, template: str, places: Mapping[str, str | None]) -> str | None:
    """The path with its placeholders filled in; None if one of them has no value.

    :param what: the field that it is for
    :raises Refused: a value cannot be a part of a path
    """
    for name in _PLACEHOLDER.findall(template):
        value = places.get(name)
        if value is None:
            return None
        if name == "home":
            if not value.startswith("/"):
                raise Refused(f"{what}: the home folder of the job's account is not an absolute path.")
            _parts(what, value)
        elif not _SAFE.fullmatch(value):
            raise Refused(f"{what}: the name of the job's {name} cannot be a part of a path on the cluster.")
    return _PLACEHOLDER.sub(lambda match: str(places[match[1]]), template)
