"""A few processes of pyslurm: the first does what comes one by one, the others what would have to wait for it."""

import threading
import time
from collections.abc import Callable

from ucloud_slurm.slurm.pyslurm.process import NotSentError, Process
from ucloud_slurm.system.ipc import Message

LOOK_AGAIN = 0.05  # seconds; a process that is being started tells nobody that it is there


class Pool:
    """So many processes at most. All but the first are started when there is something to wait for, and stay then.

    Safe for several threads.

    :ivar first: the one by which it is told whether pyslurm can be used
    """

    def __init__(self, make: Callable[[], Process], most: int) -> None:
        """Describes the processes; nothing is started.

        :param make: describes one
        """
        self.first, *others = (make() for _ in range(most))
        self._all = [self.first, *others]
        self._idle = [*self._all]
        self._changed = threading.Condition()

    def ask(self, message: Message, *, waits: float, within: float) -> Message:
        """Has one of them do something. See :meth:`Process.ask`."""
        until = time.monotonic() + within
        process = self._take(min(waits, within))
        try:
            return process.ask(message, waits=waits, within=until - time.monotonic())
        finally:
            with self._changed:
                self._idle.append(process)
                self._changed.notify()

    def _take(self, within: float) -> Process:
        until = time.monotonic() + within
        with self._changed:
            while True:
                process = self._free()
                if process is not None:
                    self._idle.remove(process)
                    return process
                left = until - time.monotonic()
                if left <= 0:
                    raise NotSentError("others are being served")
                self._changed.wait(min(left, LOOK_AGAIN))

    def _free(self) -> Process | None:
        """One that answers. Where the first does not, and nobody else does, it is the first, which says why."""
        busy = self.first not in self._idle
        for process in self._all:
            wanted = busy or process is self.first or process.reason is None
            if process in self._idle and wanted and process.ready(0.0):
                return process
        return None if busy else self.first

    def close(self) -> None:
        """Ends all of them. They are not started again."""
        for process in self._all:
            process.close()
