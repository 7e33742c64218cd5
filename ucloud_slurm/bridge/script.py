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

_ANNOUNCE = (
    "# Where the application listens: on UCLOUD_PORT of its node, or on what it writes into UCLOUD_PORT_FILE itself,",
    '# as "<port>" or "<port> <path with which a browser begins>"',
    "ucloud_announce() {",
    '    export UCLOUD_PORT UCLOUD_PORT_FILE="$UCLOUD_JOB_FOLDER/port-${SLURM_PROCID:-0}"',
    "    until UCLOUD_PORT=$((20000 + RANDOM % 12000)); ! (: < /dev/tcp/127.0.0.1/$UCLOUD_PORT) 2> /dev/null; do",
    "        :",
    "    done",
    '    [ "$UCLOUD_BASE_PATH" = / ] || export UCLOUD_BASE_PATH="${UCLOUD_BASE_PATH%-0/}-${SLURM_PROCID:-0}/"',
    '    echo "$UCLOUD_PORT" > "$UCLOUD_PORT_FILE"',
    "}",
    "export -f ucloud_announce",
)

Pieces = Sequence[tuple[str, str]]


def script(
    *,
    facts: Mapping[str, str],
    variables: Mapping[str, Pieces],
    modules: Sequence[str],
    command: Sequence[str],
    folder: str,
    nodes: int,
    listens: bool = False,
) -> str:
    """The text of the script.

    Its second line is a command: Slurm reads no directive after the first command, so that nothing below can be
    one, and no line of ours begins with ``#SBATCH``.

    :param facts: UCLOUD_* variables for the job
    :param variables: environment variables of the application
    :param modules: environment modules of the tool
    :param command: the program and its arguments, at least one
    :param folder: the job's folder
    :param listens: the application is a web page or a screen, and needs a port
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
    if listens:
        lines += ["", *_ANNOUNCE]
    lines += ["", "# The application", f"cd {shlex.quote(folder)} || exit 1"]
    words = " ".join(shlex.quote(word) for word in command)
    if nodes == 1:
        lines += ["ucloud_announce"] if listens else []
        lines.append(words)
    else:
        # --export=ALL: sbatch was told to start with a clean environment, and srun would do so again.
        start = f"srun --export=ALL --nodes={nodes} --ntasks={nodes} --ntasks-per-node=1 --open-mode=append"
        start += f" --output={shlex.quote(_pattern(folder, 'stdout'))}"
        start += f" --error={shlex.quote(_pattern(folder, 'stderr'))}"
        wrapper = """bash -c 'ucloud_announce; exec "$@"' ucloud """ if listens else ""
        lines.append(f"{start} -- {wrapper}{words}")
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
