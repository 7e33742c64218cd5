"""Images of applications, run by the site's own container runtime as the job's user.

What a runtime's command line is made of comes from the table below, from the configuration and from the application's
description. What a user gave stands behind the image, where no runtime looks for options, or in a bind whose path was
checked.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ucloud_slurm.bridge.script.bash import quoted, stop
from ucloud_slurm.bridge.script.inputs import Input
from ucloud_slurm.config import ContainersSection
from ucloud_slurm.errors import Refused, one_line


@dataclass(frozen=True, slots=True)
class Runtime:
    """How a container runtime is called.

    :ivar begin: its name and the options that it always gets
    :ivar folder: the option for the working folder
    :ivar gpus: options for jobs with GPUs
    :ivar read_only: what makes a bind read-only, where it can be
    :ivar makes_mount_points: a bind needs no folder of its name in the image
    :ivar pulls: it fetches images from registries
    :ivar end: what stands between the image and the program
    """

    begin: tuple[str, ...]
    folder: str
    gpus: tuple[str, ...]
    read_only: str
    makes_mount_points: bool
    pulls: bool
    end: tuple[str, ...] = ()


# The environment goes through as it is: neither --cleanenv nor --containall. The home folder stays outside, because
# what users keep there for the cluster's own programs is seldom meant for those of an image.
RUNTIMES: Mapping[str, Runtime] = {
    "apptainer": Runtime(("apptainer", "exec", "--no-home"), "--pwd", ("--nv",), ":ro", True, True),
    "singularity": Runtime(("singularity", "exec", "--no-home"), "--pwd", ("--nv",), ":ro", True, True),
    "charliecloud": Runtime(("ch-run",), "--cd", (), "", False, False, ("--",)),
}

LONGEST_REFERENCE = 255
_REFERENCE = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]*(?::[0-9]{1,5}(?=/))?"  # the first part, maybe a host with a port
    r"(?:/[A-Za-z0-9][A-Za-z0-9._-]*)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]*)?(?:@sha256:[0-9a-f]{64})?"
)
_NOT_IN_BINDS = frozenset(':,"\\')
_STEERING = re.compile(r"(?:APPTAINER|SINGULARITY|CH_|LD_).*|HOME|PATH|TMPDIR|USER|PWD|OLDPWD|SHLVL")


@dataclass(frozen=True, slots=True)
class Container:
    """The image of a job and how it is run."""

    runtime: Runtime
    image: str
    images: tuple[str, ...]
    registry: str | None
    binds: tuple[str, ...]
    folder: str
    gpus: bool

    def finding(self) -> list[str]:
        """The lines of the script that find the image: a local one before that of the registry."""
        name = self.image.replace("/", "%").replace(":", "+")
        names = (name,) if name.endswith(".sif") else (name, f"{name}.sif")
        places = [f"{folder}/{name}" for folder in self.images for name in names]
        pulled = self.registry is not None and self.runtime.pulls and not name.endswith(".sif")
        remote = f"{self.registry}{self.image}" if pulled else ""
        looking = [
            f"for ucloud_place in {shlex.join(places)}; do",
            '    [ ! -e "$ucloud_place" ] || { ucloud_image=$ucloud_place; break; }',
            "done",
        ]
        return [
            "# The image of the application",
            f"ucloud_image={shlex.quote(remote)}",
            *(looking if places else ()),
            f'[ -n "$ucloud_image" ] || {stop(f"there is no image {self.image} on this cluster.")}',
        ]

    def around(self, words: Sequence[str]) -> str:
        """The command that runs these words in the container, as bash reads it."""
        runtime = self.runtime
        options = [*runtime.begin, f"{runtime.folder}={self.folder}", *(f"--bind={bind}" for bind in self.binds)]
        options += runtime.gpus if self.gpus else ()
        return f'{quoted(options)} "$ucloud_image" {quoted((*runtime.end, *words))}'


def container(
    backend: str, image: str | None, settings: ContainersSection, found: Sequence[Input], folder: str, gres: str | None
) -> Container | None:
    """How the image of an application is run; None for an application that needs no image here.

    :param backend: of the application's tool (contract: Tool)
    :param image: the tool's image
    :param found: the files of the job
    :param folder: the job's folder
    :param gres: what each node has beside CPUs and memory, as sbatch --gres takes it
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
    if len(image) > LONGEST_REFERENCE or not _REFERENCE.fullmatch(image):
        raise Refused(f"The image of the application's tool ('{one_line(image, 80)}') is not a name of an image.")
    return Container(
        runtime=RUNTIMES[settings.runtime],
        image=image,
        images=settings.images,
        registry=settings.registry,
        binds=_binds(RUNTIMES[settings.runtime], settings.binds, found, folder),
        folder=folder,
        gpus=gres is not None and gres.split(":")[0] == "gpu",
    )


def refuse_steering(name: str) -> None:
    """Refuses an environment variable by which the runtime itself would be led, or that it sets itself.

    :raises Refused: naming it
    """
    if _STEERING.fullmatch(name):
        raise Refused(f"The application may not set the environment variable '{name}' for a container.")


def _binds(runtime: Runtime, everywhere: Sequence[str], found: Sequence[Input], folder: str) -> tuple[str, ...]:
    """What the container sees, outer folders first. What is asked for twice is read-only if one of them says so."""
    wanted = dict.fromkeys(everywhere, False)
    fields = [(one.what, one.path, one.read_only) for one in found]
    for what, path, read_only in (*fields, ("The job's folder (jobs.folder)", folder, False)):
        if _NOT_IN_BINDS.intersection(path):
            raise Refused(f"{what}: a path with a colon, comma, quote or backslash cannot be shown to a container.")
        if runtime.makes_mount_points or not any(path == above or path.startswith(f"{above}/") for above in everywhere):
            wanted[path] = path != folder and (read_only or wanted.get(path, False))
    return tuple(
        f"{path}:{path}{runtime.read_only if read_only else ''}"
        for path, read_only in sorted(wanted.items(), key=lambda item: item[0].split("/"))
    )
