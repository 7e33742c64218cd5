"""Deadlines that all processes of a host share, and that the kernel enforces."""

import _signal  # type: ignore[import-not-found]  # signal loads slowly, and the program that acts as a user starts often
import time

TIMER_SECONDS = 0.2  # by which a process may end later than at its deadline


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
