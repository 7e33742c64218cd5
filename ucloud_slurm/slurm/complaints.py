"""What Slurm's commands complain about beside their answers."""

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)

MOST = 20  # that one process passes on


class Complaints:
    """Passes each complaint on once. Safe for several threads.

    :param sink: gets them
    """

    def __init__(self, sink: Callable[[str], None] = log.warning) -> None:
        self._sink = sink
        self._lock = threading.Lock()
        self._known: set[str] = set()

    def add(self, complaint: str) -> None:
        """Passes it on, if it is new and not too many were."""
        with self._lock:
            if complaint in self._known or len(self._known) >= MOST:
                return
            self._known.add(complaint)
        self._sink(complaint)
