"""Types of values in the configuration file: durations, names, paths, options of Slurm's commands.

They are declared for pydantic, which checks the file, but without it: a process that starts with a kept configuration
does not load it.
"""

import re
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field
from typing import Annotated, Any, ClassVar

from ucloud_slurm.errors import Misconfigured, one_line
from ucloud_slurm.system.accounts import RULE_FILE, read_rule
from ucloud_slurm.system.slurm_options import OWNED, SITE, begun

UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
MAX_NOTICE_SECONDS = 65535  # sbatch(1): --signal

# Options that share the CPUs of a node among tasks: an application may set them where the administrator allows it.
LAYOUT = frozenset(("ntasks", "ntasks-per-node", "cpus-per-task"))
# Options that ucloud-slurm sets itself and that a job can do without: Slurm then allocates what the partition gives.
OMITTABLE = ("cpus-per-task", "gres", "mem", "nodes", "ntasks-per-node")


class Before:
    """Annotates a type: a function reads the value of the file, before pydantic checks it. It may raise ValueError."""

    def __init__(self, func: Callable[[Any], Any]) -> None:
        self.func = func

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_before_validator_function(self.func, handler(source))


class After:
    """Annotates a type: a function has the last word on a value that pydantic has checked. It may raise ValueError."""

    def __init__(self, func: Callable[[Any], Any]) -> None:
        self.func = func

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(self.func, handler(source))


class Pattern:
    """Annotates texts that match a regular expression."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        return {**handler(source), "pattern": self.pattern}


def key(*, default: Any = MISSING, description: str | None = None, example: Any = None, **limits: Any) -> Any:
    """Declares a key.

    :param default: without it the file must have the key
    :param example: its value in an annotated file, as TOML has it, where it has no default
    :param limits: on its value, as pydantic's ``Field`` has them: ``ge``, ``min_length``, ``pattern`` ...
    """
    metadata = {"description": description, **limits}
    if example is not None:
        metadata["examples"] = [example]
    if isinstance(default, dict):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Section:
    """A table of the file: a frozen dataclass. A key that is not declared is an error (see ``reader.py``)."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}


def seconds(value: Any) -> float:
    """Reads a duration.

    :raises ValueError: it is none
    """
    if isinstance(value, str) and (match := re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", value)):
        return float(match[1]) * UNIT_SECONDS[match[2]]
    raise ValueError('should be a duration such as "30s", "15m", "2h" or "7d"')


def mebibytes(value: Any) -> int:
    """Reads a size, in bytes.

    :raises ValueError: it is none
    """
    if isinstance(value, str) and (match := re.fullmatch(r"(\d+)(MiB|GiB)", value)):
        return int(match[1]) * (2**20 if match[2] == "MiB" else 2**30)
    raise ValueError('should be a size such as "64MiB" or "2GiB"')


def _keep(value: float) -> float:
    if 0 < value < UNIT_SECONDS["d"]:
        raise ValueError('should be at least "1d", or "0s" to keep everything')
    return value


def slurm_word(value: Any) -> str:
    """Reads a name of Slurm's.

    :raises ValueError: it is none
    """
    # These become arguments of sbatch; a value must not be read as an option or as two values.
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.:@+&|*,()\[\]=-]*", value):
        return value
    raise ValueError("should be a plain Slurm name")


def _option(value: str) -> str:
    match = re.fullmatch(r"--([a-z][a-z0-9-]*)(=[\x21-\x7e]+)?", value)
    if match is None:
        raise ValueError('should be a long option of sbatch such as "--nice=100"')
    _check_name(match[1])
    return value


def _check_name(name: str) -> None:
    known = begun(name)
    if name in SITE or (known is None and name in plugin_options()):
        return
    if known in OWNED:
        raise ValueError(f"--{name} may not be set here: ucloud-slurm sets --{known} itself")
    if known is not None:
        raise ValueError(f"--{name} is not the whole name of an option of sbatch, such as --{known}")
    raise ValueError(
        f"--{name} is not an option of sbatch that ucloud-slurm knows; name options of plugins, and of newer releases of "
        f"Slurm, in {RULE_FILE} (plugin_options)"
    )


def plugin_options() -> tuple[str, ...]:
    try:
        return read_rule().plugin_options
    except Misconfigured:  # "check" says so
        return ()


