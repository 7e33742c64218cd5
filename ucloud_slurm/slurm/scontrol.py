"""scontrol(1): one job is looked at and changed by its number, by an scontrol that has been loaded before.

Where many calls are made one is kept (:mod:`.session`); else one is started while the job is looked at, and reads from its
standard input what it is to do.
"""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ucloud_slurm.slurm import shown
from ucloud_slurm.slurm.errors import SchedulerUnavailableError, action_failed, is_of_a_job, is_unknown_job
from ucloud_slurm.slurm.parse import ParseError
from ucloud_slurm.slurm.records import QueueRecord, SlurmJobId
from ucloud_slurm.slurm.session import Answer, Session, SessionLostError
from ucloud_slurm.system.process import CommandMissingError, CommandTimeoutError, Started

log = logging.getLogger(__name__)


class Scontrol(ABC):
    """See :class:`Changes`. Each is one line for a process that ends without a change when its input ends.

    With a line on its input scontrol does, prints and returns the same as with the words as arguments.
    """

    _timeout: float  # seconds that a change has at most

    @abstractmethod
    def _started(self) -> Started:
        """An scontrol without arguments.

        :raises CommandMissingError: it cannot be started
        """

    def set_time_limit(self, job: SlurmJobId, minutes: int, within: float) -> None:
        self._change(f"update JobId={job} TimeLimit={minutes}", within)

    def suspend(self, job: SlurmJobId, within: float) -> None:
        self._change(f"suspend {job}", within)

    def resume(self, job: SlurmJobId, within: float) -> None:
        self._change(f"resume {job}", within)

    def hold(self, job: SlurmJobId, within: float) -> None:
        self._change(f"hold {job}", within)

    def release(self, job: SlurmJobId, within: float) -> None:
        self._change(f"release {job}", within)

    def _change(self, line: str, within: float) -> None:
        try:
            done = self._started().finish(f"{line}\n", min(within, self._timeout))
        except (CommandMissingError, CommandTimeoutError) as error:
            raise SchedulerUnavailableError(str(error)) from None
        lines = [each for each in done.errors.splitlines() if each.strip()]
        if done.status != 0 or any(is_of_a_job(each) for each in lines):
            # Slurm 22.05 prints "Unexpected message received" for an unknown job and for an unreachable controller.
            raise action_failed("scontrol", done.status, lines)


class KeptScontrol(Scontrol):
    """One scontrol looks at jobs and changes them, if many calls are to come (:meth:`begin`)."""

    _session: Session | None = None

    @abstractmethod
    def _kept(self) -> Session:
        """An scontrol that is started with its first line."""

    def begin(self) -> None:
        """See :class:`Scheduler`. From now on an scontrol is kept, once there is one."""
        self._session = self._session or self._kept()

    def close(self) -> None:
        if self._session is not None:
            self._session.close()

    def _change(self, line: str, within: float) -> None:
        until = time.monotonic() + within
        answer = self._asked(line, within)
        if answer is not None and not answer.errors.strip():
            return
        # What is not certain is said by the status of another one. The changes are idempotent.
        left = until - time.monotonic()
        if left <= 0:
            raise SchedulerUnavailableError("scontrol gave no answer in time")
        super()._change(line, left)

    def _shown(self, job: SlurmJobId, within: float) -> list[QueueRecord] | None:
        """A job, if slurmctld knows it; None: another command is to be asked."""
        answer = self._asked(f"show job {job}", within)
        if answer is None:
            return None
        if answer.errors:
            return [] if is_unknown_job(answer.errors) else None
        try:
            found = shown.record(answer.output)
        except ParseError as error:
            log.debug("what scontrol shows of job %d is not used: %s", job, error)
            return None
        return [found] if found.id == job else None

    def _asked(self, line: str, within: float) -> Answer | None:
        """The answer of the kept scontrol; None: there is none, or it was lost, so that the line is to be repeated."""
        if self._session is None:
            return None
        try:
            return self._session.ask(line, min(within, self._timeout))
        except SessionLostError as error:
            log.debug("%s: %s", line, error)
            return None


class LoadedScontrol(Scontrol):
    """The first change is that of an scontrol which has been started before."""

    def __init__(self, start: Callable[[], Started], timeout: float) -> None:
        self._start = start
        self._timeout = timeout
        self._loaded: Started | None = start()

    def _started(self) -> Started:
        command, self._loaded = self._loaded, None
        return command or self._start()

    def close(self) -> None:
        """Ends the one that has been started, if no change was made."""
        if self._loaded is not None:
            self._loaded.kill()


@contextmanager
def loaded(start: Callable[[], Started], timeout: float) -> Iterator[LoadedScontrol]:
    """Starts scontrol, and ends it if no change was made.

    :param timeout: seconds that a change has at most
    :raises SchedulerUnavailableError: it cannot be started
    """
    try:
        scontrol = LoadedScontrol(start, timeout)
    except CommandMissingError as error:
        raise SchedulerUnavailableError(str(error)) from None
    try:
        yield scontrol
    finally:
        scontrol.close()
