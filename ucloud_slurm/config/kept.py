"""A checked configuration that is kept, so that a pass of the worker starts without checking the file again.

It is no second way of reading the file: what is kept was made by the reader, and is used only while everything that
the reader would see is the same, text by text. It is a cache: deleting it loses nothing.

It must not be a way to give the service a configuration. It is used only if it belongs to the account of this process,
as does its folder, if nobody else can read or write it, and if it is no link. The folder is on this host, so that jobs
of the same account on other nodes do not reach it.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import Any

from ucloud_slurm import __version__
from ucloud_slurm.config.model import Config
from ucloud_slurm.config.products import PriceUnit
from ucloud_slurm.config.reader import checked, read_text
from ucloud_slurm.config.types import Section, plugin_options
from ucloud_slurm.system.config_file import location

FOLDER_VARIABLE = "CACHE_DIRECTORY"  # systemd.exec(5)
DEFAULT_FOLDER = "/var/cache/ucloud-slurm"
NAME = "config.json"
MOST_BYTES = 16 * 2**20


def read(path: Path | None = None) -> Config:
    """The configuration: the kept one where it is that of the file, else the file is checked, and the result is kept.

    :raises Misconfigured: with one sentence for each error
    """
    path = path or location()
    text = read_text(path)
    made_of = _made_of(path, text)
    found = _kept(made_of)
    if found is None:
        found = checked(path, text)
        _keep(made_of, found)
    return found


def _made_of(path: Path, text: str) -> list[Any]:
    """All that the reader's result depends on: the file, the rule of the host, this program, Python."""
    rooms = [Path(__file__).parents[1] / room for room in ("config", "system")]
    modules = [entry for room in rooms for entry in os.scandir(room) if entry.is_file()]
    written = sorted([entry.name, entry.stat().st_size, entry.stat().st_mtime_ns] for entry in modules)
    return [str(path.absolute()), text, list(plugin_options()), __version__, sys.version, written]


def _kept(made_of: list[Any]) -> Config | None:
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError), _folder() as folder:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with os.fdopen(os.open(NAME, flags, dir_fd=folder), "rb") as file:
            if not _is_ours(os.fstat(file.fileno())):
                return None
            kept = json.loads(file.read(MOST_BYTES))
        if kept["made of"] == made_of:
            found = _revived(kept["config"])
            return found if isinstance(found, Config) else None
    return None


def _keep(made_of: list[Any], config: Config) -> None:
    """Keeps it, if there is a place for it. The name is given to a file that is whole."""
    with suppress(OSError, ValueError, TypeError), _folder() as folder:
        text, new = json.dumps({"made of": made_of, "config": _plain(config)}), f"{NAME}.new"
        with suppress(FileNotFoundError):
            os.unlink(new, dir_fd=folder)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(new, flags, 0o600, dir_fd=folder), "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(new, NAME, src_dir_fd=folder, dst_dir_fd=folder)


@contextmanager
def _folder() -> Iterator[int]:
    """A descriptor of the folder.

    :raises OSError: there is none, or others may write there
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    folder = os.open(os.environ.get(FOLDER_VARIABLE) or DEFAULT_FOLDER, flags)
    try:
        if not _is_ours(os.fstat(folder)):
            raise PermissionError
        yield folder
    finally:
        os.close(folder)


def _is_ours(status: os.stat_result) -> bool:
    """Whether it belongs to the account of this process, and nobody else may use it."""
    return status.st_uid == os.geteuid() and not status.st_mode & 0o077


def _plain(value: Any) -> Any:
    """A value as JSON has it; what JSON does not have is an object whose one name says what it is."""
    match value:
        case Section():
            return {type(value).__name__: {key.name: _plain(getattr(value, key.name)) for key in fields(value)}}
        case Path():
            return {"path": str(value)}
        case Enum():
            return {"unit": value.value}
        case dict():
            return {"table": {name: _plain(each) for name, each in value.items()}}
        case tuple():
            return [_plain(each) for each in value]
        case None | bool() | int() | float() | str():
            return value
    raise TypeError(f"a configuration has no {type(value).__name__}")


def _revived(value: Any) -> Any:
    """What :func:`_plain` was given."""
    if isinstance(value, list):
        return tuple([_revived(each) for each in value])
    if not isinstance(value, dict):
        return value
    ((kind, of),) = value.items()
    match kind:
        case "path":
            return Path(of)
        case "unit":
            return PriceUnit(of)
        case "table":
            return {name: _revived(each) for name, each in of.items()}
    sections = {each.__name__: each for each in Section.__subclasses__()}
    return sections[kind](**{name: _revived(each) for name, each in of.items()})