def _option_name(value: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9-]*", value):
        raise ValueError('should be the name of a long option of sbatch such as "ntasks-per-node"')
    if value not in LAYOUT:
        _check_name(value)
    return value


def _omitted(value: str) -> str:
    if value not in OMITTABLE:
        raise ValueError(f"--{one_line(value, 40)} cannot be left out; these options can: {', '.join(OMITTABLE)}")
    return value


def _srun_option(value: str) -> str:
    if not re.fullmatch(r"--[a-z][a-z0-9-]*(=[\x21-\x7e]+)?", value):
        raise ValueError('should be a long option of srun such as "--mpi=pmix"')
    return value


def _signal(value: Any) -> str:
    """A signal and its seconds before the time limit, as sbatch --signal takes them."""
    match = re.fullmatch(r"(HUP|TERM|USR1|USR2)@(.+)", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('should be HUP, TERM, USR1 or USR2 and how long before the end, such as "USR1@5m"')
    if not 1 <= seconds(match[2]) <= MAX_NOTICE_SECONDS:
        raise ValueError(f"can be sent 1 to {MAX_NOTICE_SECONDS} seconds before the end")
    return f"{match[1]}@{int(seconds(match[2]))}"


def _whole_mebibytes(value: float) -> float:
    if not (value * 1024).is_integer():
        raise ValueError("should be a whole number of MiB, of which a GiB has 1024")
    return value


def _ssh_command(value: Any) -> str:
    """What users type to log in. UCloud's page reads it as one line that begins with the word ssh."""
    if not isinstance(value, str) or not re.fullmatch(r"ssh [\x20-\x7e]{1,250}", value):
        raise ValueError('should be one line that begins with ssh, such as "ssh {user}@login.example.org"')
    if re.search(r"[{}]", value.replace("{user}", "")):
        raise ValueError("{user} is filled in, and no other word in braces")
    return value


def _plain_path(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"(/[A-Za-z0-9_+@.-]+)+", value) or _has_dots(value):
        raise ValueError("should be an absolute path of letters, digits and _+@.-")
    return value


def _root(value: Any) -> str:
    """A folder in which ``{home}`` and other words in braces are filled in for each job."""
    if not isinstance(value, str):
        raise ValueError("should be a path")  # noqa: TRY004  pydantic collects ValueErrors
    bare = re.sub(r"\{(home|user|account|project)\}", "x", value.removeprefix("{home}"))
    if not value.startswith(("{home}", "/")) or not re.fullmatch(r"/?|(/[\w +@.,=~-]+)+", bare):
        raise ValueError(
            'should be an absolute path such as "/projects/{project}"; {home}, {user}, {account} and {project} are filled in'
        )
    if _has_dots(value) or "{home}" in value[1:]:
        raise ValueError("must not contain . or .. as a part, nor {home} except at its beginning")
    return value


def _jobs_folder(value: Any) -> str:
    """A folder in which ``{home}`` and ``{user}`` are filled in for each job."""
    if isinstance(value, str) and value.isprintable() and not _has_dots(value) and value.strip("/"):
        bare = value.removeprefix("{home}").replace("{user}", "u")
        if value == "{home}" or re.fullmatch(r"/[^{}]*", bare):
            return value
    raise ValueError(
        'should be an absolute path such as "{home}/ucloud-jobs"; {home}, at its beginning, and {user} are filled in'
    )


def _has_dots(path: str) -> bool:
    return not {".", ".."}.isdisjoint(path.split("/"))


Duration = Annotated[float, Before(seconds)]
Keep = Annotated[Duration, After(_keep)]
Size = Annotated[int, Before(mebibytes)]
SshCommand = Annotated[str, Before(_ssh_command)]
PlainPath = Annotated[str, Before(_plain_path)]
RootPath = Annotated[str, Before(_root)]
JobsFolder = Annotated[str, Before(_jobs_folder)]
SlurmWord = Annotated[str, Before(slurm_word)]
Option = Annotated[str, After(_option)]
OptionName = Annotated[str, After(_option_name)]
Omitted = Annotated[str, After(_omitted)]
SrunOption = Annotated[str, After(_srun_option)]
Signal = Annotated[str, Before(_signal)]
Gibibytes = Annotated[float, After(_whole_mebibytes)]
Identifier = Annotated[str, Pattern(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
