"""The parts of a report: each reads one thing, within a time, and may not be had.

What a part returns has not been redacted yet; that is done with all of them alike (:mod:`ucloud_slurm.cli.report`).
"""

import grp
import os
import platform
import pwd
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import asdict
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

from ucloud_slurm import __version__
from ucloud_slurm.cli.check import run_checks
from ucloud_slurm.config import Config
from ucloud_slurm.errors import Misconfigured, NotNow, Problem
from ucloud_slurm.provider.status import as_data, read_status
from ucloud_slurm.store import summary
from ucloud_slurm.store.reading import ReadOnlyStore
from ucloud_slurm.store.sqlite import Store
from ucloud_slurm.system.process import CommandMissingError, CommandTimeoutError, run
from ucloud_slurm.system.redaction import Redactor, without_secret_lines

FOLDERS = "/usr/bin:/bin:/usr/sbin:/sbin"  # of commands that are not Slurm's
COMMAND_SECONDS = 10.0
CHECK_SECONDS = 75.0  # that `check` takes a minute at most of
JOURNAL_LINES = 2000
JOBS, MESSAGES = 200, 500
UNITS = (
    *(
        f"ucloud-slurm{part}.service"
        for part in ("", "-worker", "-listener", "-runner", "-link", "-files", "-backup", "-hooks", "-hookd", "-standby")
    ),
    *(f"ucloud-slurm{part}.socket" for part in ("", "-runner", "-link", "-files", "-hookd")),
    *(f"ucloud-slurm-{part}.timer" for part in ("worker", "backup", "hooks")),
)
# Not Environment, and not the command lines, which a drop-in may have given secrets.
PROPERTIES = (
    "Id,LoadState,ActiveState,SubState,UnitFileState,Result,ExecMainStatus,ExecMainExitTimestamp,NRestarts,MainPID,"
    "MemoryCurrent,TasksCurrent,ActiveEnterTimestamp,InactiveEnterTimestamp,FragmentPath,DropInPaths,NeedDaemonReload,"
    "NextElapseUSecRealtime,LastTriggerUSec,NAccepted,NConnections"
)
OS_RELEASE = Path("/etc/os-release")

T = TypeVar("T")


class Part(NamedTuple):
    """One file of the report.

    :ivar about: what it is, in words
    :ivar read: returns text, or data of JSON; what it raises says why there is none
    :ivar seconds: that it may take
    """

    name: str
    about: str
    read: Callable[[], Any]
    seconds: float = 3 * COMMAND_SECONDS


class LeftOutError(NotNow):
    """A part that cannot be had, and why."""


class Known(NamedTuple):
    """What is taken out of every part.

    :ivar why_no_names: why the names of people could not be read, and are not replaced; None where they are
    """

    redactor: Redactor
    why_no_names: str | None

    @classmethod
    def of(cls, config: Config | None) -> Self:
        """The secrets of this provider, and the names of everybody in its database and in the group of its users."""
        if config is None:
            return cls(Redactor(), "the configuration cannot be used")
        names = {rule.created_by: "user" for rule in config.outside if rule.created_by}
        names |= {rule.project: "project" for rule in config.outside if rule.project}
        secrets, why = _secrets(config), None
        try:
            with closing(_open(config)) as store:
                secrets += summary.kept_secrets(store)
                for name, kind in summary.names(store):
                    names.setdefault(name, kind)
        except (Misconfigured, Problem) as error:
            why = str(error)
        with suppress(KeyError):  # `check` names these too
            for name in grp.getgrnam(config.users.group).gr_mem:
                names.setdefault(name, "account")
        ours = {config.users.service_user, pwd.getpwuid(os.geteuid()).pw_name, "root"}
        return cls(Redactor(secrets, {name: kind for name, kind in names.items() if name not in ours}), why)

    @classmethod
    def without_names(cls, config: Config | None, why: str) -> Self:
        """The secrets that the configuration names; why the rest could not be read."""
        return cls(Redactor([] if config is None else _secrets(config)), why)


def parts(path: Path, config: Config | None, why: str, known: Known) -> list[Part]:
    """All parts, in the order in which they are read.

    :param path: of the configuration
    :param config: None where it cannot be used
    :param why: that is so
    :param known: which names the rows of jobs have in the place of people's
    """

    def needs(read: Callable[[Config], Any]) -> Callable[[], Any]:
        def read_it() -> Any:
            if config is None:
                raise LeftOutError(why)
            return read(config)

        return read_it

    return [
        Part("versions.txt", "releases of this program, of what it needs, of Slurm and the system", lambda: _versions(config)),
        Part("config.json", "the configuration as it is used, with its defaults", needs(asdict)),
        Part(
            "files.txt",
            "mode and owner of the files that the configuration names; not their contents",
            lambda: _files(path, config),
        ),
        Part("status.json", "ucloud-slurm status --json", needs(lambda config: as_data(read_status(config, time.time())))),
        Part("check.txt", "ucloud-slurm check", lambda: _check(path, config, known), CHECK_SECONDS),
        Part("tables.json", "the tables of the database, with their numbers of rows", needs(_from(summary.tables))),
        Part(
            "jobs.json",
            f"the newest {JOBS} jobs, without what people wrote",
            needs(lambda config: _jobs(config, known.redactor)),
        ),
        Part(
            "outbox.json",
            f"the newest {MESSAGES} messages to UCloud, without what they say",
            needs(_from(lambda store: summary.newest_messages(store, MESSAGES))),
        ),
        Part("units.txt", "systemctl show of the units", _units),
        Part("journal.txt", f"the last {JOURNAL_LINES} lines of the units", _journal),
        Part("slurm.txt", "scontrol show config", needs(lambda config: _slurm(config, "show", "config"))),
    ]


