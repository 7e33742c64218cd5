"""Files of jobs, opened as their user: never through a link, never anything but a regular file of that user's.

Whoever owns a job's folder can put anything in it: a link to a secret, a pipe that never answers, a device.
"""

import os
import stat
from collections.abc import Callable

from ucloud_slurm.errors import NotNow


class NotAFile(Exception):
    """Something else than a regular file of the job's user is in its place."""


def open_file(path: str) -> int | None:
    """Opens a file for reading; the descriptor is the caller's. None when there is none.

    :raises NotAFile: see there
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise NotAFile(f"{os.path.basename(path)} cannot be opened ({error.strerror})") from None  # noqa: PTH119
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
        os.close(descriptor)
        raise NotAFile(f"{os.path.basename(path)} is not a regular file of the job's user")  # noqa: PTH119
    return descriptor


def read_small(opener: Callable[[], int | None], most: int) -> bytes | None:
    """The first ``most`` bytes of a file, None when there is none or it is not to be read.

    :param opener: opens it
    """
    try:
        descriptor = opener()
    except (NotAFile, NotNow):
        return None
    if descriptor is None:
        return None
    try:
        return os.read(descriptor, most)
    finally:
        os.close(descriptor)
