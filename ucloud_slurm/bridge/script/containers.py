"""Applications in containers, run by the site's container runtime as the job's user.

The options of a runtime come from the table below, from the configuration and from the application's description. A
value of the user is placed after the image, where no runtime looks for options, or in a bind whose path was checked.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ucloud_slurm.bridge.script.bash import quoted, stop
from ucloud_slurm.bridge.script.inputs import InputFile
from ucloud_slurm.config import ContainersSection
from ucloud_slurm.errors import Refused, one_line


class Runtime(NamedTuple):
    """How a container runtime is called.

    :ivar begin: its name and the options that every job gets
    :ivar folder: the option for the working directory
    :ivar gpus: options for jobs with GPUs
    :ivar read_only: suffix that makes a bind read-only, empty where the runtime has none
    :ivar makes_mount_points: a bind needs no folder of its name in the image
    :ivar pulls: it fetches images from registries
    :ivar end: arguments between the image and the program
    """

    begin: tuple[str, ...]
    folder: str
    gpus: tuple[str, ...]
    read_only: str
    makes_mount_points: bool
    pulls: bool
    end: tuple[str, ...] = ()


# The environment is passed on: neither --cleanenv nor --containall. The home folder is not mounted, because what users
# keep there for the cluster's own programs is seldom meant for those of an image.
RUNTIMES: Mapping[str, Runtime] = {
    "apptainer": Runtime(("apptainer", "exec", "--no-home"), "--pwd", ("--nv",), ":ro", True, True),
    "singularity": Runtime(("singularity", "exec", "--no-home"), "--pwd", ("--nv",), ":ro", True, True),
    "charliecloud": Runtime(("ch-run",), "--cd", (), "", False, False, ("--",)),
}

MAX_REFERENCE_CHARACTERS = 255
_REFERENCE = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]*(?::[0-9]{1,5}(?=/))?"  # the first part, maybe a host with a port
    r"(?:/[A-Za-z0-9][A-Za-z0-9._-]*)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]*)?(?:@sha256:[0-9a-f]{64})?"
)
_NOT_IN_BINDS = frozenset(':,"\\')
_RUNTIME_VARIABLES = re.compile(r"(?:APPTAINER|SINGULARITY|CH_|LD_).*|HOME|PATH|TMPDIR|USER|PWD|OLDPWD|SHLVL")


class Container(NamedTuple):
    """The image of a job and how it is run."""

    runtime: Runtime
    image: str
    images: tuple[str, ...]
    registry: str | None
    binds: tuple[str, ...]
    folder: str
    gpus: bool

    def find_image(self) -> list[str]:
        """The lines of the script that find the image: a local one before that of the registry."""
        name = self.image.replace("/", "%").replace(":", "+")
        names = (name,) if name.endswith(".sif") else (name, f"{name}.sif")
        places = [f"{folder}/{name}" for folder in self.images for name in names]
        pulled = self.registry is not None and self.runtime.pulls and not name.endswith(".sif")
        remote = f"{self.registry}{self.image}" if pulled else ""
        search = [
            f"for ucloud_place in {shlex.join(places)}; do",
            '    [ ! -e "$ucloud_place" ] || { ucloud_image=$ucloud_place; break; }',
            "done",
        ]
        return [
            "# The image of the application",
            f"ucloud_image={shlex.quote(remote)}",
            *(search if places else ()),
            f'[ -n "$ucloud_image" ] || {stop(f"there is no image {self.image} on this cluster.")}',
        ]

    def command(self, words: Sequence[str]) -> str:
        """The command that runs a program with its arguments in the container, quoted for bash."""
        runtime = self.runtime
        options = [*runtime.begin, f"{runtime.folder}={self.folder}", *(f"--bind={bind}" for bind in self.binds)]
        options += runtime.gpus if self.gpus else ()
        return f'{quoted(options)} "$ucloud_image" {quoted((*runtime.end, *words))}'


def container(
    backend: str, image: str | None, settings: ContainersSection, files: Sequence[InputFile], folder: str, gres: str | None
) -> Container | None:
    """The container of an application; None for an application that needs none here.

    :param backend: of the application's tool (contract: Tool)
    :param image: the tool's image
    :param files: the files of the job
    :param folder: the job's folder
    :param gres: generic resources of each node (sbatch(1): --gres)
    :raises Refused: the application cannot be run here, or a path cannot be bound
    """
    match backend:
        case "NATIVE":
            return None
        case "DOCKER" if settings.runtime == "host":
            return None
        case "DOCKER" | "SINGULARITY" if settings.runtime in RUNTIMES:
            pass
        case "DOCKER" | "SINGULARITY":
            raise Refused(f"The application needs an image ({backend}), and this provider runs no containers.")
        case _:
            raise Refused(f"The application needs {backend}, which this provider does not offer.")
    if not image:
        raise Refused(f"The application's tool names no image, although its backend is {backend}.")
    if len(image) > MAX_REFERENCE_CHARACTERS or not _REFERENCE.fullmatch(image):
        raise Refused(f"The image of the application's tool ('{one_line(image, 80)}') is not a valid image reference.")
    return Container(
        runtime=RUNTIMES[settings.runtime],
        image=image,
        images=settings.images,
        registry=settings.registry,
        binds=_binds(RUNTIMES[settings.runtime], settings.binds, files, folder),
        folder=folder,
        gpus=gres is not None and gres.split(":")[0] == "gpu",
    )


def refuse_runtime_variable(name: str) -> None:
    """Refuses an environment variable that would configure the runtime, or that the runtime sets.

    :raises Refused: naming it
    """
    if _RUNTIME_VARIABLES.fullmatch(name):
        raise Refused(f"The application may not set the environment variable '{name}' for a container.")


def _binds(runtime: Runtime, everywhere: Sequence[str], files: Sequence[InputFile], folder: str) -> tuple[str, ...]:
    """The binds, outer folders first. A path that is asked for twice is read-only if one of them says so."""
    wanted = dict.fromkeys(everywhere, False)
    fields = [(one.what, one.path, one.read_only) for one in files]
    for what, path, read_only in (*fields, ("The job's folder (jobs.folder)", folder, False)):
        if _NOT_IN_BINDS.intersection(path):
            raise Refused(f"{what}: a path with a colon, comma, quote or backslash cannot be bound into a container.")
        if runtime.makes_mount_points or not any(path == above or path.startswith(f"{above}/") for above in everywhere):
            wanted[path] = path != folder and (read_only or wanted.get(path, False))
    return tuple(
        f"{path}:{path}{runtime.read_only if read_only else ''}"
        for path, read_only in sorted(wanted.items(), key=lambda item: item[0].split("/"))
    )
