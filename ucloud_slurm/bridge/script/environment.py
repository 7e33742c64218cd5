"""The environment variables of an application: the names that it may set, and the lines of the script that set them."""

import re
from collections.abc import Iterator, Mapping, Sequence

from ucloud_slurm.bridge.script.bash import quoted, refuse_control_characters
from ucloud_slurm.bridge.script.containers import refuse_runtime_variable
from ucloud_slurm.errors import Refused

Pieces = Sequence[tuple[str, str]]

MAX_VARIABLE_BYTES = 128 * 1024 - 1  # with its name; MAX_ARG_STRLEN of Linux

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
_RESERVED = re.compile(r"(?:SLURM|SLURMD|SBATCH|SRUN|PMI|PMIX|UCLOUD)_.*", re.IGNORECASE)
# bash sets these itself or gives them a meaning, so that the value would be lost or have side effects (bash(1)).
_OF_BASH = re.compile(
    r"BASH.*|COMP_.*|DIRSTACK|ENV|EPOCHREALTIME|EPOCHSECONDS|EUID|FUNCNAME|GLOBIGNORE|GROUPS|HISTCMD|IFS|LINENO|"
    r"MAILCHECK|OLDPWD|OPTARG|OPTERR|OPTIND|PIPESTATUS|POSIXLY_CORRECT|PPID|PS4|PWD|RANDOM|SECONDS|SHELLOPTS|SHLVL|"
    r"SRANDOM|TMOUT|UID|_"
)


def exports(variables: Mapping[str, Pieces], *, in_container: bool) -> Iterator[str]:
    """The lines of the script that set environment variables.

    :param variables: name -> pieces of its value, see :func:`.invocation.environment`
    :raises Refused: naming the variable that cannot be set
    """
    for name, pieces in variables.items():
        _check_name(name)
        if _RESERVED.fullmatch(name) or _OF_BASH.fullmatch(name):
            raise Refused(f"The application may not set the environment variable '{name}'.")
        if in_container:
            refuse_runtime_variable(name)
        value = ""
        for kind, text in pieces:
            if kind == "variable":
                _check_name(text)
                value += f'"${{{text}-}}"'
            else:
                refuse_control_characters(f"The environment variable '{name}'", [text], lines=True)
                value += quoted([text])
        if sum(len(text.encode()) for _, text in pieces) + len(name) + 1 > MAX_VARIABLE_BYTES:
            raise Refused(f"The environment variable '{name}' is too long: it may have {MAX_VARIABLE_BYTES} bytes.")
        yield f"export {name}={value}"


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise Refused(f"The application has an environment variable with an invalid name ({name[:40]!r}).")
