"""Notifications of changed files (inotify(7)): many watches share one descriptor in an event loop."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, NamedTuple

from inotify_simple import INotify, flags

from ucloud_slurm.system import ipc
from ucloud_slurm.users.pump import ENTRIES

Callback = Callable[[], None]

MOST_PACKETS = 16  # that are read at once; a user may send any number

FILE_GROWS = flags.MODIFY | flags.DONT_FOLLOW
NEW_ENTRIES = flags.CREATE | flags.MOVED_TO | flags.DONT_FOLLOW


class InotifyWatch(NamedTuple):
    """One watch of a file or folder, with the function that is called on a change."""

    number: int
    callback: Callback


class InotifyWatcher:
    """One inotify instance, read in the event loop in which it is made.

    Where the kernel has no instance or watch left, :meth:`watch` gives None, and the caller has to poll.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._watches: dict[int, set[InotifyWatch]] = {}
        self._inotify: Any = None
        try:
            self._inotify = INotify(inheritable=False, nonblocking=True)
        except OSError:
            return  # fs.inotify.max_user_instances is reached
        self._loop.add_reader(self._inotify.fileno(), self._read)

    def watch(self, path: str, mask: int, callback: Callback) -> InotifyWatch | None:
        """Watches a file (``FILE_GROWS``) or a folder (``NEW_ENTRIES``).

        :returns: None when the path cannot be watched
        """
        if self._inotify is None:
            return None
        try:
            number = self._inotify.add_watch(path, mask)
        except OSError:
            return None
        watch = InotifyWatch(number, callback)
        self._watches.setdefault(number, set()).add(watch)
        return watch

    def forget(self, watch: InotifyWatch) -> None:
        """Removes a watch."""
        others = self._watches.get(watch.number, set())
        others.discard(watch)
        if not others and self._watches.pop(watch.number, None) is not None:
            try:
                self._inotify.rm_watch(watch.number)
            except OSError:
                return  # the kernel removed the watch together with the file

    def _read(self) -> None:
        changed: set[InotifyWatch] = set()
        for event in self._inotify.read(timeout=0):
            if event.mask & flags.Q_OVERFLOW:
                changed |= {watch for watches in self._watches.values() for watch in watches}
            changed |= self._watches.get(event.wd, set())
        for watch in changed:
            watch.callback()

    def close(self) -> None:
        """Closes the instance."""
        if self._inotify is not None:
            self._loop.remove_reader(self._inotify.fileno())
            self._inotify.close()


class RemoteWatch:
    """A folder that another user's process watches (:mod:`ucloud_slurm.users.pump`), which may send anything at any time.

    It is read only between :meth:`arm` and the callback that follows: how often is for the caller to say.
    """

    def __init__(self, channel: socket.socket, callback: Callable[[bool], None]) -> None:
        """Takes ownership of the socket.

        :param callback: called with whether there are new files; the process may have ended then
        """
        self.ended = False
        self._channel = channel
        self._callback = callback
        self._loop = asyncio.get_running_loop()

    def arm(self) -> None:
        """Has the next change call back once."""
        if not self.ended:
            self._loop.add_reader(self._channel, self._read)

    def stop(self) -> Callable[[], None]:
        """Ends the watch. What it returns ends the process, and may wait: see :func:`ucloud_slurm.system.ipc.take`."""
        self._loop.remove_reader(self._channel)
        return self._channel.close

    def _read(self) -> None:
        self._loop.remove_reader(self._channel)
        packets: list[bytes] = []
        try:
            while len(packets) < MOST_PACKETS and b"" not in packets:
                packets.append(ipc.take(self._channel, 1, socket.MSG_DONTWAIT))
        except BlockingIOError:
            pass
        except (OSError, ipc.MessageError):
            packets.append(b"")
        self.ended = b"" in packets
        self._callback(self.ended or ENTRIES in packets)
