"""What the program that acts as a user needs and the standard library has, without what that loads: it starts often.

enum and re, which json, socket, signal, typing and contextlib import, take longer to load than Python itself. The C modules
below them, which these import too (such as _json), do not need them. Here are JSON, and deadlines that all processes of a host
share and the kernel enforces.
"""

from __future__ import annotations

import _json
import _signal  # type: ignore[import-not-found]
import time

TYPE_CHECKING = False  # typing has it, and loads slowly; type checkers know the name
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

TIMER_SECONDS = 0.2  # by which a process may end later than at its deadline
_CONSTANTS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


class _Reader:
    """What the scanner asks of json.JSONDecoder."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = _CONSTANTS.__getitem__


_scan = _json.make_scanner(_Reader)  # type: ignore[arg-type]  # it takes whatever has these attributes


def to_json(data: object) -> str:
    """As json.dumps writes it.

    :raises ValueError: it contains itself
    :raises TypeError: it contains something that JSON has not
    :raises RecursionError: it is too deep
    """
    encoder = _json.make_encoder({}, _unknown, _json.encode_basestring_ascii, None, ": ", ", ", False, False, True)
    return "".join(encoder(data, 0))


def from_json(text: str) -> Any:
    """As json.loads reads it, but without blanks around it.

    :raises ValueError: it is no JSON
    :raises RecursionError: it is too deep
    """
    try:
        found, end = _scan(text, 0)
    except StopIteration:
        found, end = None, -1
    if end != len(text):
        raise ValueError("no JSON value, or more than one")
    return found


def _unknown(value: object) -> object:
    raise TypeError(f"JSON has no {type(value).__name__}")


class Suppress:
    """As contextlib.suppress."""

    def __init__(self, *errors: type[BaseException]) -> None:
        self._errors = errors

    def __enter__(self) -> None:
        """Begins."""

    def __exit__(self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> bool:
        return kind is not None and issubclass(kind, self._errors)


def boot_clock() -> float:
    """Seconds by the clock that all processes of this host share (clock_gettime(2))."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def end_at(deadline: float) -> None:
    """Has the kernel end this process at a deadline, and what it becomes by execve(2).

    One that is stopped then ends before it does anything else once it is continued (setitimer(2): SIGALRM waits).

    :param deadline: by :func:`boot_clock`
    :raises TimeoutError: it has passed
    """
    while True:
        left = deadline - boot_clock()
        if left <= 0:
            raise TimeoutError("the deadline has passed")
        _signal.setitimer(_signal.ITIMER_REAL, left)
        # A stop before the timer was set would have moved its end.
        if deadline - boot_clock() > left - TIMER_SECONDS:
            return


def end_no_more() -> None:
    """Takes back :func:`end_at`."""
    _signal.setitimer(_signal.ITIMER_REAL, 0)
