"""The event loop of a process, which serves all of its WebSockets.

gunicorn's threads answer calls; a WebSocket leaves its thread once its handshake has been read. So two hundred
followers are two hundred sockets and one thread, and no call waits for them.
"""

import asyncio
import logging
import resource
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import Context
from typing import Any, Protocol, TypeVar

from ucloud_slurm.errors import NotNow, Problem, place
from ucloud_slurm.provider.context import Lazy, Provider
from ucloud_slurm.store.people import UserLink
from ucloud_slurm.store.sessions import Access
from ucloud_slurm.system.bulkhead import Bulkhead
from ucloud_slurm.system.request_id import served, serving
from ucloud_slurm.web.live.admission import Limits
from ucloud_slurm.web.live.entrance import Entrance
from ucloud_slurm.web.live.inotify import InotifyWatcher

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0  # between two reads of the state of watched jobs
HEARTBEAT_SECONDS = 30.0  # between two heartbeats of the shells of this process
HEARTBEAT_EXPIRY_SECONDS = 120.0  # a shell without a heartbeat for so long counts as ended
STOP_SECONDS = 10.0  # that cancelled tasks have for their cleanup
READ_SECONDS = 5.0  # that a log waits for a file system
START_SECONDS = 12.0  # that a shell waits for its start: sudo and srun take part
SITE_THREADS = 4  # for questions to the site's mapping of users
T = TypeVar("T")


class NoAnswerError(NotNow):
    """A user's file system, or the program that acts as them, has not answered in time. The call goes on."""


class JobWatcher(Protocol):
    """A log stream or a shell, which is notified of the state of its job, or of the connection of its user."""

    @property
    def job_id(self) -> str:
        """The id of the job; empty for a shell in a folder."""

    @property
    def username(self) -> str | None:
        """The user of UCloud whose connection counts; None where that of the job counts."""

    @property
    def token(self) -> str | None:
        """The session of a shell; None for a log."""

    def on_access_change(self, access: Access | None, link: UserLink | None) -> None:
        """Takes the present state of the job, None when it does not exist any more, and the present connection of the user."""


class Hub:
    """The event loop with everything in it. It is made with the application and starts with the first WebSocket.

    :ivar entrance: of the WebSockets of this process
    :ivar files: the threads that call the file systems of users, of WebSockets and of pages
    """

    def __init__(self, provider: Provider, changed: Callable[[int, int], object] = lambda _strangers, _known: None) -> None:
        """Starts nothing yet: the limits of the process are read at the first use.

        :param changed: is called with the number of WebSockets of strangers, and of those who are known
        """
        limits = Lazy(lambda: Limits.within(resource.getrlimit(resource.RLIMIT_NOFILE)[0]))
        self.provider = provider
        self.entrance = Lazy(
            lambda: Entrance(limits(), provider.config.sessions.most, provider.config.sessions.most_per_job, changed)
        )
        self.files = Lazy(lambda: Bulkhead(limits().readers))
        self.watchers: set[JobWatcher] = set()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._inotify_watcher: InotifyWatcher | None = None
        self._database = ThreadPoolExecutor(1, "database")
        self._site = ThreadPoolExecutor(SITE_THREADS, "site")
        self._tasks: set[asyncio.Task[Any]] = set()
        self._heartbeat_at = 0.0

    def start(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Runs a coroutine in the loop, which is started if need be. Of the request it keeps the id and the user only."""
        request = served()

        def spawn() -> None:
            with serving(request):
                self.spawn(work())

        self.begin().call_soon_threadsafe(spawn, context=Context())

    def begin(self) -> asyncio.AbstractEventLoop:
        """The loop, which is started if need be.

        :raises OSError: there is no descriptor for it
        """
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._run, args=(self._loop,), name="live", daemon=True)
                self._thread.start()
            return self._loop

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

    async def read(
        self,
        account: str,
        action: Callable[[], T],
        discard: Callable[[T], object] | None = None,
        *,
        seconds: float | None = None,
        cleanup: bool = False,
    ) -> T:
        """Runs a function that may wait for the file system of a user, or for the program that acts as them.

        :param account: whose threads it takes
        :param discard: releases the result if nobody waits for it any more
        :param seconds: ``READ_SECONDS`` unless given
        :param cleanup: it releases something
        :raises StuckError: earlier calls of the account do not return
        :raises NoAnswerError: it has not returned within that time
        """
        call = self.files().submit(account, action, cleanup=cleanup)
        try:
            return await self.within(self.future(call), seconds)
        except (NoAnswerError, asyncio.CancelledError):
            self.files().abandon(account, call, discard)
            raise

    @staticmethod
    def future(call: "Future[T]") -> "asyncio.Future[T]":
        """The same call in the event loop. An exception that nobody retrieves is dropped."""
        future = asyncio.wrap_future(call)
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        return future

    @staticmethod
    async def within(future: "asyncio.Future[T]", seconds: float | None = None) -> T:
        """Waits for a call, which goes on if it takes longer.

        :param seconds: ``READ_SECONDS`` unless given
        :raises NoAnswerError: it does
        """
        done, _ = await asyncio.wait([future], timeout=READ_SECONDS if seconds is None else seconds)
        if not done:
            raise NoAnswerError("its file system does not answer")
        return future.result()

    async def ask(self, question: Callable[[], T]) -> T:
        """Runs a function that uses the database, in the thread for that."""
        return await asyncio.get_running_loop().run_in_executor(self._database, question)

    async def ask_site(self, question: Callable[[], T]) -> T:
        """Runs a function that asks the site's mapping of users or the name service, in one of the threads for that."""
        return await asyncio.get_running_loop().run_in_executor(self._site, question)

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
        for pool in (self._database, self._site):
            pool.shutdown()
        for files in self.files.opened:
            files.close()
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
        names = {watcher.username for watcher in watchers if watcher.username is not None}
        sessions, people = self.provider.sessions, self.provider.people
        found, links = await self.ask(lambda: (sessions.access(ids), {name: people.of(name) for name in names}))
        for watcher in watchers:
            watcher.on_access_change(found.get(watcher.job_id), links.get(watcher.username or ""))
        now = asyncio.get_running_loop().time()
        shells = [watcher.token for watcher in watchers if watcher.token is not None]
        if shells and now - self._heartbeat_at > HEARTBEAT_SECONDS:
            self._heartbeat_at = now
            await self.heartbeat(shells)

    async def heartbeat(self, tokens: list[str]) -> None:
        """Records a heartbeat of these shells."""
        await self.ask(lambda: self.provider.sessions.heartbeat(tokens, self.provider.now() + HEARTBEAT_EXPIRY_SECONDS))
