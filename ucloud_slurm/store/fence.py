"""Whether this host may work, where two hosts share a standby folder: a permit beside the database.

Every process that has the database open, the listener too, reads it before each write and each call to UCloud. To open the
database needs none: a migration or the claim of a file changes this host's file only, which a take-over replaces.
Only the standby unit writes it (:mod:`ucloud_slurm.store.standby`), so that a shared folder that hangs stops nothing else.
Without a renewal the permit expires by the clocks of this host, before another host may take the lease.
"""

import json
import os
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, Self

from ucloud_slurm.errors import StorageError

LEASE_SECONDS = 30.0  # that a host works after the beginning of its last renewal
NO_PERMIT = "this host has no valid lease (database.standby); journalctl -u ucloud-slurm-standby"
NOT_LOOKED = "this host has not looked for 30 s who has the lease (database.standby); systemctl restart ucloud-slurm-standby"
NO_UNIT = "this host has no valid lease (database.standby); systemctl enable --now ucloud-slurm-standby"


class Instant(NamedTuple):
    """A moment by both clocks of this host, in seconds. A wrong clock ends a permit, and extends none.

    :ivar boot: since the boot, with suspended time (clock_gettime(2): CLOCK_BOOTTIME)
    :ivar wall: since the epoch; it goes on over a reboot, and while a virtual machine is paused
    """

    boot: float
    wall: float

    def is_within(self, seconds: float, since: "Instant") -> bool:
        """Whether less than that has passed by both clocks, and neither went back."""
        return 0 <= self.boot - since.boot < seconds and 0 <= self.wall - since.wall < seconds


Clock = Callable[[], Instant]


def this_instant() -> Instant:
    """Now."""
    return Instant(time.clock_gettime(time.CLOCK_BOOTTIME), time.time())


class Permit(NamedTuple):
    """What the standby unit has found last.

    :ivar number: of the newest lease
    :ivar holder: name of the host that has it
    :ivar mine: it is this host's
    :ivar since: the beginning of the last renewal, of the lease of this host or of its last look at that of another
    :ivar copied_at: when the last copy was in the folder, in seconds since the epoch; None before that
    :ivar problem: why there is no lease, in one clause
    """

    number: int
    holder: str
    mine: bool
    since: Instant
    copied_at: float | None = None
    problem: str | None = None

    def why_not(self, now: Instant) -> str | None:
        """Why this host may not work now, in one clause; None while it may."""
        if self.problem is not None:
            return self.problem
        if not self.is_current(now):
            return NO_PERMIT if self.mine else NOT_LOOKED
        return None if self.mine else f"the host {self.holder} has the lease {self.number}, and works"

    def is_current(self, now: Instant) -> bool:
        """Whether the standby unit has renewed the lease, or looked at that of another host, a moment ago."""
        return now.is_within(LEASE_SECONDS, self.since)

    def write(self, database: Path) -> None:
        """Takes the place of the permit before. A crash may lose it, which ends the work.

        :raises OSError: it cannot be written
        """
        new = Path(f"{_path(database)}.new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(new, flags, 0o600), "w", encoding="utf-8") as file:
            json.dump(self._asdict() | {"since": self.since._asdict()}, file)
        new.replace(_path(database))

    @classmethod
    def read(cls, database: Path) -> Self | None:
        """The permit beside a database; None where there is none that can be read."""
        try:
            data = json.loads(_path(database).read_bytes())
            return cls(**data | {"since": Instant(**data["since"])})
        except (OSError, ValueError, TypeError, KeyError):
            return None


class Holder(StrEnum):
    """Which host has a valid lease, as far as this one knows."""

    HERE = "here"
    ELSEWHERE = "elsewhere"
    NOBODY = "nobody"


class Standing(NamedTuple):
    """What this host knows of the lease now.

    :ivar number: of the newest lease; 0: there is none
    :ivar why: why this host does not work, in one clause; None while it does
    :ivar copied_at: when the folder last had the database of this host, in seconds since the epoch; None before the first
        copy, and where the lease is another host's
    """

    holder: Holder
    number: int
    why: str | None
    copied_at: float | None = None


class ElsewhereError(StorageError):
    """This host has not the lease: another one works, or none. Nothing was begun."""


class Fence:
    """The check of the permit, in every write transaction and before every call to UCloud."""

    def __init__(self, database: Path, clock: Clock = this_instant) -> None:
        self._database = database
        self._clock = clock

    def standing(self) -> Standing:
        """Which host works now, as the standby unit of this one has written."""
        permit = Permit.read(self._database)
        if permit is None:
            return Standing(Holder.NOBODY, 0, NO_UNIT)
        now = self._clock()
        why = permit.why_not(now)
        if why is None:
            holder = Holder.HERE
        else:
            works = permit.problem is None and not permit.mine and permit.is_current(now)
            holder = Holder.ELSEWHERE if works else Holder.NOBODY
        return Standing(holder, permit.number, why, permit.copied_at if permit.mine else None)

    def why(self) -> str | None:
        """Why this host may not work now, in one clause; None while it may."""
        return self.standing().why

    def check(self) -> None:
        """Does nothing while this host may work.

        :raises ElsewhereError: it may not
        """
        if (why := self.why()) is not None:
            raise ElsewhereError(f"The provider does not work on this host: {why}.")


def _path(database: Path) -> Path:
    return Path(f"{database}.lease")
