"""Notifications of changed files (inotify(7)): many watches share one descriptor in an event loop."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from inotify_simple import INotify, flags, parse_events

Callback = Callable[[], None]

READ_BYTES = 64 * 1024

FILE_GROWS = flags.MODIFY | flags.DONT_FOLLOW
NEW_ENTRIES = flags.CREATE | flags.MOVED_TO | flags.DONT_FOLLOW


@dataclass(frozen=True, slots=True, eq=False)
class InotifyWatch:
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

    def adopt_fd(self, descriptor: int, grows: Callback, entries: Callback) -> None:
        """Takes over an inotify descriptor that the runner has opened for one folder.

        :param grows: called when only known files have changed
        :param entries: called when there are new ones
        """
        self._loop.add_reader(descriptor, self._read_fd, descriptor, grows, entries)

    def close_fd(self, descriptor: int) -> None:
        """Closes a descriptor that was taken over."""
        self._loop.remove_reader(descriptor)
        os.close(descriptor)

    def _read_fd(self, descriptor: int, grows: Callback, entries: Callback) -> None:
        try:
            events = list(parse_events(os.read(descriptor, READ_BYTES)))
        except BlockingIOError:
            return
        except OSError:
            events = []
        if not events:
            self._loop.remove_reader(descriptor)
        new = any(event.mask & ~(flags.MODIFY | flags.ISDIR) for event in events)
        (entries if new else grows)()

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
