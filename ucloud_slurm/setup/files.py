"""The files of a new site: the configuration and the two keys from UCloud. Each is written as a whole or not at all."""

import os
import pwd
import stat
import time
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from ucloud_slurm.config.annotated import tables
from ucloud_slurm.errors import Misconfigured, Refused
from ucloud_slurm.setup.step import ACCOUNT
from ucloud_slurm.system.accounts import own_account
from ucloud_slurm.system.replace import replace

TOKEN, PUBLIC_KEY = "refresh-token", "ucloud.pub"
DRAFTS = "ucloud-slurm-setup"


class Place(NamedTuple):
    """Where the files are written.

    :ivar config: where the configuration belongs
    :ivar drafts: a folder of the caller's, where it may not be written; None: the files go where they belong
    """

    config: Path
    drafts: Path | None

    def of(self, path: Path, name: str) -> Path:
        """Where a file is written.

        :param path: where it belongs
        :param name: of its draft
        """
        return path if self.drafts is None else self.drafts / name


def place(config: Path) -> Place:
    """Where the files of a configuration can be written.

    :raises Refused: the configuration is there and may not be read, or somebody else can change the drafts
    """
    try:
        there = config.exists()
        nearest = next(folder for folder in config.parents if folder.exists())
    except PermissionError:
        raise Refused(f"{config.parent} cannot be read by {own_account()}; run setup as root.") from None
    except OSError as error:
        raise Refused(f"{config} cannot be used ({error.strerror}); name another file with --config.") from None
    if there and not config.is_file():
        raise Refused(f"{config} is not a file; name another one with --config.")
    if there and not os.access(config, os.R_OK):
        raise Refused(f"{config} cannot be read by {own_account()}; run setup as root.")
    if os.access(nearest, os.W_OK):
        return Place(config, None)
    drafts = Path.cwd() / DRAFTS
    with suppress(FileNotFoundError):
        found = drafts.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise Refused(f"{drafts} is not a folder that only {own_account()} can change; run setup in another folder.")
    return Place(config, drafts)


def before(path: Path, *, replacing: bool) -> dict[str, Any] | None:
    """The tables of the configuration that is there, whose values need not be right; None if there is none.

    :param replacing: one that is no TOML is as good as none, and so is a table that is none
    :raises Misconfigured: it is no TOML, or a table is none
    """
    anew = "correct it, or write it anew with --replace."
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Misconfigured([f"{path}: cannot be read ({error.strerror})."]) from None
    except (ValueError, RecursionError) as error:  # UTF-8 that is none, too
        if replacing:
            return {}
        raise Misconfigured([f"{path}: is not valid TOML: {error}; {anew}"]) from None
    wrong = [name for name in data if not _is_formed(name, data[name])]
    if wrong and not replacing:
        raise Misconfigured([f"{path}: {name}: should be a table, or several as [[products]]; {anew}" for name in wrong])
    return {name: value for name, value in data.items() if name not in wrong}


def _is_formed(name: str, value: Any) -> bool:
    """Whether a value is a table, or several, as the table of that name. What has no such name is named by the check."""
    repeated = {each: several for each, _, several in tables()}.get(name)
    if repeated:
        return isinstance(value, list) and all(isinstance(each, Mapping) for each in value)
    return repeated is None or isinstance(value, Mapping)


def holds(path: Path, text: str | None = None) -> bool:
    """Whether a file has a text; without one: any."""
    try:
        found = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return False
    return found == text.strip() if text is not None else found != ""


def write(path: Path, text: str, *, secret: bool = False, new: bool = False) -> Path | None:
    """Writes a file; what was there stays under another name, but for a secret.

    :param secret: nobody may read it but the service
    :param new: one that another setup has written meanwhile stays
    :returns: the name of the old file, if there is one
    :raises Refused: it cannot be written; nothing has changed
    """
    path = path.resolve()  # the administrator's link stays one
    uid = gid = -1
    if os.geteuid() == 0:
        try:
            account = pwd.getpwnam(ACCOUNT)
            uid, gid = (account.pw_uid if secret else 0), account.pw_gid
        except KeyError:
            pass  # a step makes it, and gives it the files
    try:
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        backup = next(_backups(path)) if path.exists() and not secret and not new else None
        replace(path, text, mode=0o600 if secret else 0o640, uid=uid, gid=gid, backup=backup, new=new)
    except FileExistsError:
        raise Refused(f"{path} was written by another setup meanwhile, and stays as it is; run setup again.") from None
    except OSError as error:
        raise Refused(f"{path} cannot be written ({error.strerror}); nothing in it has changed.") from None
    return backup


def _backups(path: Path) -> Iterator[Path]:
    made = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    names = (f"{path.name}.{made}" + (f"-{number}" if number > 1 else "") for number in count(1))
    return (path.with_name(name) for name in names if not path.with_name(name).exists())


def places_of_keys(data: Mapping[str, Any], config: Path) -> dict[str, str]:
    """The keys of ``ucloud`` that name the files: those that are configured, else beside the configuration."""
    table = data.get("ucloud", {})
    named = {"refresh_token_file": TOKEN, "public_key_file": PUBLIC_KEY}
    known = {key: table.get(key) for key in named}
    return {key: value if isinstance(value := known[key], str) else str(config.parent / name) for key, name in named.items()}
