"""The environment variables of an application: which names it may set, and how the script sets them."""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence

from ucloud_slurm.bridge.script.bash import refuse_control_characters
from ucloud_slurm.bridge.script.containers import refuse_steering
from ucloud_slurm.errors import Refused

Pieces = Sequence[tuple[str, str]]

LONGEST = 128 * 1024 - 1  # bytes of a variable with its name; MAX_ARG_STRLEN of Linux

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
_OURS = re.compile(r"(?:SLURM|SLURMD|SBATCH|SRUN|PMI|PMIX|UCLOUD)_.*", re.IGNORECASE)
# bash gives these a value or a meaning of its own, so that what is set would not arrive, or not only (bash(1)).
_OF_BASH = re.compile(
    r"BASH.*|COMP_.*|DIRSTACK|ENV|EPOCHREALTIME|EPOCHSECONDS|EUID|FUNCNAME|GLOBIGNORE|GROUPS|HISTCMD|IFS|LINENO|"
    r"MAILCHECK|OLDPWD|OPTARG|OPTERR|OPTIND|PIPESTATUS|POSIXLY_CORRECT|PPID|PS4|PWD|RANDOM|SECONDS|SHELLOPTS|SHLVL|"
    r"SRANDOM|TMOUT|UID|_"
)


def exports(variables: Mapping[str, Pieces], *, in_container: bool) -> Iterator[str]:
    """The lines of the script that set them.

    :param variables: name -> pieces of its value, as :func:`.invocation.environment` gives them
    :raises Refused: naming the variable that cannot be set
    """
    for name, pieces in variables.items():
        _check_name(name)
        if _OURS.fullmatch(name) or _OF_BASH.fullmatch(name):
            raise Refused(f"The application may not set the environment variable '{name}'.")
        if in_container:
            refuse_steering(name)
        value = ""
        for kind, text in pieces:
            if kind == "variable":
                _check_name(text)
                value += f'"${{{text}-}}"'
            else:
                refuse_control_characters(f"The environment variable '{name}'", [text])
                value += shlex.quote(text)
        if sum(len(text.encode()) for _, text in pieces) + len(name) + 1 > LONGEST:
            raise Refused(f"The environment variable '{name}' is too long: it may have {LONGEST} bytes.")
        yield f"export {name}={value}"


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise Refused(f"The application has an environment variable with an impossible name ({name[:40]!r}).")
