"""Copies and erases trees of files: by descriptors, name by name, and never through a link."""

import errno
import os
import stat
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress

from ucloud_slurm.system import beneath

CHUNK_BYTES = 8 * 1024 * 1024  # that are copied between two looks whether anybody still wants it
PIECE_BYTES = 1024 * 1024
MOST_DEPTH = 200  # folders in folders: each one on the way is open
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# copy_file_range(2) between these files, or with this kernel.
_NO_RANGE = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.ETXTBSY)
_UNREADABLE = (errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENXIO)

# Is called often, with how many entries and bytes more are done; raises to end it all.
Step = Callable[[int, int], None]


class TooDeepError(Exception):
    """Folders are nested too deeply."""


class Copy:
    """A copy of one file or tree, with its links, holes, times and permissions, but nobody's owner, group or set-user-ID.

    ``skipped`` counts what is no file, folder or link, and what its user may not read.
    """

    def __init__(self, step: Step) -> None:
        """See :data:`Step`."""
        self._step = step
        self._made: tuple[int, int] | None = None  # device and number of what it makes, which may be inside of what it copies
        self.skipped = 0

    def copy(self, folder: int, name: bytes, to_folder: int, to_name: bytes) -> int | None:
        """Copies one entry of a folder.

        :returns: a descriptor of what it has made, which the caller closes; None: it is a link, or was skipped
        :raises FileExistsError: the new name is taken
        :raises TooDeepError: folders are nested too deeply
        :raises OSError: it is not there, or cannot be written
        """
        return self._entry(folder, name, to_folder, to_name, 0)

    def undo(self, to_folder: int, to_name: bytes) -> None:
        """Deletes what it has made, unless something else has that name by now."""
        with suppress(OSError, TooDeepError):
            if self._made == _identity(beneath.status(to_folder, to_name)):
                erase(to_folder, to_name, lambda _entries, _bytes: None)

    def _entry(self, folder: int, name: bytes, to_folder: int, to_name: bytes, depth: int) -> int | None:
        if depth > MOST_DEPTH:
            raise TooDeepError
        try:
            place = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        except OSError as error:
            if depth == 0 or error.errno not in _UNREADABLE:
                raise
            self.skipped += 1
            return None
        try:
            status = os.fstat(place)
            if self._made == _identity(status):
                return None
            if stat.S_ISLNK(status.st_mode):
                self._link(folder, name, to_folder, to_name)
                return None
            if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
                self.skipped += 1
                return None
            try:
                source = beneath.reopen(place, os.O_RDONLY)
            except OSError as error:
                if depth == 0 or error.errno not in _UNREADABLE:
                    raise
                self.skipped += 1
                return None
        finally:
            os.close(place)
        try:
            if stat.S_ISDIR(status.st_mode):
                return self._folder(source, status, to_folder, to_name, depth)
            return self._file(source, status, to_folder, to_name, depth)
        finally:
            os.close(source)

    def _link(self, folder: int, name: bytes, to_folder: int, to_name: bytes) -> None:
        try:
            text = os.readlink(name, dir_fd=folder)
        except OSError:  # it is another thing by now
            self.skipped += 1
            return
        os.symlink(text, to_name, dir_fd=to_folder)
        self._step(1, 0)

    def _file(self, source: int, status: os.stat_result, to_folder: int, to_name: bytes, depth: int) -> int:
        target = os.open(to_name, _NEW, 0o600, dir_fd=to_folder)
        try:
            if depth == 0:
                self._made = _identity(os.fstat(target))
            copy_data(source, target, lambda size: self._step(0, size))
            _keep(target, status)
        except BaseException:
            os.close(target)
            raise
        self._step(1, 0)
        return target

    def _folder(self, source: int, status: os.stat_result, to_folder: int, to_name: bytes, depth: int) -> int:
        os.mkdir(to_name, 0o700, dir_fd=to_folder)
        target = os.open(to_name, _FOLDER, dir_fd=to_folder)
        try:
            if depth == 0:
                self._made = _identity(os.fstat(target))
            with closing(entries(source)) as names:
                for name in names:
                    self._step(0, 0)
                    try:
                        child = self._entry(source, name, target, name, depth + 1)
                    except FileNotFoundError:  # of the source: it has gone meanwhile
                        continue
                    if child is not None:
                        os.close(child)
            changing = beneath.reopen(target, os.O_RDONLY)
            try:
                _keep(changing, status)
            finally:
                os.close(changing)
        except BaseException:
            os.close(target)
            raise
        self._step(1, 0)
        return target


