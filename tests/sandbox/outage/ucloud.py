"""UCloud as a part that is stopped and killed."""

import threading

from tests.sandbox.core import SimulatedCore


class UCloud:
    """The simulated Core: it comes back on the same port, and has forgotten the use that was reported last."""

    name = "UCloud"

    def __init__(self, core: SimulatedCore) -> None:
        self._core = core
        self._port = int(core.url.rpartition(":")[2])
        self._lock = threading.Lock()
        self.up = True

    def kill(self) -> bool:
        """See :class:`Part`. What is under way is answered no more."""
        with self._lock:
            alive, self.up = self.up, False
            if alive:
                self._core.faults.outage(how="close")
                self._core.stop()
            return alive

    def stop(self) -> bool:
        """See :class:`Part`."""
        with self._lock:
            alive, self.up = self.up, False
            if alive:
                self._core.stop()
            return alive

    def freeze(self, over: threading.Event, seconds: float) -> bool:
        """See :class:`Part`. It answers with 503 meanwhile."""
        self._core.faults.outage(how="503")
        over.wait(seconds)
        self._core.faults.outage(on=False)
        return True

    def start(self) -> None:
        """See :class:`Part`."""
        with self._lock:
            if not self.up:
                self._core.faults.outage(on=False)
                self._core.start(self._port)
                self.up = True
