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

LARGEST_LIST_BYTES = 1024 * 1024
MOST_LISTED = 2000  # modules: a form with more of them is slow in the browser

_MODULE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@:=~/-]{0,254}")


def check_names(what: str, names: Sequence[str]) -> None:
    """Refuses names that no module can have.

    :param what: the field that the names come from
    :raises Refused: naming field and module
    """
    for name in names:
        if not _MODULE.fullmatch(name):
            raise Refused(f"{what}: '{one_line(name, 80)}' is not a valid module name.")


def list_script(init: str | None) -> str:
    """The bash script that prints the modules that can be loaded, and ends with 1 where there are none.

    :param init: the file that defines ``module`` (``jobs.modules_init``)
    """
    lines = [
        f"for place in {shlex.join([init] if init else USUAL_INIT_FILES)}; do",
        '    [ ! -r "$place" ] || . "$place"',
        "    declare -F module > /dev/null && break",
        "done",
        "declare -F module > /dev/null || { echo 'no file defines the function module (jobs.modules_init)' >&2; exit 1; }",
        # Both implementations print on the standard error output, because the function is evaluated.
        f"module --terse avail 2>&1 | head -c {LARGEST_LIST_BYTES}",
        "exit 0",
    ]
    return "\n".join(lines)


def listed(output: str) -> tuple[str, ...]:
    """The modules in the output of ``module --terse avail``, in alphabetical order: at most :data:`MOST_LISTED`.

    A line is a folder of modules with a colon, a name, or a name with a mark such as ``(default)`` or ``<L>``.
    """
    lines = (re.sub(r"[(<][^()<>]*[)>]$", "", line.strip()).rstrip() for line in output.split("\n"))
    names = {line for line in lines if not line.endswith((":", "/")) and _MODULE.fullmatch(line)}
    return tuple(sorted(names, key=lambda name: (name.casefold(), name))[:MOST_LISTED])


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
