"""Two hosts, one of which works: its lease is renewed, its database copied, and another host takes both over.

Hosts' clocks are never compared. A host works for ``LEASE_SECONDS`` after the beginning of its last renewal, by its own clocks,
and a renewal that ends later than that does not count: then the next lease has to be made, as by any other host. Another host
makes it after it has seen no renewal for ``WATCH_SECONDS`` by its own clock. So no two of them work at the same time.
"""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from ucloud_slurm.config.database import DatabaseSection
from ucloud_slurm.errors import Conflict, Misconfigured, Problem
from ucloud_slurm.store import backup
from ucloud_slurm.store.fence import LEASE_SECONDS, Clock, Permit, this_instant
from ucloud_slurm.store.lease import Host, Lease, StandbyFolder
from ucloud_slurm.store.restore import restore
from ucloud_slurm.store.sqlite import Store
from ucloud_slurm.system.filelock import COPY

log = logging.getLogger(__name__)

RENEW_SECONDS = 5.0
WATCH_SECONDS = LEASE_SECONDS + 10.0  # clocks may differ by a fifth in their rates
LOOK_SECONDS = 1.0
COPY_SECONDS = 60.0  # between two copies; a twentieth of the time at most is spent on them
COPY_SHARE = 20.0
STOPPED = "the standby unit of this host was stopped; systemctl start ucloud-slurm-standby"
NO_LEASE = "{} has no lease yet; is it mounted? On the host that works: ucloud-slurm database take-over --first"
OLDER = "{} has an older lease than this host has seen; is the right file system mounted there?"


class Keeper:
    """What the standby unit does on each host.

    :param section: with a standby folder
    """

    def __init__(self, section: DatabaseSection, host: Host | None = None, clock: Clock = this_instant) -> None:
        self._section = section
        self.folder = folder_of(section)
        self._host = host or Host.this()
        self._clock = clock
        self._copying = threading.Lock()
        self._copied: object = None
        self._copied_at: float | None = None
        self._seen: tuple[Lease | None, float] = (None, 0.0)
        self._said: str | None = "nothing yet"

    def run(self, stopping: threading.Event) -> None:
        """Renews, copies and watches, until it is to stop; then another host may take over at once."""
        threading.Thread(target=self._copy_regularly, args=(stopping,), name="copies", daemon=True).start()
        while not stopping.is_set():
            try:
                self._say(self.step())
            except OSError as error:
                log.error("%s.lease cannot be written (%s), and this host works no more", self._section.path, error.strerror)
            stopping.wait(RENEW_SECONDS)
        self.release()

    def step(self) -> Permit:
        """Looks at the newest lease, renews that of this host, and writes the permit."""
        now, before = self._clock(), Permit.read(self._section.path)
        try:
            permit = self._next(before)
        except (OSError, Misconfigured) as error:
            if before is not None and before.why_not(now) is None:
                log.warning("the lease is not renewed: %s", error)
                return before  # it expires by itself
            known = before or Permit(0, "", mine=False, since=now)
            permit = known._replace(problem=f"{self.folder.path} cannot be used ({error})")
        permit = permit._replace(copied_at=self._copied_at)
        permit.write(self._section.path)
        return permit

    def _next(self, before: Permit | None) -> Permit:
        newest, now = self.folder.newest(), self._clock()
        if newest is None or (before is not None and newest.number < before.number):
            problem = (NO_LEASE if newest is None else OLDER).format(self.folder.path)
            return (before or Permit(0, "", mine=False, since=now))._replace(problem=problem)
        if newest.host != self._host:
            return Permit(newest.number, newest.host.name, mine=False, since=now, problem=self._why_nobody(newest, now.boot))
        if before is not None and before.number == newest.number and before.why_not(now) is None:
            self.folder.renew(newest)
            # One that was late may have come after another host has taken over.
            return before._replace(since=now) if before.why_not(self._clock()) is None else before
        taken = self.folder.take(newest.number + 1, self._host)
        lost = None if taken else "another host has just taken over"
        return Permit(newest.number + 1, self._host.name, mine=True, since=now, problem=lost)

    def _why_nobody(self, newest: Lease, now: float) -> str | None:
        """Why no host works, in one clause; None while another one does."""
        if newest != self._seen[0]:
            self._seen = (newest, now)
        if newest.released:
            why = f"the host {newest.host.name} has ended its work"
        elif now - self._seen[1] >= WATCH_SECONDS:
            why = f"the host {newest.host.name} has not renewed its lease for {now - self._seen[1]:.0f} s"
        else:
            return None
        return f"{why}, and no host works; ucloud-slurm database take-over"

    def copy(self) -> bool:
        """Adds a copy of the database to the folder, if it has changed and this host works.

        :returns: whether this host works
        :raises Problem: it cannot be made now
        :raises Misconfigured: the database is damaged
        :raises OSError: a file cannot be written
        """
        permit = Permit.read(self._section.path)
        if permit is None or permit.why_not(self._clock()) is not None:
            return False
        self._copy(permit.number, leave=self._section.minimum_free)
        return True

    def _copy(self, number: int, *, leave: int = 0) -> None:
        database = self._section.path
        with self._copying:
            now, state = time.time(), (number, _state(database), _state(Path(f"{database}-wal")))
            if state != self._copied:
                made = backup.make(database, database.parent / "standby", now, keep=1, leave=leave, lock=COPY)
                self.folder.add_copy(made.path, number)
                self._copied = state
            self._copied_at = now

    def release(self) -> None:
        """Ends the work of this host, and leaves a copy of all of it: another one need not wait, and nothing is lost."""
        permit = Permit.read(self._section.path)
        if permit is None or permit.why_not(self._clock()) is not None:
            return
        permit._replace(problem=STOPPED).write(self._section.path)
        try:
            with closing(Store(self._section.path, self._section.backup_folder)) as store, store.writing():
                pass  # what was begun before has ended
            self._copy(permit.number)
            newest = self.folder.newest()
            if newest is not None and newest.number == permit.number:
                self.folder.renew(newest, released=True)
                log.info("the lease %d is released, after a copy of everything", permit.number)
        except (OSError, Problem, Misconfigured) as error:
            log.error("another host must wait %.0f s before it takes over: %s", WATCH_SECONDS, error)

    def _copy_regularly(self, stopping: threading.Event) -> None:
        pause = RENEW_SECONDS
        while not stopping.wait(pause):
            begun, works = time.monotonic(), True
            try:
                works = self.copy()
            except (OSError, Problem, Misconfigured) as error:
                log.error("the copy for the other host cannot be made: %s", error)
            # A host that gets the lease makes its first copy at once.
            pause = max(COPY_SECONDS, COPY_SHARE * (time.monotonic() - begun)) if works else RENEW_SECONDS

    def _say(self, permit: Permit) -> None:
        why = permit.why_not(self._clock())
        if self._said != why:
            log.warning("%s", why) if why else log.warning("this host has the lease %d, and works", permit.number)
            self._said = why


