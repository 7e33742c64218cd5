"""The state of the provider on one screen: each part, whether it is well, and what helps where it is not.

It also works while the service is down, and says of a database that cannot be read why that is.
"""

import socket
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from ucloud_slurm import __version__
from ucloud_slurm.config import Config
from ucloud_slurm.errors import Misconfigured, Problem, one_line
from ucloud_slurm.provider.health import NO_LISTENER, Figures, Health, late
from ucloud_slurm.provider.maintenance import sentence
from ucloud_slurm.store.breaker import CHANNEL, RUNNER, SLURM, UCLOUD
from ucloud_slurm.store.fence import Fence, Holder, Standing
from ucloud_slurm.store.maintenance import Maintenance
from ucloud_slurm.store.outbox import Outbox
from ucloud_slurm.store.people import People
from ucloud_slurm.store.reading import ReadOnlyStore
from ucloud_slurm.store.sqlite import Store
from ucloud_slurm.system.accounts import own_account
from ucloud_slurm.system.filelock import LISTENER, WORKER, is_locked, last_released
from ucloud_slurm.system.serving import FILES_SOCKET, PROC, WEB_SOCKET, WSGI, listens, own_processes
from ucloud_slurm.ucloud.eras import ERAS

BACKUP_SECONDS = 86400.0  # after which the timer has missed several
COPIED_SECONDS = 600.0  # since the database was last copied for the second host
EVENT_SECONDS = 1800.0  # that an event may wait for a program of the site: its pauses become that long
WAITED_SECONDS = 900.0  # that a message for UCloud may wait: some pauses of UCloud's are minutes long
LONGEST_CHARACTERS = 300  # of what Slurm or UCloud has said
SERVICE_STOPPED = "the web service does not run; systemctl enable --now ucloud-slurm.socket ucloud-slurm.service"
NO_FILES = f"nobody listens at {FILES_SOCKET}; systemctl enable --now ucloud-slurm-files.socket"
NO_LINK = "off: users cannot connect themselves until systemctl enable --now ucloud-slurm-link.socket"
WHERE_IT_FAILS = {
    SLURM: "ucloud-slurm check; journalctl -u ucloud-slurm-worker",
    UCLOUD: "ucloud-slurm check; journalctl -u ucloud-slurm-worker",
    CHANNEL: "journalctl -u ucloud-slurm-listener",
    RUNNER: "journalctl -u ucloud-slurm-runner",
}


class Condition(NamedTuple):
    """One line of the screen.

    :ivar what: the part or the figure
    :ivar text: how it is; where it is not well, why, and the command that helps
    """

    what: str
    well: bool
    text: str


class Status(NamedTuple):
    """The whole screen.

    :ivar at: seconds since the epoch
    :ivar figures: None where the database cannot be read
    """

    provider: str
    era: str
    host: str
    at: float
    conditions: tuple[Condition, ...]
    figures: Figures | None

    @property
    def unwell(self) -> list[Condition]:
        """What needs somebody."""
        return [each for each in self.conditions if not each.well]

    @property
    def version(self) -> str:
        """Of this program."""
        return __version__


def read_status(config: Config, now: float, proc: Path = PROC) -> Status:
    """Reads the state. Neither Slurm nor UCloud is asked.

    :param now: seconds since the epoch
    """
    if (why := _stranger(config.database.path)) is not None:  # nothing could be seen, and it would look like an outage
        refused = (Condition("database", False, why),)
        return Status(config.provider.id, config.ucloud.era, socket.gethostname(), now, refused, None)
    standing = None if config.database.standby is None else Fence(config.database.path).standing()
    standby = [] if standing is None else [_standby(standing, now)]
    if standing is not None and standing.why is not None:  # the rest is as the administrator left it
        return Status(config.provider.id, config.ucloud.era, socket.gethostname(), now, tuple(standby), None)
    conditions, figures = [*standby, *_units(config, now, proc)], None
    try:
        with closing(ReadOnlyStore.of(config.database)) as store:
            health = Health(config, ERAS[config.ucloud.era], store, lambda: now)
            figures = health.figures()
            conditions += [*_parts(health), *_database(config, health, figures), *_figures(config, store, figures, now)]
    except Misconfigured as error:
        conditions += [Condition("database", False, sentence) for sentence in error.sentences]
    except Problem as error:
        conditions.append(Condition("database", False, error.why))
    shown = tuple(Condition(each.what, each.well, one_line(each.text, LONGEST_CHARACTERS)) for each in conditions)
    return Status(config.provider.id, config.ucloud.era, socket.gethostname(), now, shown, figures)


def _stranger(database: Path) -> str | None:
    """Why this account cannot see the state beside the database; None if it can, or there is nothing."""
    try:
        database.lstat()
    except PermissionError:
        return f"{database.parent} is closed to {own_account()}; be the daemon user: runuser -u ucloud-slurm -- ..."
    except OSError:
        pass  # the database's own sentence says it
    return None


def _standby(standing: Standing, now: float) -> Condition:
    """Where two hosts share a folder: which of them works."""
    why, copied = standing.why, standing.copied_at
    if why is None and (copied is None or now - copied > COPIED_SECONDS):
        last = "there is no copy of the database yet" if copied is None else f"the last copy is {age(now - copied)} old"
        why = f"this host works, but {last}; journalctl -u ucloud-slurm-standby"
    well = why is None or standing.holder is Holder.ELSEWHERE
    return Condition("standby", well, why or f"this host has the lease {standing.number}, and works")


