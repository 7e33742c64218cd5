"""The host's name service, which may ask a network: a call of UCloud waits for it no longer than it can."""

from collections.abc import Callable
from typing import TypeVar

from ucloud_slurm.system import deadline
from ucloud_slurm.system.bulkhead import Bulkhead

THREADS = 8
ASK_SECONDS = 1.5  # an answer takes milliseconds, and longer only where a directory is asked for the first time
ROOM = 64  # groups for which there is room at first
PART = "the name service"

T = TypeVar("T")
_threads = Bulkhead(THREADS, THREADS)


def ask(question: Callable[[], T]) -> T:
    """Asks; in a thread of its own where the answer of a call depends on it (:func:`.deadline.ending`).

    :raises StuckError: it does not answer in time, or has not answered the questions before
    """
    left = deadline.left(float("inf"))
    return question() if left == float("inf") else _threads.call(PART, question, within=min(left, ASK_SECONDS))


def groups_of(user: str, gid: int) -> list[int]:
    """The numbers of the groups of a user, as :func:`os.getgrouplist` gives them.

    That one keeps all other threads of the process from running until the name service has answered.

    :param gid: of the user's own group
    """
    import ctypes  # most processes never ask, and it loads slowly

    libc, size = ctypes.CDLL(None), ctypes.c_int(ROOM)
    while True:
        room = size.value
        gids = (ctypes.c_uint32 * room)()
        if libc.getgrouplist(user.encode(), ctypes.c_uint32(gid), gids, ctypes.byref(size)) >= 0:
            return gids[: size.value]
        size.value = max(size.value, 2 * room)  # as many as there are
