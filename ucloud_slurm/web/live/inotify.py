"""Hearing of changes in files from the kernel (inotify(7)), many listeners with one descriptor."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from inotify_simple import INotify, flags, parse_events

Heard = Callable[[], None]

LARGEST = 64 * 1024  # bytes of events that are read at a time

GROWS = flags.MODIFY | flags.DONT_FOLLOW
ENTRIES = flags.CREATE | flags.MOVED_TO | flags.DONT_FOLLOW


@dataclass(frozen=True, slots=True, eq=False)
class Watch:
    """One listener at one file or folder."""

    number: int
    heard: Heard


class InotifyWatcher:
    """The kernel's notices, in the event loop that it is made in. Where it has none left, :meth:`watch` gives None."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._watches: dict[int, set[Watch]] = {}
        self._inotify: Any = None
        try:
            self._inotify = INotify(inheritable=False, nonblocking=True)
        except OSError:
            return  # the kernel's limit on instances
        self._loop.add_reader(self._inotify.fileno(), self._read)

    def watch(self, path: str, mask: int, heard: Heard) -> Watch | None:
        """Listens at a file (``GROWS``) or a folder (``ENTRIES``). None when that cannot be."""
        if self._inotify is None:
            return None
        try:
            number = self._inotify.add_watch(path, mask)
        except OSError:
            return None
        watch = Watch(number, heard)
        self._watches.setdefault(number, set()).add(watch)
        return watch

    def forget(self, watch: Watch) -> None:
        """Listens no more."""
        others = self._watches.get(watch.number, set())
        others.discard(watch)
        if not others and self._watches.pop(watch.number, None) is not None:
            try:
                self._inotify.rm_watch(watch.number)
            except OSError:
                return  # the file is gone, and the watch with it

    def adopt(self, descriptor: int, grows: Heard, entries: Heard) -> None:
        """Listens with a descriptor that somebody else made for one folder; it is ours from then on."""
        self._loop.add_reader(descriptor, self._hear, descriptor, grows, entries)

    def close_fd(self, descriptor: int) -> None:
        """Lets go of such a descriptor."""
        self._loop.remove_reader(descriptor)
        os.close(descriptor)

    def _hear(self, descriptor: int, grows: Heard, entries: Heard) -> None:
        try:
            events = list(parse_events(os.read(descriptor, LARGEST)))
        except BlockingIOError:
            return
        except OSError:
            events = []
        if not events:
            self._loop.remove_reader(descriptor)
        new = any(event.mask & ~(flags.MODIFY | flags.ISDIR) for event in events)
        (entries if new else grows)()

    def _read(self) -> None:
        heard: set[Watch] = set()
        for event in self._inotify.read(timeout=0):
            if event.mask & flags.Q_OVERFLOW:
                heard |= {watch for watches in self._watches.values() for watch in watches}
            heard |= self._watches.get(event.wd, set())
        for watch in heard:
            watch.heard()

    def close(self) -> None:
        """Lets go of the descriptor."""
        if self._inotify is not None:
            self._loop.remove_reader(self._inotify.fileno())
            self._inotify.close()