def _secrets(config: Config) -> list[str]:
    """What is in the files of keys."""
    ucloud, found = config.ucloud, []
    for file in (ucloud.refresh_token_file, ucloud.public_key_file, ucloud.proxy_credentials_file):
        if file is not None:
            with suppress(OSError):
                text = file.read_text(errors="replace").strip()
                found += [text, text.partition(":")[2]]  # the password of a proxy
    return found


def _open(config: Config) -> ReadOnlyStore:
    return ReadOnlyStore.of(config.database)


def _from(read: Callable[[Store], T]) -> Callable[[Config], T]:
    """What is read from the database."""

    def read_it(config: Config) -> T:
        with closing(_open(config)) as store:
            return read(store)

    return read_it


def _check(path: Path, config: Config | None, known: Known) -> str:
    if config is not None and known.why_no_names:
        raise LeftOutError("it would make or migrate a database that cannot be read as it is")
    return _lines(each.line() for each in run_checks(path))


def _jobs(config: Config, names: Redactor) -> list[dict[str, Any]]:
    rows = _from(lambda store: summary.newest_jobs(store, JOBS))(config)
    return [dict(row) | {key: names.name(row[key]) for key in ("local_user", "owner", "project")} for row in rows]


def _versions(config: Config | None) -> str:
    found = [f"ucloud-slurm {__version__}", f"Python {sys.version}", f"SQLite {summary.VERSION}"]
    found.append(f"kernel {' '.join(platform.uname()[index] for index in (0, 2, 3, 4))}")
    with suppress(OSError):
        found += [line for line in OS_RELEASE.read_text().splitlines() if line.startswith(("PRETTY_NAME", "VERSION_ID"))]
    try:
        found.append(_slurm(config, "--version").strip() if config else "Slurm: the configuration cannot be used")
    except (CommandMissingError, CommandTimeoutError, LeftOutError) as error:
        found.append(f"Slurm: {error}")
    found += sorted({f"{each.name} {each.version}" for each in distributions()}, key=str.lower)
    return _lines(found)


def _files(path: Path, config: Config | None) -> str:
    named = [("the configuration", path)]
    if config is not None:
        ucloud, database = config.ucloud, config.database
        named += [("ucloud.refresh_token_file", ucloud.refresh_token_file), ("ucloud.public_key_file", ucloud.public_key_file)]
        named += [("ucloud.ca_file", ucloud.ca_file)] if ucloud.ca_file else []
        named += [("ucloud.proxy_credentials_file", file)] if (file := ucloud.proxy_credentials_file) else []
        named += [("database.path", database.path), ("its folder", database.path.parent), ("backups", database.backup_folder)]
        named += [
            ("slurm.conf", config.slurm.conf),
            ("users.program", config.users.program),
            ("users.runner", config.users.runner),
        ]
    return _lines(f"{_owner_and_mode(file):<32} {what}: {file}" for what, file in named)


def _owner_and_mode(path: Path) -> str:
    try:
        status = path.lstat()
    except OSError as error:
        return str(error.strerror)
    owner = str(status.st_uid)
    with suppress(KeyError):
        owner = pwd.getpwuid(status.st_uid).pw_name
    return f"{stat.filemode(status.st_mode)} {owner}:{status.st_gid}"


def _slurm(config: Config, *words: str) -> str:
    command = str(config.slurm.commands / "scontrol")
    return without_secret_lines(_output([command, *words], {"SLURM_CONF": str(config.slurm.conf)}))


def _units() -> str:
    return _output([_command("systemctl"), "show", "--no-pager", f"--property={PROPERTIES}", *UNITS])


def _journal() -> str:
    options = [f"--unit={unit}" for unit in UNITS]
    return _output([_command("journalctl"), "--no-pager", "--output=short-iso", f"--lines={JOURNAL_LINES}", *options])


def _command(name: str) -> str:
    found = shutil.which(name, path=FOLDERS)
    if found is None:
        raise LeftOutError(f"{name} is not on this host")
    return found


def _output(command: Sequence[str], env: dict[str, str] | None = None) -> str:
    """What a command prints, with what it complains of behind it."""
    done = run(command, {"PATH": FOLDERS, "LC_ALL": "C", **(env or {})}, COMMAND_SECONDS)
    if done.status and not done.output:
        raise LeftOutError(f"{Path(command[0]).name} ended with {done.status}: {done.errors.strip()[:500]}")
    return done.output + done.errors


def _lines(lines: Iterable[str] | Iterator[str]) -> str:
    return "\n".join([*lines, ""])
