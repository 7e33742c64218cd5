"""The batch script: readable, the same byte for byte for the same job, every value quoted as data."""

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence

from ucloud_slurm.bridge.words import refuse_control_characters
from ucloud_slurm.errors import Refused

LARGEST = 4 * 1024 * 1024  # bytes; slurm.conf(5): max_script_size
LONGEST_WORD = 128 * 1024 - 1  # bytes; MAX_ARG_STRLEN of Linux
LONGEST_COMMAND = 1024 * 1024  # bytes; execve(2) allows a quarter of the stack limit, 2 MiB by default

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OURS = ("SLURM_", "SBATCH_", "UCLOUD_")

Pieces = Sequence[tuple[str, str]]


def script(
    *,
    facts: Mapping[str, str],
    variables: Mapping[str, Pieces],
    modules: Sequence[str],
    command: Sequence[str],
    folder: str,
    nodes: int,
) -> str:
    """The text of the script.

    Its second line is a command: Slurm reads no directive after the first command, so that nothing below can be
    one, and no line of ours begins with ``#SBATCH``.

    :param facts: UCLOUD_* variables for the job
    :param variables: environment variables of the application
    :param modules: environment modules of the tool
    :param command: the program and its arguments, at least one
    :param folder: the job's folder
    :raises Refused: naming what cannot be put into a script
    """
    if not command:
        raise Refused("The application has no command to run.")
    refuse_control_characters("The command of the application", command)
    refuse_control_characters("The list of modules", modules)
    _check_lengths(command)
    lines = [
        "#!/bin/bash",
        ": The first command. Slurm reads no options below it.",
        "",
        "# What UCloud knows of this job",
        *(f"export {name}={shlex.quote(value)}" for name, value in sorted(facts.items())),
    ]
    if modules:
        lines += ["", "# The tool's environment modules", "module purge"]
        lines += [f"module load {shlex.quote(name)} || exit 1" for name in modules]
    if variables:
        lines += ["", "# The application's environment", *_exports(variables)]
    lines += ["", "# The application", f"cd {shlex.quote(folder)} || exit 1"]
    # --export=ALL: sbatch was told to start with a clean environment, and srun would do so again.
    start = f"srun --export=ALL --nodes={nodes} --ntasks={nodes} --ntasks-per-node=1 --open-mode=append"
    start += f" --output={shlex.quote(_pattern(folder, 'stdout'))} --error={shlex.quote(_pattern(folder, 'stderr'))} --"
    lines.append((f"{start} " if nodes > 1 else "") + " ".join(shlex.quote(word) for word in command))
    text = "\n".join(lines) + "\n"
    if len(text.encode()) > LARGEST:
        raise Refused(f"The job's parameters are too long: its script would have more than {LARGEST} bytes.")
    return text


def log(folder: str, stream: str, rank: int) -> str:
    """The file that a rank's ``stdout`` or ``stderr`` goes to."""
    return f"{folder}/{stream}-{rank}.log"


def _pattern(folder: str, stream: str) -> str:
    return f"{folder.replace('%', '%%')}/{stream}-%t.log"


def _exports(variables: Mapping[str, Pieces]) -> Iterable[str]:
    for name, pieces in variables.items():
        _check_name(name)
        if name.startswith(_OURS):
            raise Refused(f"The application may not set the environment variable '{name}'.")
        value = ""
        for kind, text in pieces:
            if kind == "variable":
                _check_name(text)
                value += f'"${{{text}-}}"'
            else:
                refuse_control_characters(f"The environment variable '{name}'", [text])
                value += shlex.quote(text)
        yield f"export {name}={value}"


def _check_name(name: str) -> None:
    if not _VARIABLE.fullmatch(name):
        raise Refused(f"The application has an environment variable with an impossible name ({name[:40]!r}).")


def _check_lengths(command: Sequence[str]) -> None:
    sizes = [len(word.encode()) for word in command]
    if max(sizes) > LONGEST_WORD:
        raise Refused(f"A parameter is too long: {max(sizes)} bytes, and one may have {LONGEST_WORD}.")
    if sum(sizes) + 16 * len(sizes) > LONGEST_COMMAND:
        raise Refused(f"The parameters are too long together: a command may have {LONGEST_COMMAND} bytes.")
