"""Environment modules of a tool (contract: requiredModules), through Lmod or Environment Modules."""

import re
import shlex
from collections.abc import Mapping, Sequence

from ucloud_slurm.bridge.script.bash import sourced, stop
from ucloud_slurm.errors import Refused, one_line

# Where the shell function "module" comes from, in the order in which it is looked for.
USUAL = (
    "/etc/profile.d/lmod.sh",
    "/etc/profile.d/modules.sh",
    "/usr/share/modules/init/bash",
    "/usr/share/lmod/lmod/init/bash",
)

_MODULE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@:=~/-]{0,254}")


def of_application(name: str, version: str, load: Mapping[str, Sequence[str]]) -> Sequence[str]:
    """The modules of something that UCloud's applications load by name and version.

    :param load: what the site says of them (``applications.load``)
    """
    exact = f"{name}/{version}"
    return load.get(exact, load.get(name, (exact,)))


def check(what: str, names: Sequence[str]) -> None:
    """Refuses what cannot be the name of a module.

    :param what: where the names come from
    :raises Refused: naming it
    """
    for name in names:
        if not _MODULE.fullmatch(name):
            raise Refused(f"{what}: '{one_line(name, 80)}' cannot be a module's name.")


def loading(modules: Sequence[str], init: str | None) -> list[str]:
    """The lines of the script that load them; a job whose modules cannot be loaded ends.

    :param init: the file that defines ``module`` (``jobs.modules_init``)
    :raises Refused: a name cannot be that of a module
    """
    if not modules:
        return []
    check("requiredModules or loadInstructions of the application's tool", modules)
    # What the login environment defines will do, unless the site names a file of its own.
    found = (
        sourced(init, "jobs.modules_init")
        if init
        else [
            f"for ucloud_place in {shlex.join(USUAL)}; do",
            "    declare -F module > /dev/null && break",
            '    [ ! -r "$ucloud_place" ] || . "$ucloud_place"',
            "done",
        ]
    )
    none = stop(f"this node has no environment modules (looked for in {init or ', '.join(USUAL)}).")
    return [
        "# The tool's environment modules; a batch job may begin without the function that loads them",
        *found,
        f"declare -F module > /dev/null || {none}",
        "module purge",
        *(
            f"module load {shlex.quote(name)} || {stop(f'the environment module {name} could not be loaded.')}"
            for name in modules
        ),
    ]
