"""Which private cluster a run has: one that no other run uses, and in tests, nothing in it is from before."""

import fcntl
import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from tests.sandbox.errors import SandboxError

PREFIX = "ucloud-slurm-tests"


class Place(Protocol):
    """What is started for a run, and removed after it."""

    def start(self) -> None:
        """Makes what is not there yet."""

    def remove(self) -> None:
        """Ends and deletes everything, also what a killed run has left."""


SomePlace = TypeVar("SomePlace", bound=Place)


@contextmanager
def new_cluster(room: Path, describe: Callable[[int, Path], SomePlace]) -> Iterator[SomePlace]:
    """Starts a cluster for this run alone, and removes it afterwards.

    Runs beside each other have one each, on one set of accounts: these go when nobody uses them any more. What
    killed runs have left is removed by the first that finds itself alone.

    :param room: where the folders of all runs lie
    :param describe: gives the cluster of a number (from 1) that lives in a folder
    """
    with _locked(room / f"{PREFIX}.start", fcntl.LOCK_EX) as start, _opened(room / f"{PREFIX}.use") as use:
        if _try(use):
            for left in sorted(room.glob(f"{PREFIX}-*")):
                describe(int(left.name.removeprefix(f"{PREFIX}-")), left).remove()
        fcntl.flock(use, fcntl.LOCK_SH)  # nobody comes between: whoever wants it alone waits for the start
        number = next(number for number in itertools.count(1) if not _folder(room, number).exists())
        cluster = describe(number, _folder(room, number))
        cluster.start()
        fcntl.flock(start, fcntl.LOCK_UN)
        yield cluster
        fcntl.flock(use, fcntl.LOCK_EX)
        cluster.remove()


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Has a sandbox for this process alone.

    :param folder: of the sandbox; the lock is beside it
    :raises SandboxError: another process has it
    """
    with ExitStack() as stack:
        try:
            mine = _try(stack.enter_context(_opened(folder.with_name(f"{folder.name}.lock"))))
        except PermissionError:
            mine = False
        if not mine:
            raise SandboxError(
                f"Another command or user has the sandbox in {folder}; wait for its end, or name another --folder and --port."
            )
        yield


def _folder(room: Path, number: int) -> Path:
    return room / f"{PREFIX}-{number}"


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        yield handle
    finally:
        os.close(handle)


@contextmanager
def _locked(path: Path, how: int) -> Iterator[int]:
    with _opened(path) as handle:
        fcntl.flock(handle, how)
        yield handle


def _try(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
