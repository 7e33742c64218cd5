"""Environment modules that a job loads (contract: requiredModules), with Lmod or Environment Modules."""

import re
import shlex
from collections.abc import Sequence

from ucloud_slurm.bridge.script.bash import sourced, stop
from ucloud_slurm.errors import Refused, one_line

# Files that define the shell function "module", in the order in which they are tried.
USUAL_INIT_FILES = (
    "/etc/profile.d/lmod.sh",
    "/etc/profile.d/modules.sh",
    "/usr/share/modules/init/bash",
    "/usr/share/lmod/lmod/init/bash",
)

_MODULE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@:=~/-]{0,254}")


def check_names(what: str, names: Sequence[str]) -> None:
    """Refuses names that no module can have.

    :param what: the field that the names come from
    :raises Refused: naming field and module
    """
    for name in names:
        if not _MODULE.fullmatch(name):
            raise Refused(f"{what}: '{one_line(name, 80)}' is not a valid module name.")


def load_lines(modules: Sequence[str], init: str | None) -> list[str]:
    """The lines of the script that load modules. A job whose modules cannot be loaded ends.

    :param init: the file that defines ``module`` (``jobs.modules_init``)
    :raises Refused: a name is not valid
    """
    if not modules:
        return []
    check_names("requiredModules or loadInstructions of the application's tool", modules)
    # A function that the login environment defines suffices, unless the site names a file.
    define = (
        sourced(init, "jobs.modules_init")
        if init
        else [
            f"for ucloud_place in {shlex.join(USUAL_INIT_FILES)}; do",
            "    declare -F module > /dev/null && break",
            '    [ ! -r "$ucloud_place" ] || . "$ucloud_place"',
            "done",
        ]
    )
    none = stop(f"this node has no environment modules (looked for in {init or ', '.join(USUAL_INIT_FILES)}).")
    return [
        "# The tool's environment modules; a batch job may begin without the function that loads them",
        *define,
        f"declare -F module > /dev/null || {none}",
        "module purge",
        *(
            f"module load {shlex.quote(name)} || {stop(f'the environment module {name} could not be loaded.')}"
            for name in modules
        ),
    ]
