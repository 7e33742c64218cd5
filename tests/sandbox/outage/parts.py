"""The parts that are stopped and killed: daemons of Slurm, processes of the service, and UCloud."""

import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from tests.sandbox.cluster import Cluster
from tests.sandbox.core import SimulatedCore
from tests.sandbox.errors import SandboxError
from tests.sandbox.processes import Process, find, with_descendants
from tests.sandbox.site import Site

KILLED_WITHIN_SECONDS = 0.8  # from the start of a pass; most end within it
DONE = (0, 75, -signal.SIGKILL, -signal.SIGTERM)
"""How a pass may end; 75 says that Slurm or UCloud was not reached."""


class Part(Protocol):
    """Something that runs, and that can be made to end."""

    name: str

    def kill(self) -> bool:
        """Ends it without a warning; tells whether it was alive."""

    def stop(self) -> bool:
        """Asks it to end, and waits until it has; tells whether it was alive."""

    def freeze(self, over: threading.Event, seconds: float) -> bool:
        """Stops it for a while (SIGSTOP); tells whether it was alive.

        :param over: ends that early
        """

    def start(self) -> None:
        """Starts it again. Nothing happens where it runs, or where somebody else starts it."""


class Daemon:
    """A daemon of the cluster."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.name = name
        self._cluster = cluster

    def kill(self) -> bool:
        """See :class:`Part`."""
        alive = self._cluster.status()[self.name]
        self._cluster.kill_daemon(self.name)
        return alive

    def stop(self) -> bool:
        """See :class:`Part`."""
        alive = self._cluster.status()[self.name]
        self._cluster.stop_daemon(self.name)
        return alive

    def freeze(self, over: threading.Event, seconds: float) -> bool:
        """See :class:`Part`."""
        if not self._cluster.status()[self.name]:
            return False
        self._cluster.freeze(self.name)
        over.wait(seconds)
        self._cluster.thaw(self.name)
        return True

    def start(self) -> None:
        """See :class:`Part`."""
        self._cluster.start_daemon(self.name)


class Service:
    """A process of the site, with those that it has started."""

    def __init__(self, name: str, site: Site, run: Callable[[], subprocess.Popen[bytes]]) -> None:
        self.name = name
        self._site = site
        self._run = run
        self.process: subprocess.Popen[bytes] | None = None

    def tree(self) -> list[Process]:
        """The living processes, the first one first."""
        first = find(self.process.pid) if self.process is not None and self.process.poll() is None else None
        if first is None:
            return []
        return [first, *sorted(with_descendants([first]) - {first}, key=lambda each: each.started)]

    def kill(self) -> bool:
        """See :class:`Part`."""
        tree = self.tree()
        for process in tree:
            process.signal(signal.SIGKILL)
        self._collect()
        return bool(tree)

    def stop(self) -> bool:
        """See :class:`Part`."""
        alive = bool(self.tree())
        if self.process is not None and alive:
            self._site.end(self.process)
            self.process = None
        return alive

    def freeze(self, over: threading.Event, seconds: float) -> bool:
        """See :class:`Part`."""
        tree = self.tree()
        for process in tree:
            process.signal(signal.SIGSTOP)
        over.wait(seconds)
        for process in tree:
            process.signal(signal.SIGCONT)
        return bool(tree)

    def reload(self) -> None:
        """Has it read its files anew."""
        for process in self.tree()[:1]:
            process.signal(signal.SIGHUP)

    def start(self) -> None:
        """See :class:`Part`."""
        if not self.tree():
            self._collect()
            self.process = self._run()

    def _collect(self) -> None:
        if self.process is not None:
            self.process.wait(10)
            if self.process in self._site.processes:
                self._site.processes.remove(self.process)
            self.process = None


class WebWorker:
    """One of gunicorn's workers, which gunicorn itself starts again."""

    name = "gunicorn worker"

    def __init__(self, gunicorn: Service) -> None:
        self._gunicorn = gunicorn
        self._number = 0

    def kill(self) -> bool:
        """See :class:`Part`."""
        return self._signal(signal.SIGKILL)

    def stop(self) -> bool:
        """See :class:`Part`."""
        return self._signal(signal.SIGTERM)

    def freeze(self, over: threading.Event, seconds: float) -> bool:
        """See :class:`Part`."""
        frozen = self._signal(signal.SIGSTOP)
        over.wait(seconds)
        for process in self._gunicorn.tree():
            process.signal(signal.SIGCONT)
        return frozen

    def start(self) -> None:
        """See :class:`Part`."""

    def _signal(self, number: signal.Signals) -> bool:
        workers = self._gunicorn.tree()[1:]
        if not workers:
            return False
        self._number += 1
        workers[self._number % len(workers)].signal(number)
        return True


class Passes:
    """Passes of the worker, one after the other, as the timer starts them.

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
        self._thread = threading.Thread(target=self._run, daemon=True)

    def begin(self) -> None:
        """Starts them."""
        self._thread.start()

    def close(self) -> None:
        """Starts no other one, and waits for the end of the present one."""
        self._over.set()
        self._thread.join()

    def wrong(self) -> int:
        """How many have ended in a way that nobody expects."""
        return sum(number for status, number in self.ends.items() if status not in DONE)

    def _run(self) -> None:
        while not self._over.is_set():
            begun = time.monotonic()
            process = self._site.spawn("-m", "ucloud_slurm", "worker")
            with self._begun:
                self._process = process
                self._begun.notify_all()
            self.ends[process.wait()] += 1
            self._site.processes.remove(process)
            self._over.wait(max(0.0, self._every - (time.monotonic() - begun)))

    def _next(self, seconds: float = 30.0) -> subprocess.Popen[bytes] | None:
        """A pass that has just begun, or None where none does."""
        with self._begun:
            before = self._process
            self._begun.wait_for(lambda: self._process is not before, seconds)
            return self._process if self._process is not before else None

    def kill(self) -> bool:
        """See :class:`Part`."""
        process = self._next()
        if process is None:
            return False
        with suppress(subprocess.TimeoutExpired):
            process.wait(self._chance.uniform(0, KILLED_WITHIN_SECONDS))
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


class UCloud:
    """The simulated Core: it comes back on the same port, and has forgotten the use that it was told last."""

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


def start_all(parts: list[Part], seconds: float = 60.0) -> None:
    """Starts what does not run, as often as is necessary: some need each other.

    :raises SandboxError: one does not start
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            for part in parts:
                part.start()
        except SandboxError:
            if time.monotonic() > deadline:
                raise
        else:
            return
