"""How many transfers are served at a time: in all, and of one user. A user whose file system hangs keeps only these."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from ucloud_slurm.config import TransfersSection
from ucloud_slurm.errors import Problem, TooMany

BUSY_STATUS = 503


class Admission:
    """What is being served. Safe for several threads."""

    def __init__(self, limits: TransfersSection) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._serving: Counter[str] = Counter()

    @property
    def serving(self) -> int:
        """How many transfers are being served."""
        with self._lock:
            return self._serving.total()

    @contextmanager
    def admit(self, username: str) -> Iterator[None]:
        """One transfer of a user of UCloud is served inside.

        :raises TooMany: this user has too many
        :raises Problem: 503, all together have too many
        """
        with self._lock:
            if self._serving[username] >= self._limits.at_once_per_user:
                raise TooMany(
                    f"You have {self._serving[username]} uploads and downloads under way; please wait until one has ended."
                )
            if self._serving.total() >= self._limits.at_once:
                raise Problem(
                    "The provider serves as many uploads and downloads as it can; please try again in a few minutes.",
                    status=BUSY_STATUS,
                )
            self._serving[username] += 1
        try:
            yield
        finally:
            with self._lock:
                self._serving -= Counter([username])
