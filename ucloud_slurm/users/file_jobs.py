"""What takes long with a user's files, done as the user: copies, moves between file systems, and the trash.

It says how far it is over a socket of packets (:mod:`ucloud_slurm.users.file_work` reads them), and ends when the other end
is closed. Whatever is copied gets its name at the end, whole; until then it has a name that is never shown, made of the
work's key. So it can be begun again: what an earlier attempt has left under that name is deleted first. A copy whose
process ended between the last rename and its report is made once more then, where the policy allows two; a move is not.
"""

import errno
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from ucloud_slurm.system import beneath, listing, parts, placing, trees
from ucloud_slurm.system.trees import opened
from ucloud_slurm.users.file_failures import FAILURES, FailureError, answer, failure

COPY, MOVE, ERASE = "copy", "move", "erase"
TRASH = b"Trash"  # :data:`ucloud_slurm.users.files.TRASH`, which the program does not load
REPORT_SECONDS = 0.5  # between two packets
LAST_SECONDS = 60.0  # for the last one to go

# A root, and names below it.
At = tuple[str, tuple[bytes, ...]]


class CancelledError(Exception):
    """The other end of the socket is closed."""


def begin(work: str, source: At, target: At | None, policy: str, key: str) -> Callable[[socket.socket], Callable[[], None]]:
    """The work, to be given to :func:`ucloud_slurm.users.pump.detach`.

    :param key: 16 hexadecimal digits, the same whenever it is begun again
    """
    return lambda channel: lambda: run(channel, work, source, target, policy, key)


def run(channel: socket.socket, work: str, source: At, target: At | None, policy: str, key: str) -> None:
    """Does it, and closes the socket."""
    reports = _Reports(channel)
    with channel:
        try:
            name, skipped = _done(reports.step, work, source, target, policy, key)
            reports.last({"name": name, "skipped": skipped})
        except CancelledError:
            return
        except FAILURES as error:
            reports.last(answer(failure(error)))


class _Reports:
    """Packets with how many entries and bytes are done, now and then. A reader who is behind misses some."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._entries = self._bytes = 0
        self._sent_at = 0.0

    def step(self, entries: int, size: int) -> None:
        """See :data:`ucloud_slurm.system.trees.Step`.

        :raises CancelledError: nobody wants it any more
        """
        self._entries += entries
        self._bytes += size
        try:
            if self._channel.recv(1, socket.MSG_DONTWAIT) == b"":
                raise CancelledError
        except BlockingIOError:
            pass
        except OSError:
            raise CancelledError from None
        now = time.monotonic()
        if now - self._sent_at >= REPORT_SECONDS:
            self._sent_at = now
            with suppress(OSError):
                packet = json.dumps({"entries": self._entries, "bytes": self._bytes}).encode()
                self._channel.send(packet, socket.MSG_DONTWAIT)

    def last(self, packet: dict[str, object]) -> None:
        """The last packet."""
        with suppress(OSError):
            self._channel.settimeout(LAST_SECONDS)
            self._channel.send(json.dumps(packet | {"entries": self._entries, "bytes": self._bytes}).encode())


def _done(step: trees.Step, work: str, source: At, target: At | None, policy: str, key: str) -> tuple[str, int]:
    if work == ERASE or target is None:
        return _erase(step, source), 0
    if not source[1] or not target[1]:
        raise FailureError("root", target=not target[1])
    if source[0] == target[0] and target[1][: len(source[1])] == source[1]:
        raise FailureError("inside", target=True)
    name, new = source[1][-1], target[1][-1]
    with _folder(source[0], source[1][:-1]) as folder, _folder(target[0], target[1][:-1], target=True) as to_folder:
        if work == MOVE:
            return _move(step, folder, name, to_folder, new, policy, key), 0
        final, skipped = _copy(step, folder, name, to_folder, new, policy, key)
        return final.decode(), skipped


def _copy(
    step: trees.Step, folder: int, name: bytes, to_folder: int, new: bytes, policy: str, key: str, *, whole: bool = False
) -> tuple[bytes, int]:
    if listing.kind_of(beneath.status(folder, name)) == "other":
        raise FailureError("no-file")
    temporary = parts.name_of(key)
    try:
        if trees.erase(to_folder, temporary, step):
            raise OSError(errno.EBUSY, "an earlier attempt is still there")
        copy = trees.Copy(step)
        try:
            made = copy.copy(folder, name, to_folder, temporary)
            with opened(made if made is not None else os.dup(to_folder)) as place:
                if whole and copy.skipped:
                    raise FailureError("not-copied")
                if whole:
                    beneath.synchronize(to_folder)
                step(0, 0)
                if made is not None and not trees.is_same(to_folder, temporary, place):
                    raise OSError(errno.EBUSY, "another attempt has begun")
                final = placing.put(to_folder, temporary, to_folder, new, policy)
        except BaseException:
            copy.undo(to_folder, temporary)
            raise
    except (FileExistsError, IsADirectoryError) as error:
        raise failure(error, target=True) from None
    placing.synchronize(to_folder)
    return final, copy.skipped


def _move(step: trees.Step, folder: int, name: bytes, to_folder: int, new: bytes, policy: str, key: str) -> str:
    """What was copied whole gets a name that is never shown, and is deleted. That name says that the copy is done."""
    copied, final = b"." + key.encode() + b"-copied" + listing.PART_SUFFIX.encode(), new
    try:
        beneath.status(folder, copied)
    except FileNotFoundError:
        final, _ = _copy(step, folder, name, to_folder, new, policy, key, whole=True)
        os.rename(name, copied, src_dir_fd=folder, dst_dir_fd=folder)

    def go_on(entries: int, size: int) -> None:  # it is of no use half
        with suppress(CancelledError):
            step(entries, size)

    if trees.erase(folder, copied, go_on):
        with suppress(OSError):  # what is left should be seen
            beneath.rename_new(folder, copied, folder, name)
        raise FailureError("not-deleted")
    return final.decode()


def _erase(step: trees.Step, source: At) -> str:
    """Only what is in the folder ``Trash`` below the root, which may be no link."""
    if source[1][:1] != (TRASH,):
        raise FailureError("trash")
    failed = 0
    with suppress(FileNotFoundError), _folder(source[0], (TRASH,), links=False) as trash:
        if len(source[1]) == 1:
            failed = trees.erase_contents(trash, step)
        else:
            with opened(beneath.open_beneath(trash, source[1][1:-1], folder=True, links=False)) as folder:
                failed = trees.erase(folder, source[1][-1], step)
    if failed:
        raise FailureError("not-deleted")
    return source[1][-1].decode()


@contextmanager
def _folder(root: str, names: tuple[bytes, ...], *, links: bool = True, target: bool = False) -> Iterator[int]:
    try:
        place = beneath.open_root(root)
    except OSError as error:
        raise FailureError("no-root" if isinstance(error, FileNotFoundError) else failure(error).kind, target=target) from None
    with opened(place):
        try:
            folder = beneath.open_beneath(place, names, folder=True, links=links)
        except OSError as error:
            if not target:
                raise
            raise failure(error, target=True) from None
    with opened(folder):
        yield folder
