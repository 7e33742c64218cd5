"""Reading the configuration file: what is wrong with it is said at once, in one sentence for each error.

The file is TOML, named by ``UCLOUD_SLURM_CONFIG``, else ``/etc/ucloud-slurm/config.toml``. Unknown keys are errors.
"""

import sys
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ucloud_slurm.config.model import Config
from ucloud_slurm.config.types import Section
from ucloud_slurm.errors import Misconfigured
from ucloud_slurm.system.config_file import VARIABLE, location

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T", bound=Section)


def read(path: Path | None = None) -> Config:
    """Reads and checks the file.

    :raises Misconfigured: with one sentence for each error
    """
    path = path or location()
    return checked(path, read_text(path))


def read_text(path: Path) -> str:
    """The text of the file.

    :raises Misconfigured: there is none
    """
    try:
        return path.read_text(encoding="utf-8-sig")  # some editors write a mark at the beginning
    except OSError as error:
        what = f"ucloud-slurm setup writes it, or set {VARIABLE}."
        if isinstance(error, PermissionError):
            what = f"the daemon user may read it: runuser -u ucloud-slurm -- {sys.argv[0]} ..."
        elif not isinstance(error, FileNotFoundError):
            what = f"name the configuration with --config, or set {VARIABLE}."
        raise Misconfigured([f"{path}: cannot be read ({error.strerror}); {what}"]) from None
    except UnicodeDecodeError:
        raise Misconfigured([f"{path}: is not UTF-8 text."]) from None


def checked(path: Path, text: str) -> Config:
    """Checks the text of the file.

    :raises Misconfigured: with one sentence for each error
    """
    import tomllib

    try:
        data = tomllib.loads(text)
        if _has_nul(data):  # no name of a file and no argument of a command can have it
            raise Misconfigured(["a text has the character U+0000; leave it out."])
        found = parse(data)
        if relative := list(_relative(found)):  # each process has another folder: one would make a second, empty database
            raise Misconfigured(relative)
    except tomllib.TOMLDecodeError as error:
        raise Misconfigured([f"{path}: is not valid TOML: {error}."]) from None
    except RecursionError:
        raise Misconfigured([f"{path}: has lists or tables in too many others."]) from None
    except Misconfigured as error:
        raise Misconfigured([f"{path}: {sentence}" for sentence in error.sentences]) from None
    return found


def _has_nul(value: Any) -> bool:
    match value:
        case str():
            return "\0" in value
        case dict():
            return any(map(_has_nul, (*value, *value.values())))
        case list():
            return any(map(_has_nul, value))
        case _:
            return False


def _relative(config: Config) -> Iterator[str]:
    """A sentence for each path that does not begin at the root."""
    for table in fields(config):
        value = getattr(config, table.name)
        several = isinstance(value, tuple)
        for number, section in enumerate(value if several else (value,), 1):
            for key in fields(section):
                place = getattr(section, key.name)
                if isinstance(place, Path) and not place.is_absolute():
                    yield f"{table.name}{f'[{number}]' if several else ''}.{key.name}: {place} should begin with /."


def parse(data: dict[str, Any]) -> Config:
    """Checks the contents of the file.

    :raises Misconfigured: with one sentence for each error
    """
    return parse_table(Config, data)


def parse_table(kind: type[T], data: Any) -> T:
    """Checks the contents of one table. Its declaration is all that there is: pydantic reads frozen dataclasses.

    :raises Misconfigured: with one sentence for each error
    """
    from pydantic import ValidationError

    section: Any = kind
    adapter: TypeAdapter[T] = _adapter(section)
    try:
        return adapter.validate_python(data)
    except ValidationError as error:
        raise Misconfigured([_sentence(problem) for problem in error.errors(include_url=False)]) from None


def problem(table: str, name: str, value: Any) -> str | None:
    """What is wrong with the value of one key, in a sentence that names the key; None if nothing is.

    :param value: as TOML has it
    """
    from pydantic import ValidationError

    section: Any = {each.name: each.type for each in fields(Config)}[table]
    try:
        _adapter(section).validate_python({name: value})
    except ValidationError as error:
        found = (each for each in error.errors(include_url=False) if each["loc"][:1] == (name,) and each["type"] != "missing")
        return next((f"{table}.{_sentence(each)}" for each in found), None)
    return None


@cache
def _adapter(kind: Any) -> "TypeAdapter[Any]":
    # Not loaded where a kept configuration is used: it takes longer than a whole pass of the worker.
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def _sentence(problem: Any) -> str:
    where = ""
    for part in problem["loc"]:
        where += f"[{part + 1}]" if isinstance(part, int) else f"{'.' if where else ''}{part}"
    match problem["type"]:
        case "unexpected_keyword_argument":
            return f"{where} is not a key that exists; man ucloud-slurm-config and docs/reference/configuration.rst have all."
        case "missing":
            return f"{where} is missing."
        case "value_error":
            text = str(problem["ctx"]["error"])
        case "literal_error":
            text = f"should be {problem['ctx']['expected']}"
        case "dataclass_type":
            text = "should be a table"
        case _:
            text = problem["msg"][0].lower() + problem["msg"][1:]
    return f"{where}: {text}." if where else f"{text}."
