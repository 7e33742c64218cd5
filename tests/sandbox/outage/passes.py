"""The passes of the worker as a part that is stopped and killed."""

import random
import signal
import subprocess
import threading
import time
from collections import Counter
from contextlib import suppress

from tests.sandbox.site import Site

SPARED = 1
"""Passes between two that are killed: on a slow machine nothing would be done otherwise."""
DONE = (0, 75, -signal.SIGKILL, -signal.SIGTERM)
"""How a pass may end; 75 says that Slurm or UCloud was not reached."""


class Passes:
    """Passes of the worker, one after the other, as the timer starts them.

    :ivar number: of those that have begun
    :ivar ends: how often a pass has ended in which way
    """

    name = "worker"

    def __init__(self, site: Site, every: float, chance: random.Random) -> None:
        """Starts none yet.

        :param every: seconds from start to start
        :param chance: says when in its life a pass is killed
        """
        self._chance = chance
        self._site = site
        self._every = every
        self._over = threading.Event()
        self._begun = threading.Condition()
        self._process: subprocess.Popen[bytes] | None = None
        self.ends: Counter[int] = Counter()
        self.number = 0
        self._typical = 1.0  # seconds that a pass takes here
        self._thread = threading.Thread(target=self._run, daemon=True)

    def begin(self) -> None:
        """Starts them."""
        self._thread.start()

    def close(self) -> None:
        """Starts no other one, and waits for the end of the present one."""
        self._over.set()
        with self._begun:
            self._begun.notify_all()
        self._thread.join()

    @property
    def whole(self) -> int:
        """How many have ended by themselves."""
        return sum(number for status, number in self.ends.copy().items() if status >= 0)

    def wrong(self) -> int:
        """How many have ended in a way that nobody expects."""
        return sum(number for status, number in self.ends.items() if status not in DONE)

    def _run(self) -> None:
        while not self._over.is_set():
            begun = time.monotonic()
            process = self._site.spawn("-m", "ucloud_slurm", "worker")
            with self._begun:
                self._process = process
                self.number += 1
                self._begun.notify_all()
            status = process.wait()
            self.ends[status] += 1
            if status >= 0:
                self._typical = 0.7 * self._typical + 0.3 * (time.monotonic() - begun)
            self._site.processes.remove(process)
            self._over.wait(max(0.0, self._every - (time.monotonic() - begun)))

    def _next(self, seconds: float = 120.0) -> subprocess.Popen[bytes] | None:
        """A pass that has just begun, or None where none does."""
        with self._begun:
            wanted = self.number + 1 + SPARED
            there = self._begun.wait_for(lambda: self.number >= wanted or self._over.is_set(), seconds)
            return self._process if there else None

    def wait(self, number: int, seconds: float, over: threading.Event) -> None:
        """Waits until so many were whole.

        :param over: ends that early
        """
        with self._begun:
            self._begun.wait_for(lambda: self.whole >= number or self._over.is_set() or over.is_set(), seconds)

    def kill(self) -> bool:
        """See :class:`Part`."""
        process = self._next()
        if process is None:
            return False
        with suppress(subprocess.TimeoutExpired):
            process.wait(self._chance.uniform(0, self._typical))
        alive = process.poll() is None
        if alive:
            process.kill()
        return alive

    def stop(self) -> bool:
        """See :class:`Part`."""
        process = self._next()
        if process is None or process.poll() is not None:
            return False
        process.terminate()
        return True

    def freeze(self, over: threading.Event, seconds: float) -> bool:
        """See :class:`Part`."""
        process = self._next()
        if process is None or process.poll() is not None:
            return False
        process.send_signal(signal.SIGSTOP)
        over.wait(seconds)
        process.send_signal(signal.SIGCONT)
        return True

    def start(self) -> None:
        """See :class:`Part`."""
