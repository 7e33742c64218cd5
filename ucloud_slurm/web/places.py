"""Paths in calls about files, as places of the user who acts; and bulks of changes, which stop before the call must end."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from ucloud_slurm.bridge.drives import DrivePath, drive_path
from ucloud_slurm.errors import Conflict, NotNow, Problem, Refused, one_line
from ucloud_slurm.provider.context import Lazy, Provider
from ucloud_slurm.provider.drives import ResolvedPlace, check_writable, resolve
from ucloud_slurm.system.bulkhead import Bulkhead, StuckError
from ucloud_slurm.ucloud.files import DriveReference
from ucloud_slurm.users.asked_files import FilesNotAnsweringError
from ucloud_slurm.users.files import FilesAs, Place

log = logging.getLogger(__name__)

LEAST_SECONDS = 0.3  # that an item of a bulk must have

T = TypeVar("T")


class Located(NamedTuple):
    """A path of a call.

    :ivar path: as UCloud writes it
    :ivar drive: the folder of its drive, and who acts there
    """

    path: DrivePath
    drive: ResolvedPlace

    @property
    def place(self) -> Place:
        """Where it is."""
        return Place(self.drive.place.root, self.path.parts)

    @property
    def user(self) -> str:
        """The Unix user whose rights count."""
        return self.drive.acting.user


class NotAnsweringError(Problem):
    """The file system of a user, or a program on it, takes too long."""

    status = 504

    def __init__(self) -> None:
        super().__init__(
            "The file system of the cluster does not answer at the moment. What you asked for may still be done: "
            "please look again in a minute."
        )


class Caller:
    """The user of UCloud who acts in one call, and the drives that the call names.

    :param threads: that call the file systems of users
    """

    def __init__(self, provider: Provider, threads: Lazy[Bulkhead], username: str | None) -> None:
        if username is None:
            raise Refused("UCloud does not say for which user this is.")
        self.username = username
        self._threads = threads
        self._provider = provider
        self._deadline = provider.deadline()
        self._drives: dict[str, ResolvedPlace] = {}

    def left(self) -> float:
        """Seconds until the answer must be given; not below zero."""
        return max(self._deadline - time.monotonic(), 0.0)

    def located(self, path: str, drive: DriveReference, *, change: bool = False) -> Located:
        """What a path means.

        :param drive: whose permissions UCloud has checked: the path must be in it
        :param change: refuse drives that are read-only
        :raises Problem: see :func:`ucloud_slurm.provider.drives.resolve`
        """
        parsed = drive_path(path)
        if parsed.drive_id != drive.id:
            raise Refused("The path is not in the drive that UCloud names.")
        if drive.id not in self._drives:
            self._drives[drive.id] = resolve(self._provider, DrivePath(drive.id, ()), self.username, self.left())
        found = self._drives[drive.id]
        if change:
            check_writable(found)
        return Located(parsed, found)

    def ask(self, at: Located, work: Callable[[FilesAs, float], T], discard: Callable[[T], object] | None = None) -> T:
        """Does something with the files of the Unix user who acts there, in a thread that may be left behind.

        :param work: takes the files, and the seconds that it may take
        :param discard: releases what it returns when nobody waits for it any more
        :raises Problem: it cannot be done, or takes longer than this call has
        """
        files, left = self._provider.files(at.user), self.left()
        # Where all have one account, each has a share of its threads.
        share = self.username if self._provider.config.users.mapping == "service" else at.user
        try:
            return self._threads().call(share, lambda: work(files, left), within=left, discard=discard)
        except (StuckError, FilesNotAnsweringError) as error:
            log.warning("files: %s as %s: %s", self.username, at.user, one_line(str(error), 200))
            raise NotAnsweringError from None

    def each(self, items: Sequence[T], change: Callable[[T], object]) -> None:
        """Makes changes one after the other. The first that is refused ends it, and what was done before stays.

        :raises Problem: says also how many were done
        """
        for number, item in enumerate(items):
            done = f"{number} of {len(items)} items are done."
            if number and self.left() < LEAST_SECONDS:
                raise Conflict(f"The file system of the cluster answers slowly: {done} Please repeat it for the others.")
            try:
                change(item)
            except Problem as problem:
                if number:
                    problem.why = f"{problem.why} {done}"
                raise
            except NotNow as error:
                if not number:
                    raise
                log.warning("%s", one_line(str(error)))
                raise Conflict(f"The cluster does not answer at the moment: {done} Please repeat it for the others.") from None

    def record(self, verb: str, at: Located, more: str = "") -> None:
        """One line of the journal for each change."""
        log.info("files: %s as %s: %s %r%s", self.username, at.user, verb, str(at.path), more)


def below_the_drive(at: Located) -> Located:
    """Refuses the folder of the drive itself.

    :raises Refused: it is
    """
    if not at.path.parts:
        raise Refused("The folder of the drive itself cannot be changed.")
    return at
