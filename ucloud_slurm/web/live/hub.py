"""The event loop of a process, which serves all of its WebSockets.

gunicorn's threads answer calls; a WebSocket leaves its thread once its handshake has been read. So two hundred
followers are two hundred sockets and one thread, and no call waits for them.
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

POLL_SECONDS = 1.0  # between two reads of the state of watched jobs
HEARTBEAT_SECONDS = 30.0  # between two heartbeats of the shells of this process
HEARTBEAT_EXPIRY_SECONDS = 120.0  # a shell without a heartbeat for so long counts as ended
STOP_SECONDS = 10.0  # that cancelled tasks have for their cleanup
READERS = 16  # threads that read files; a dead file server may block some of them
T = TypeVar("T")


class JobWatcher(Protocol):
    """A log stream or a shell, which is notified of the state of its job."""

    @property
    def job_id(self) -> str:
        """The id of the job."""

    @property
    def token(self) -> str | None:
        """The session of a shell; None for a log."""

    def on_access_change(self, access: Access | None) -> None:
        """Takes the present state of the job; None when the job does not exist any more."""


@dataclass(slots=True)
class Hub:
    """The event loop with everything in it. It is made with the application and starts with the first WebSocket."""

    provider: Provider
    watchers: set[JobWatcher] = field(default_factory=set)
    connections: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _loop: asyncio.AbstractEventLoop | None = None
    _thread: threading.Thread | None = None
    _inotify_watcher: InotifyWatcher | None = None
    _readers: ThreadPoolExecutor | None = None
    _database: ThreadPoolExecutor | None = None
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    _heartbeat_at: float = 0.0

    def start(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Runs a coroutine in the loop, which is started if need be."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._run, args=(self._loop,), name="live", daemon=True)
                self._thread.start()
            loop = self._loop
        loop.call_soon_threadsafe(lambda: self.spawn(work()))

    def stop(self) -> None:
        """Stops the loop and everything in it."""
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()

    def spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Runs a coroutine as a task. An exception in it becomes one line in the journal."""
        task = asyncio.get_running_loop().create_task(self._isolated(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: work.close())  # closes a coroutine that was cancelled before it began
        return task

    async def _isolated(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001  a failed connection must not end the others
            log.error("unexpected %s at %s; please report it", type(error).__name__, place(error))

    @property
    def inotify(self) -> InotifyWatcher:
        """The notifications of changed files."""
        if self._inotify_watcher is None:
            self._inotify_watcher = InotifyWatcher()
        return self._inotify_watcher

    async def read(self, action: Callable[[], T]) -> T:
        """Runs a function that works with files, in one of the threads for that."""
        if self._readers is None:
            self._readers = ThreadPoolExecutor(READERS, "files")
        return await asyncio.get_running_loop().run_in_executor(self._readers, action)

    async def ask(self, question: Callable[[], T]) -> T:
        """Runs a function that uses the database, in the thread for that."""
        if self._database is None:
            self._database = ThreadPoolExecutor(1, "database")
        return await asyncio.get_running_loop().run_in_executor(self._database, question)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        poll = loop.create_task(self._poll_forever())
        loop.run_forever()
        for task in (poll, *self._tasks):
            task.cancel()
        until = time.monotonic() + STOP_SECONDS
        # The cleanup of a task may start others.
        while (tasks := asyncio.all_tasks(loop)) and time.monotonic() < until:
            loop.run_until_complete(asyncio.wait(tasks, timeout=1))
        if self._inotify_watcher is not None:
            self._inotify_watcher.close()
        for pool in (self._readers, self._database):
            if pool is not None:
                pool.shutdown()
        loop.close()

    async def _poll_forever(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            with suppress(Problem):  # the database is busy; the next poll reads it
                await self._poll()

    async def _poll(self) -> None:
        watchers = list(self.watchers)
        if not watchers:
            return
        ids = {watcher.job_id for watcher in watchers}
        found = await self.ask(lambda: self.provider.sessions.access(ids))
        for watcher in watchers:
            watcher.on_access_change(found.get(watcher.job_id))
        now = asyncio.get_running_loop().time()
        shells = [watcher.token for watcher in watchers if watcher.token is not None]
        if shells and now - self._heartbeat_at > HEARTBEAT_SECONDS:
            self._heartbeat_at = now
            await self.heartbeat(shells)

    async def heartbeat(self, tokens: list[str]) -> None:
        """Records a heartbeat of these shells."""
        await self.ask(lambda: self.provider.sessions.heartbeat(tokens, self.provider.now() + HEARTBEAT_EXPIRY_SECONDS))
