"""Processes as /proc shows them: who is alive, whose child, with what environment; ending many at once."""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.sandbox.errors import SandboxError

POLL = 0.02
LONGEST_PAUSE = 0.25  # seconds
"""Seconds between two looks at something that is waited for."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process for ever: a pid is used again, together with its start time it is not.

    :ivar started: clock ticks after the machine's start, field 22 of /proc/PID/stat
    """

    pid: int
    started: int

    def alive(self) -> bool:
        """Tell whether it still runs; one that ended but was not collected by its parent does not."""
        seen = _stat(self.pid)
        if seen is None or seen.started != self.started:
            return False
        return seen.state not in "ZX" or self._has_threads()

    def stopped(self) -> bool:
        """Tell whether a signal has stopped it, and nobody has continued it."""
        seen = _stat(self.pid)
        return seen is not None and seen.started == self.started and seen.state == "T"

    def _has_threads(self) -> bool:
        # the first thread of a killed process may be gone while others still hold its ports
        try:
            return len(os.listdir(f"/proc/{self.pid}/task")) > 1  # noqa: PTH208
        except OSError:
            return False

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless the process is gone."""
        if self.alive():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def spent(self) -> float:
        """The seconds of a processor that it has taken, without those of its children; 0 when it is gone."""
        seen = _stat(self.pid)
        return seen.ticks / os.sysconf("SC_CLK_TCK") if seen is not None and seen.started == self.started else 0.0

    def environment(self) -> dict[str, str]:
        """Read the environment it was started with; empty when it is gone or somebody else's."""
        try:
            raw = Path(f"/proc/{self.pid}/environ").read_bytes()
        except OSError:
            return {}
        pairs = (part.partition(b"=") for part in raw.split(b"\0"))
        return {os.fsdecode(name): os.fsdecode(value) for name, is_pair, value in pairs if is_pair}


@dataclass(frozen=True, slots=True)
class _Stat:
    state: str
    parent: int
    started: int
    ticks: int


def _stat(pid: int) -> _Stat | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold spaces and brackets
    return _Stat(fields[0], int(fields[1]), int(fields[19]), int(fields[11]) + int(fields[12]))


def find(pid: int) -> Process | None:
    """Identify the process that has this pid now."""
    seen = _stat(pid)
    return None if seen is None else Process(pid, seen.started)


def everyone() -> Iterator[Process]:
    """Go through all processes of this machine."""
    for name in os.listdir("/proc"):  # noqa: PTH208  # names are all that is wanted
        if name.isdigit() and (process := find(int(name))):
            yield process


def of_account(uid: int) -> list[Process]:
    """The processes that run as that account."""
    found = []
    for process in everyone():
        with suppress(OSError):
            if Path(f"/proc/{process.pid}").stat().st_uid == uid:
                found.append(process)
    return found


def with_descendants(roots: Iterable[Process]) -> set[Process]:
    """Add the children of the roots, their children and so on."""
    children: dict[int, list[Process]] = {}
    for process in everyone():
        if seen := _stat(process.pid):
            children.setdefault(seen.parent, []).append(process)
    found: set[Process] = set()
    waiting = list(roots)
    while waiting:
        process = waiting.pop()
        if process not in found:
            found.add(process)
            waiting += children.get(process.pid, [])
    return found


def own_line() -> set[Process]:
    """Find the calling process and its ancestors, which must never be ended."""
    line = set()
    pid = os.getpid()
    while pid and (process := find(pid)) and (seen := _stat(pid)):
        line.add(process)
        pid = seen.parent
    return line


def end(processes: Iterable[Process], *, patience: float) -> None:
    """End processes side by side: ask, and after ``patience`` seconds make them. Frozen ones are thawed.

    :raises SandboxError: when one survives even that
    """
    left = list(processes)
    for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, 10.0)):
        if number is signal.SIGTERM and patience <= 0:
            continue
        for process in left:
            process.signal(number)
            process.signal(signal.SIGCONT)
        deadline = time.monotonic() + seconds
        while left and time.monotonic() < deadline:
            left = [process for process in left if process.alive()]
            if left:
                time.sleep(POLL)
        if not left:
            return
    pids = ", ".join(str(process.pid) for process in left)
    raise SandboxError(f"Processes {pids} do not end, not even when killed; look at them with ps.")


def wait_until(what: str, true: Callable[[], bool], *, seconds: float) -> None:
    """Look until ``true`` is: every few milliseconds, or for a quarter of the time when one look takes long.

    :raises SandboxError: after ``seconds``, naming ``what`` was waited for
    """
    begun = time.monotonic()
    deadline = begun + seconds
    while not true():
        ended = time.monotonic()
        if ended > deadline:
            raise SandboxError(f"Waited {seconds:g} s in vain: {what}.")
        time.sleep(min(max(POLL, 3 * (ended - begun)), LONGEST_PAUSE))
        begun = time.monotonic()


def answers(address: str, port: int) -> bool:
    """Tell whether somebody accepts TCP connections there."""
    try:
        with socket.create_connection((address, port), timeout=1):
            return True
    except OSError:
        return False


def port_is_free(address: str, port: int) -> bool:
    """Tell whether a server could listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True