def take_over(
    section: DatabaseSection,
    *,
    first: bool = False,
    force: bool = False,
    host: Host | None = None,
    clock: Clock = this_instant,
    wait: Callable[[float], None] = time.sleep,
) -> Path | None:
    """Makes this host the one that works: puts the newest copy in the place of its database, and makes the next lease.

    :param first: there was no lease yet, and the database of this host stays
    :param force: do not watch whether the other host renews its lease: it is off
    :returns: the restored copy; None with ``first``
    :raises Conflict: another host works, or this one does, or a process has the database open
    :raises Misconfigured: there is no lease or no copy
    :raises OSError: a file cannot be read or written
    """
    folder, host = folder_of(section), host or Host.this()
    newest = folder.newest()
    if newest is None or first:
        if newest is None and not first:
            raise Misconfigured([f"database.standby: {NO_LEASE.format(folder.path)}"])
        if newest is not None or folder.take(1, host) is None:
            raise Conflict(f"{folder.path} has a lease already; leave --first out")
        return None
    if newest.host == host:
        raise Conflict(f"this host has the lease {newest.number} already; systemctl start ucloud-slurm-standby")
    if not newest.released and not force:
        _watch(folder, newest, clock, wait)
    copies = folder.copies()
    if not copies:
        raise Misconfigured([f"database.standby: {folder.path} has no copy of the database."])
    restore(copies[-1], section.path, section.backup_folder, time.time())
    if folder.take(newest.number + 1, host) is None:
        raise Conflict("another host has taken the lease meanwhile; this one must not be started")
    return copies[-1]


def _watch(folder: StandbyFolder, newest: Lease, clock: Clock, wait: Callable[[float], None]) -> None:
    begun = at = clock().boot
    while at - begun < WATCH_SECONDS:
        wait(LOOK_SECONDS)
        at = clock().boot  # before a look that may take long
        seen = folder.newest()
        if seen is not None and seen.number == newest.number and seen.released:
            return
        if seen != newest:
            name = seen.host.name if seen else "another one"
            raise Conflict(
                f"the host {name} works: it has renewed its lease meanwhile; stop its units first, and ucloud-slurm-standby "
                "last; or switch it off, and use --force"
            )


def folder_of(section: DatabaseSection) -> StandbyFolder:
    """The standby folder.

    :raises Misconfigured: none is configured
    """
    if section.standby is None:
        raise Misconfigured(["database.standby: name the folder that both hosts see."])
    return StandbyFolder(section.standby)


def _state(path: Path) -> tuple[int, int] | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size