def _units(config: Config, now: float, proc: Path) -> Iterator[Condition]:
    """What the kernel knows of the units; the database is not needed."""
    database = config.database.path
    running = next(own_processes(WSGI, proc), None) is not None
    held = "its socket waits for calls" if listens(WEB_SOCKET, proc) else "it has no socket of systemd's"
    yield _condition("service", None if running else SERVICE_STOPPED, f"runs; {held}")
    passed = last_released(database, WORKER)
    why = late(passed, now)
    yield _condition(WORKER, why, "" if passed is None else f"a pass ended {age(max(0.0, now - passed))} ago")
    if ERAS[config.ucloud.era].has_channel:
        yield _condition("listener", None if is_locked(database, LISTENER) else NO_LISTENER, "runs")
    if config.drives and ERAS[config.ucloud.era].has_drives:
        yield _condition("files", None if listens(FILES_SOCKET, proc) else NO_FILES, f"{FILES_SOCKET} waits for calls")
    if config.users.mapping == "table":
        # A site that connects its users itself needs no such unit.
        yield _condition("link", None, f"{config.users.link} waits for calls" if listens(config.users.link, proc) else NO_LINK)


def _parts(health: Health) -> Iterator[Condition]:
    """The parts that the circuit breaker knows, and the runner."""
    for part in health.parts:
        if part == WORKER:
            continue
        why, since = health.why_failing(part), health.breaker.of(part).answering_since
        if why is not None and why != NO_LISTENER:
            failing = health.breaker.of(part).failing_since
            begun = f" (since {moment(failing)})" if failing is not None and part != RUNNER else ""
            why = f"{why}{begun}; {WHERE_IT_FAILS[part]}"
        asked = "answers" if since is None else f"answers since {moment(since)}"
        yield _condition(part, why, asked if part == RUNNER or since is not None else "no failure is known")


def _database(config: Config, health: Health, figures: Figures) -> Iterator[Condition]:
    database = config.database
    sizes = f"{figures.database_bytes / 2**20:.1f} MiB, its log {figures.log_bytes / 2**20:.1f} MiB"
    text = f"{database.path}: {sizes}, {figures.free_bytes // 2**20} MiB free on its disk"
    why = health.why_behind()
    if why is None and figures.free_bytes < 2 * database.minimum_free:
        why = f"{text}; below {database.minimum_free // 2**20} MiB new jobs are refused: make space"
    yield _condition("database", why, text)
    made = figures.backup_age
    if made is None or made > BACKUP_SECONDS:
        last = "no backup" if made is None else f"the last backup is {age(made)} old"
        why = f"{last} in {database.backup_folder}; systemctl enable --now ucloud-slurm-backup.timer"
        # A new site has nothing to lose yet.
        yield _condition("backup", why if any(figures.jobs.values()) else None, f"none yet in {database.backup_folder}")
    else:
        yield _condition("backup", None, f"{age(made)} old, in {database.backup_folder}")


def _figures(config: Config, store: Store, figures: Figures, now: float) -> Iterator[Condition]:
    yield _condition("jobs", None, ", ".join(f"{number} {phase}" for phase, number in figures.jobs.items()))
    refused, oldest = Outbox(store).parked(), figures.oldest_age or 0.0
    text = f"{figures.waiting} messages wait for UCloud" + (f", the oldest for {age(oldest)}" if figures.waiting else "")
    why = None
    if refused:
        why = f"{text}; UCloud has refused {refused}: ucloud-slurm outbox, then ucloud-slurm outbox --retry"
    elif oldest > WAITED_SECONDS:
        why = f"{text}; ucloud-slurm outbox"
    yield _condition("outbox", why, f"{text}, and none was refused")
    if config.users.mapping == "table":
        yield _condition("people", None, f"{People(store).count()} are connected")
    if config.users.mapping != "service":
        silent = figures.silent_users
        why = f"the own programs of {silent} users do not answer, and their jobs wait; journalctl -u ucloud-slurm-runner"
        yield _condition("programs", why if silent else None, "those of all users answer")
    if figures.events is not None:
        oldest, failed = figures.oldest_event_age or 0.0, figures.events["failed"]
        text = f"{figures.events['waiting']} events wait for programs of the site"
        text += f", the oldest for {age(oldest)}" if figures.events["waiting"] else ""
        why = f"{text}, and {failed} failed; ucloud-slurm hooks list"
        yield _condition("hooks", why if failed or oldest > EVENT_SECONDS else None, f"{text}, and none failed")
    windows = Maintenance(store).on(now)
    yield _condition("maintenance", None, "; ".join(map(sentence, windows)) or "no machine is under maintenance")
    found = [f"{number} {kind}" for kind, number in figures.audit.items() if number]
    why = f"not explained: {', '.join(found)}; ucloud-slurm audit" if found else None
    yield _condition("audit", why, "nothing is left to explain")


def _condition(what: str, why: str | None, text: str) -> Condition:
    return Condition(what, why is None, text if why is None else why)


def age(seconds: float) -> str:
    """A span for people: its largest unit, with a smaller one where that says more."""
    for letter, unit, below in (("d", 86400, "h"), ("h", 3600, "min"), ("min", 60, "")):
        if seconds >= unit:
            rest = int(seconds % unit / {"h": 3600, "min": 60}[below]) if below else 0
            return f"{int(seconds // unit)} {letter}" + (f" {rest} {below}" if rest else "")
    return f"{seconds:.0f} s"


def moment(seconds: float) -> str:
    """A time in UTC, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def as_data(status: Status) -> Mapping[str, Any]:
    """For programs."""
    figures = status.figures
    return {
        "version": status.version,
        "provider": status.provider,
        "era": status.era,
        "host": status.host,
        "at": moment(status.at),
        "well": not status.unwell,
        "conditions": [{"what": each.what, "well": each.well, "text": each.text} for each in status.conditions],
        "figures": None if figures is None else {name: getattr(figures, name) for name in Figures._fields},
    }
