"""The parts that are stopped and killed: daemons of Slurm and processes of the service."""

import signal
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Protocol

from tests.sandbox.cluster import Cluster
from tests.sandbox.errors import SandboxError
from tests.sandbox.processes import Process, find, with_descendants
from tests.sandbox.site import Site


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
