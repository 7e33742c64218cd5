"""The limit on open files (getrlimit(2)): raised for this process, and not for what it starts.

sbatch passes the limits of its caller on to the job (PropagateResourceLimits in slurm.conf), so a command that is
started for a job must have the limit that the site gave this process.
"""

import resource
from collections.abc import Sequence
from contextlib import suppress

OPEN_FILES = 65_536

_before: list[int] = []  # the soft limit before it was raised; empty while it was not


def raise_open_files() -> None:
    """Raises the soft limit of this process to its hard limit, at most to ``OPEN_FILES``. Never lowers it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        _before[:] = _before or [soft]


def restore(pid: int) -> None:
    """Gives a process that was just started the limit from before. It must not depend on it yet."""
    for soft in _before:
        with suppress(OSError):  # it has ended
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def restoring(argv: Sequence[str]) -> list[str]:
    """A command line that sets the limit from before and then executes a command (prlimit(1))."""
    return [*(word for soft in _before for word in ("/usr/bin/prlimit", f"--nofile={soft}:")), *argv]
