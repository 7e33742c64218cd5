"""scontrol(1): changes of a job by its number. It has been loaded when it reads from its standard input what it is to do."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ucloud_slurm.slurm.errors import SchedulerUnavailableError, action_failed, is_of_a_job
from ucloud_slurm.slurm.records import SlurmJobId
from ucloud_slurm.system.process import CommandMissingError, CommandTimeoutError, Started


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
