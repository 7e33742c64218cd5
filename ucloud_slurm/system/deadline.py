"""When the call that this thread answers arrived, and by when all that it waits for must let it go.

The caller's clock runs from the arrival, however long a call waits until a thread takes it. A chain of questions, each with
a limit of its own, could take longer than the caller waits; so what blocks takes its limit from :func:`left`.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_arrived: ContextVar[float | None] = ContextVar("arrived", default=None)
_ends: ContextVar[float] = ContextVar("ends", default=float("inf"))


@contextmanager
def arrived_at(at: float) -> Iterator[None]:
    """What this thread does here is for a call that arrived at that time (monotonic seconds)."""
    token = _arrived.set(at)
    try:
        yield
    finally:
        _arrived.reset(token)


@contextmanager
def ending(at: float) -> Iterator[None]:
    """What blocks in here ends at that time (monotonic seconds), or earlier where it has to already."""
    token = _ends.set(min(at, _ends.get()))
    try:
        yield
    finally:
        _ends.reset(token)


def arrived() -> float:
    """When the call arrived, in monotonic seconds; now, where no server has said it and outside calls."""
    at = _arrived.get()
    return time.monotonic() if at is None else at


def left(most: float) -> float:
    """Seconds for which something may block here: at most so many, and not beyond :func:`ending`; 0 where that has passed."""
    return max(min(most, _ends.get() - time.monotonic()), 0.0)