def copy_data(source: int, target: int, done: Callable[[int], None]) -> None:
    """Copies the contents of a file, whose holes stay holes. What is appended meanwhile may be missing.

    :param done: is called with each number of bytes
    :raises OSError: of reading and writing
    """
    size, position = os.fstat(source).st_size, 0
    while position < size:
        start, end = _data(source, position, size)
        while start < end:
            copied = _piece(source, target, min(end - start, CHUNK_BYTES), start)
            if copied == 0:
                size = start  # it has shrunk
                break
            start += copied
            done(copied)
        position = max(end, position + 1)
    os.ftruncate(target, min(size, os.fstat(source).st_size))


def erase(folder: int, name: bytes, step: Step) -> int:
    """Deletes a file or a tree; what is not there is deleted already.

    :returns: how many entries could not be deleted
    :raises TooDeepError: folders are nested too deeply
    """
    return _erase(folder, name, step, 0)


def erase_contents(folder: int, step: Step, depth: int = 0) -> int:
    """Deletes everything in a folder.

    :param folder: its place
    :returns: how many entries could not be deleted
    :raises TooDeepError: folders are nested too deeply
    :raises OSError: it cannot be read
    """
    if depth > MOST_DEPTH:
        raise TooDeepError
    status = os.fstat(folder)
    if status.st_uid == os.geteuid() and status.st_mode & 0o700 != 0o700:
        with suppress(OSError):  # its owner may delete what is in a folder, after all
            os.chmod(f"/proc/self/fd/{folder}", stat.S_IMODE(status.st_mode) | 0o700)
    descriptor = beneath.reopen(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        while True:  # some file systems leave names out where others are deleted meanwhile
            seen = failed = 0
            with closing(entries(descriptor)) as names:
                for name in names:
                    seen += 1
                    failed += _erase(descriptor, name, step, depth)
            if failed >= seen:
                return failed
    finally:
        os.close(descriptor)


def entries(folder: int) -> Generator[bytes, None, None]:
    """The names in a folder that is open for reading, as they come.

    :raises OSError: of readdir(3)
    """
    with os.scandir(folder) as found:
        for entry in found:
            yield os.fsencode(entry.name)


def is_same(folder: int, name: bytes, descriptor: int) -> bool:
    """Whether a name is that of an open file or folder."""
    try:
        return _identity(beneath.status(folder, name)) == _identity(os.fstat(descriptor))
    except OSError:
        return False


@contextmanager
def opened(descriptor: int) -> Iterator[int]:
    """A descriptor that is closed afterwards."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _erase(folder: int, name: bytes, step: Step, depth: int) -> int:
    step(0, 0)
    failed = 0
    try:
        try:
            os.unlink(name, dir_fd=folder)
        except (IsADirectoryError, PermissionError) as error:  # POSIX has the one of a folder, Linux the other
            if isinstance(error, PermissionError) and not stat.S_ISDIR(beneath.status(folder, name).st_mode):
                raise
            with opened(os.open(name, _FOLDER, dir_fd=folder)) as place:
                failed = erase_contents(place, step, depth + 1)
            os.rmdir(name, dir_fd=folder)
    except FileNotFoundError:
        return failed
    except OSError:
        return failed or 1
    step(1, 0)
    return failed


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _keep(descriptor: int, status: os.stat_result) -> None:
    """Gives a copy the times and the permissions, and keeps the group of its folder where that is inherited."""
    inherited = os.fstat(descriptor).st_mode & stat.S_ISGID if stat.S_ISDIR(status.st_mode) else 0
    os.fchmod(descriptor, status.st_mode & 0o777 | inherited)
    os.utime(descriptor, ns=(status.st_atime_ns, status.st_mtime_ns))


def _data(source: int, position: int, size: int) -> tuple[int, int]:
    """Where the next bytes are that are no hole (lseek(2): SEEK_DATA)."""
    try:
        start = os.lseek(source, position, os.SEEK_DATA)
        return start, min(os.lseek(source, start, os.SEEK_HOLE), size)
    except OSError as error:
        return (size, size) if error.errno == errno.ENXIO else (position, size)


def _piece(source: int, target: int, size: int, offset: int) -> int:
    """Copies some bytes to the same place in the other file; returns how many, 0 at the end of the file."""
    try:
        return os.copy_file_range(source, target, size, offset, offset)
    except OSError as error:
        if error.errno not in _NO_RANGE:
            raise
    data = os.pread(source, min(size, PIECE_BYTES), offset)
    written = 0
    while written < len(data):
        written += os.pwrite(target, data[written:], offset + written)
    return written
