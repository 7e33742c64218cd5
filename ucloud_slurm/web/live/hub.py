"""The event loop of a process: every WebSocket, every log that is followed and every shell lives in it.

gunicorn's threads answer calls; a WebSocket leaves its thread as soon as its handshake is read. So two hundred
followers are two hundred sockets and one thread, and no call waits behind them.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from ucloud_slurm.errors import Problem, place
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.store.sessions import Access
from ucloud_slurm.web.live.inotify import InotifyWatcher

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  # between two looks at how the jobs stand that somebody watches
HOLD_SECONDS = 30.0  # between two signs of life of the shells
HELD_FOR = 120.0  # seconds after the last sign of life that a shell counts as there
STOP_SECONDS = 10.0  # that what ends has to clean up
READERS = 16  # threads that read files: one that hangs on a dead file server must not hold up the others
T = TypeVar("T")


class Watcher(Protocol):
    """A stream or a shell: it is told how its job stands."""

    @property
    def job_id(self) -> str:
        """The job that it is about."""

    @property
    def token(self) -> str | None:
        """Of a shell: its session."""

    def on_access_change(self, access: Access | None) -> None:
        """How the job stands now; None when there is no such job any more."""


@dataclass(slots=True)
class Hub:
    """What lives in one process. Made with the application, it starts with the first WebSocket."""

    provider: Provider
    watchers: set[Watcher] = field(default_factory=set)
    connections: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _loop: asyncio.AbstractEventLoop | None = None
    _thread: threading.Thread | None = None
    _notices: InotifyWatcher | None = None
    _readers: ThreadPoolExecutor | None = None
    _database: ThreadPoolExecutor | None = None
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    _held_at: float = 0.0

    # -- from other threads ---------------------------------------------------------------------------------

    def start(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Has something done in the loop."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._run, args=(self._loop,), name="live", daemon=True)
                self._thread.start()
            loop = self._loop
        loop.call_soon_threadsafe(lambda: self.spawn(work()))

    def stop(self) -> None:
        """Ends everything in it."""
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()

    # -- in the loop ----------------------------------------------------------------------------------------

    def spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Has something done beside. What goes wrong in it is one line in the journal."""
        task = asyncio.get_running_loop().create_task(self._alone(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: work.close())  # what was cancelled before it began is left over
        return task

    async def _alone(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001  one connection must not end the others
            log.error("unexpected %s at %s; please report it", type(error).__name__, place(error))

    @property
    def notices(self) -> InotifyWatcher:
        """The kernel's notices of changed files."""
        if self._notices is None:
            self._notices = InotifyWatcher()
        return self._notices

    async def read(self, action: Callable[[], T]) -> T:
        """Does something with files, in a thread of its own."""
        if self._readers is None:
            self._readers = ThreadPoolExecutor(READERS, "files")
        return await asyncio.get_running_loop().run_in_executor(self._readers, action)

    async def ask(self, question: Callable[[], T]) -> T:
        """Asks the database, in its own thread."""
        if self._database is None:
            self._database = ThreadPoolExecutor(1, "database")
        return await asyncio.get_running_loop().run_in_executor(self._database, question)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        look_out = loop.create_task(self._look_out())
        loop.run_forever()
        for task in (look_out, *self._tasks):
            task.cancel()
        until = time.monotonic() + STOP_SECONDS
        # What ends cleans up, and that may take others.
        while (tasks := asyncio.all_tasks(loop)) and time.monotonic() < until:
            loop.run_until_complete(asyncio.wait(tasks, timeout=1))
        if self._notices is not None:
            self._notices.close()
        for pool in (self._readers, self._database):
            if pool is not None:
                pool.shutdown()
        loop.close()

    async def _look_out(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            with suppress(Problem):  # the database is busy: at the next look
                await self._look()

    async def _look(self) -> None:
        watchers = list(self.watchers)
        if not watchers:
            return
        ids = {watcher.job_id for watcher in watchers}
        found = await self.ask(lambda: self.provider.sessions.access(ids))
        for watcher in watchers:
            watcher.on_access_change(found.get(watcher.job_id))
        now = asyncio.get_running_loop().time()
        shells = [watcher.token for watcher in watchers if watcher.token is not None]
        if shells and now - self._held_at > HOLD_SECONDS:
            self._held_at = now
            await self.heartbeat(shells)

    async def heartbeat(self, tokens: list[str]) -> None:
        """Gives the sign of life of these shells."""
        await self.ask(lambda: self.provider.sessions.heartbeat(tokens, self.provider.now() + HELD_FOR))
