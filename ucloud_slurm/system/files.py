"""Files of jobs, opened as their user: never through a symbolic link, and only regular files of that user.

The owner of a job's folder can put anything in it: a link to a secret, a pipe that blocks its reader, a device.
"""

from __future__ import annotations

import errno
import os
import stat

from ucloud_slurm.errors import StorageFullError
from ucloud_slurm.system.lean import Suppress

TYPE_CHECKING = False  # what is imported loads slowly, and the program that acts as a user starts often
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


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
    return checked_file(descriptor, os.path.basename(path), os.geteuid())


def checked_file(descriptor: int, name: str, uid: int) -> int:
    """The descriptor, if it is of a regular file of that account; else it is closed.

    :raises NotARegularFileError: it is not, or its file system does not answer
    """
    try:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and status.st_uid == uid:
            return descriptor
        reason = "is not a regular file of the job's user"
    except OSError as error:
        reason = f"cannot be opened ({error.strerror})"
    with Suppress(OSError):
        os.close(descriptor)
    raise NotARegularFileError(f"{name} {reason}")


def read_small(opener: Callable[[], int | None], most: int) -> bytes | None:
    """The first ``most`` bytes of a file; None if there is no such file, or it cannot be opened or read.

    :param opener: opens it and returns its descriptor
    :raises NotNow: from the opener
    """
    try:
        descriptor = opener()
    except NotARegularFileError:
        return None
    if descriptor is None:
        return None
    try:
        return os.read(descriptor, most)
    except OSError:
        return None
    finally:
        with Suppress(OSError):  # close(2): the descriptor is closed even so
            os.close(descriptor)


def make_folder(
    path: str, files: Mapping[str, str] | None = None, *, home: str | None = None, shown: str | None = None
) -> None:
    """Makes a job's folder, mode 0700, and writes files into it, mode 0600.

    An existing folder must belong to this process's user and be no symbolic link; nothing is written through a link.

    :param files: contents by name
    :param home: of the researcher whose own storage it is, who reads what to do; None: it is the provider's
    :param shown: the path that is named instead, where something is wrong
    :raises StorageFullError: no space, no quota, or no permission
    """
    shown = shown or path
    try:
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            pass
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
            os.makedirs(path, 0o700, exist_ok=True)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise StorageFullError(_why(f"The job's folder {shown} cannot be made", error, path, home)) from None
    try:
        if os.fstat(descriptor).st_uid != os.geteuid():
            other = OSError(errno.EEXIST, "it belongs to another user")
            raise StorageFullError(_why(f"The job's folder {shown} cannot be used", other, path, home))
        os.fchmod(descriptor, 0o700)
        for name, text in (files or {}).items():
            _write(descriptor, name, text)
    except OSError as error:
        raise StorageFullError(_why(f"The job's folder {shown} cannot be written", error, path, home)) from None
    finally:
        os.close(descriptor)


class StagedFolder:
    """A job's folder that is made with its files, and is not in its place yet.

    It is beside its place, under a name of its own, so that giving it up removes nothing of anybody else's: another
    request may make the folder of the same job at the same time.
    """

    def __init__(self, path: str, files: Mapping[str, str], home: str) -> None:
        """See :func:`make_folder`.

        :raises StorageFullError: it cannot be made
        """
        self._path, self._files, self._home = path, files, home
        folder, name = os.path.split(path)
        self._staged = f"{folder}/.{name}.{os.urandom(6).hex()}"
        try:
            make_folder(self._staged, files, home=home, shown=path)
        except BaseException:
            self.discard()
            raise

    def place(self) -> None:
        """Puts the folder into its place; into one that is there, only the files.

        :raises StorageFullError: it cannot be put there
        """
        try:
            os.rename(self._staged, self._path)
            self._staged = ""
        except OSError:  # there is one, or something else, which is looked at
            make_folder(self._path, self._files, home=self._home)

    def discard(self) -> None:
        """Removes the folder, if it is not in its place."""
        if not self._staged:
            return
        with Suppress(OSError):
            for name in self._files:
                with Suppress(FileNotFoundError):
                    os.unlink(f"{self._staged}/{name}")
            os.rmdir(self._staged)


def remove_folder(path: str) -> None:
    """Removes an empty folder that a self-test made."""
    os.rmdir(path)


def _write(folder: int, name: str, text: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with open(os.open(name, flags, 0o600, dir_fd=folder), "wb", buffering=0) as file:
        left = memoryview(text.encode())
        while left:
            left = left[file.write(left) :]


def _why(what: str, error: OSError, path: str, home: str | None) -> str:
    """The sentence for the researcher: what failed, why, and who can do what about it."""
    text = f"{what} ({error.strerror})"
    if home is None:
        return f"{text}; please tell the provider's support."
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{text}; free some space there, or ask the cluster's support for more, and start the job again."
    if os.path.commonpath((path, home)) == os.path.normpath(home) and not os.path.isdir(home):
        return (
            f"{text}: your home folder does not exist there. Log in to the cluster once, so that it is made, and start "
            "the job again; if that does not help, ask the cluster's support."
        )
    if error.errno in (errno.EEXIST, errno.ENOTDIR, errno.ELOOP):
        return f"{text}; rename what is in its place, and start the job again."
    return f"{text}; please ask the cluster's support, and name that folder."
