"""Files of jobs, opened as their user: never through a symbolic link, and only regular files of that user.

The owner of a job's folder can put anything in it: a link to a secret, a pipe that blocks its reader, a device.
"""

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

from ucloud_slurm.errors import NotNow, StorageFullError


class NotARegularFileError(Exception):
    """The path is not a regular file of the job's user."""


def open_file(path: str) -> int | None:
    """Opens a file for reading and returns its descriptor, which the caller closes; None if there is no such file.

    :raises NotARegularFileError: it is something else, or belongs to another user
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise NotARegularFileError(f"{os.path.basename(path)} cannot be opened ({error.strerror})") from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
        os.close(descriptor)
        raise NotARegularFileError(f"{os.path.basename(path)} is not a regular file of the job's user")
    return descriptor


def read_small(opener: Callable[[], int | None], most: int) -> bytes | None:
    """The first ``most`` bytes of a file; None if there is no such file, or it cannot be opened.

    :param opener: opens it and returns its descriptor
    """
    try:
        descriptor = opener()
    except (NotARegularFileError, NotNow):
        return None
    if descriptor is None:
        return None
    try:
        return os.read(descriptor, most)
    finally:
        os.close(descriptor)


def make_folder(path: str, files: Mapping[str, str] | None = None) -> None:
    """Makes a job's folder, mode 0700, and writes files into it, mode 0600.

    An existing folder must belong to this process's user and be no symbolic link; nothing is written through a link.

    :param files: contents by name
    :raises StorageFullError: no space, no quota, or no permission
    """
    try:
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            pass
        except FileNotFoundError:
            Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            Path(path).mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise StorageFullError(f"The job's folder cannot be made ({error.strerror}); please tell the provider.") from None
    try:
        if os.fstat(descriptor).st_uid != os.geteuid():
            raise StorageFullError("The job's folder belongs to another user; please tell the provider.")
        os.fchmod(descriptor, 0o700)
        for name, text in (files or {}).items():
            _write(descriptor, name, text)
    finally:
        os.close(descriptor)


def remove_folder(path: str) -> None:
    """Removes an empty folder that a self-test made."""
    Path(path).rmdir()


def _write(folder: int, name: str, text: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        with open(os.open(name, flags, 0o600, dir_fd=folder), "wb", buffering=0) as file:
            left = memoryview(text.encode())
            while left:
                left = left[file.write(left) :]
    except OSError as error:
        raise StorageFullError(f"The job's script cannot be written ({error.strerror}); please tell the provider.") from None
