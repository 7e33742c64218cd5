"""Writes a configuration file: every key of every table with its meaning, those without a value as comments.

The declarations of the tables are its one source. ``etc/config.toml`` is written by it, and so is the file of a new site.
"""

import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from enum import Enum
from pathlib import Path
from typing import Any, get_args

from ucloud_slurm.config.model import Config
from ucloud_slurm.config.types import UNIT_SECONDS, Before, Section, mebibytes, seconds

WIDTH = 112
HEAD = """\
# ucloud-slurm: /etc/ucloud-slurm/config.toml, or the file that UCLOUD_SLURM_CONFIG names.
#
# Every key is here. One that is commented out shows its default, or an example where it has none.
# Durations are text: "30s", "15m", "2h", "7d". Unknown keys are errors. Try it: ucloud-slurm check
# The service reads it at its start (systemctl reload ucloud-slurm), the worker at every pass."""
# A site that has no table of them yet sees one, as a comment. What stands in the example belongs together.
EXAMPLE: Mapping[str, Any] = {
    "provider": {"id": "example", "url": "https://hpc.example.org"},
    "ucloud": {
        "url": "https://cloud.sdu.dk",
        "refresh_token_file": "/etc/ucloud-slurm/refresh-token",
        "public_key_file": "/etc/ucloud-slurm/ucloud.pub",
    },
    "products": [{"id": "example-compute-1", "category": "example-compute", "partition": "cpu"}],
}


def tables() -> Iterator[tuple[str, type[Section], bool]]:
    """Name and declaration of every table, and whether it may be there several times."""
    for table in fields(Config):
        of: Any = table.type
        repeated = get_args(of)
        yield table.name, repeated[0] if repeated else of, bool(repeated)


def annotated(data: Mapping[str, Any], head: str = HEAD) -> str:
    """The text of a configuration file.

    :param data: what it sets, as TOML has it; it is not checked
    :param head: comment at its beginning
    """
    parts = [head]
    for name, section, repeated in tables():
        about = f"{section.__doc__}{' One table for each.' if repeated else ''}"
        found = data.get(name, [] if repeated else {})
        entries: Sequence[Mapping[str, Any]] = found if repeated else [found]
        title = f"[[{name}]]" if repeated else f"[{name}]"
        if not entries:
            parts.append("\n".join([comment(about), f"#{title}", *_keys(section, {}, needed=False)]))
        for number, entry in enumerate(entries):
            # The meaning of the keys stands at the first of several tables.
            lines = [*_keys(section, entry)] if number == 0 else [_line(key, value) for key, value in entry.items()]
            parts.append("\n".join([*([comment(about)] if number == 0 else []), title, *lines]))
    return "\n\n".join(parts) + "\n"


def _keys(section: type[Section], entry: Mapping[str, Any], *, needed: bool = True) -> Iterator[str]:
    for key in fields(section):
        yield comment(str(key.metadata["description"]))
        if key.name in entry:
            yield _line(key.name, entry[key.name])
        else:
            yield f"{'' if needed and is_needed(key) else '#'}{_line(key.name, shown(key))}"
    unknown = [name for name in entry if name not in {key.name for key in fields(section)}]
    yield from (_line(name, entry[name]) for name in unknown)


def _line(key: str, value: Any) -> str:
    return f"{key} = {literal(value)}"


def comment(text: str) -> str:
    """Lines of a comment."""
    return textwrap.fill(
        text, WIDTH, initial_indent="# ", subsequent_indent="# ", break_long_words=False, break_on_hyphens=False
    )


def is_needed(key: "Field[Any]") -> bool:
    """Whether a file must have that key."""
    return key.default is MISSING and key.default_factory is MISSING


def shown(key: "Field[Any]") -> Any:
    """The default of a key, or an example where it has none, as TOML has it."""
    default = key.default if key.default_factory is MISSING else key.default_factory()
    if default is None or default is MISSING:
        if "examples" not in key.metadata:
            raise TypeError(f"the key {key.name} has no default: declare an example (key(example=...))")
        return key.metadata["examples"][0]
    return in_file(default, key.type)


def in_file(value: Any, kind: Any) -> Any:
    """A value of a checked configuration as the file has it.

    :param kind: the declared type of the key
    """
    if _is_read_by(kind, seconds):
        for letter in "dhms":
            if value and value % UNIT_SECONDS[letter] == 0:
                return f"{int(value // UNIT_SECONDS[letter])}{letter}"
        return f"{value:g}s"
    if _is_read_by(kind, mebibytes):
        return f"{value // 2**20}MiB"
    return str(value) if isinstance(value, Path | Enum) else value


def _is_read_by(kind: Any, function: Any) -> bool:
    """Whether the type of a key has that function, also within ``| None``."""
    if any(isinstance(each, Before) and each.func is function for each in getattr(kind, "__metadata__", ())):
        return True
    return any(_is_read_by(part, function) for part in get_args(kind) if hasattr(part, "__metadata__"))


def literal(value: Any) -> str:
    """A value in TOML. JSON's texts, numbers and lists are TOML's."""
    if isinstance(value, Mapping):
        pairs = (f"{_name(str(name))} = {literal(each)}" for name, each in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, str):  # DEL is no character of a text in TOML; JSON leaves it as it is
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value) if isinstance(value, bool | int | float) else str(value)


def _name(text: str) -> str:
    return text if re.fullmatch(r"[A-Za-z0-9_-]+", text) else literal(text)
