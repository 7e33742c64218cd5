"""The text of the batch script: readable, equal byte for byte for equal jobs, with every value quoted as data."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ucloud_slurm.bridge.script import inputs, modules
from ucloud_slurm.bridge.script.bash import STOP, quoted, refuse_control_characters, sourced
from ucloud_slurm.bridge.script.containers import Container
from ucloud_slurm.bridge.script.environment import Pieces, exports
from ucloud_slurm.bridge.script.launch import ANNOUNCE, ProgramLaunch
from ucloud_slurm.errors import Refused

MAX_SCRIPT_BYTES = 4 * 1024 * 1024  # slurm.conf(5): max_script_size
MAX_ARGUMENT_BYTES = 128 * 1024 - 1  # MAX_ARG_STRLEN of Linux
MAX_COMMAND_BYTES = 1024 * 1024  # execve(2) allows a quarter of the stack limit, 2 MiB by default


class ScriptParts(NamedTuple):
    """What a batch script is made of.

    :ivar facts: UCLOUD_* variables that describe the job
    :ivar modules: environment modules to load
    :ivar modules_init: the file that defines ``module``, None to look for it
    :ivar prologue: a shell file of the site that is sourced before the application
    :ivar inputs: the files of the job
    :ivar container: the container of the application, None for an application that is installed
    :ivar variables: environment variables of the application
    :ivar command: the program and its arguments; empty for an application that is a script
    :ivar body: the script, in bash, of such an application
    """

    facts: Mapping[str, str]
    modules: Sequence[str]
    modules_init: str | None
    prologue: str | None
    inputs: Sequence[inputs.InputFile]
    container: Container | None
    variables: Mapping[str, Pieces]
    command: Sequence[str]
    launch: ProgramLaunch
    body: str | None = None


def script_text(parts: ScriptParts) -> str:
    """The text of the script.

    Its second line is a command: Slurm reads no directive after the first command, so that no value below can become
    one. No line that is written here begins with ``#SBATCH``.

    :raises Refused: naming what cannot be put into a script
    """
    command = parts.command
    if parts.body is not None:
        if not parts.body.strip():
            raise Refused("The application's template gives an empty script.")
        command = ("bash", "-c", parts.body) if parts.container else ()
    elif not command:
        raise Refused("The application has no command to run.")
    else:
        refuse_control_characters("The command of the application", command, lines=True)
    variables = list(exports(parts.variables, in_container=parts.container is not None))
    others = [*variables, *(parts.container.binds if parts.container else ())]
    _check_lengths(command, sum(len(line.encode()) for line in others))
    sections: list[Sequence[str]] = [
        modules.load_lines(parts.modules, parts.modules_init),
        ["# The site's own beginning of a job", *sourced(parts.prologue, "the prologue of the site")] if parts.prologue else [],
        inputs.checks(parts.inputs),
        parts.container.find_image() if parts.container else [],
        parts.launch.host_file(),
        parts.launch.steps() if parts.launch.scripted else [],
        ["# The application's environment", *variables] if variables else [],
        ANNOUNCE if parts.launch.listens else [],
        _application(parts, command),
    ]
    uses_stop = any("ucloud_stop" in line for section in sections for line in section)
    text = "\n".join(_lines(parts.facts, [STOP if uses_stop else (), *sections])) + "\n"
    if len(text.encode()) > MAX_SCRIPT_BYTES:
        raise Refused(f"The job's parameters are too long: its script would have more than {MAX_SCRIPT_BYTES} bytes.")
    return text


def _application(parts: ScriptParts, command: Sequence[str]) -> list[str]:
    if parts.body is not None and parts.container is None:
        return parts.launch.body(parts.body)
    return parts.launch.start(parts.container.command(command) if parts.container else quoted(command))


def _lines(facts: Mapping[str, str], sections: Iterable[Sequence[str]]) -> Iterable[str]:
    yield "#!/bin/bash"
    yield ": The first command. Slurm reads no options below it."
    yield ""
    yield "# What UCloud knows of this job"
    yield from (f"export {name}={shlex.quote(value)}" for name, value in sorted(facts.items()))
    for section in sections:
        if section:
            yield ""
            yield from section


def _check_lengths(command: Sequence[str], others: int) -> None:
    sizes = [len(argument.encode()) for argument in command]
    if max(sizes, default=0) > MAX_ARGUMENT_BYTES:
        raise Refused(f"A parameter is too long: {max(sizes)} bytes, and one may have {MAX_ARGUMENT_BYTES}.")
    if sum(sizes) + 16 * len(sizes) + others > MAX_COMMAND_BYTES:
        raise Refused(f"The parameters and files are too long together: a command may have {MAX_COMMAND_BYTES} bytes.")
