"""jobs.compute.shell.open: a shell in a job's allocation, or in a folder of a drive, in the user's browser (contract: shell).

The call has no token: the identifier of the session authorizes it. It works once, on one connection.
"""

import asyncio
import codecs
import logging
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from typing import NamedTuple

from ucloud_slurm.bridge.drives import DrivePath
from ucloud_slurm.errors import Forbidden, NotFound, Problem, Refused, TooMany, one_line
from ucloud_slurm.provider.drives import ResolvedPlace
from ucloud_slurm.slurm.records import SlurmJobId
from ucloud_slurm.store.job_rows import JobRow
from ucloud_slurm.store.job_state import JobPhase
from ucloud_slurm.store.people import UserLink
from ucloud_slurm.store.sessions import Access, Kind, Session
from ucloud_slurm.system.bulkhead import StuckError
from ucloud_slurm.system.terminal import Terminal, TerminalError
from ucloud_slurm.ucloud.streams import Initialize, Input, ShellRequest
from ucloud_slurm.ucloud.wire import from_data
from ucloud_slurm.users.impersonation import ImpersonationUnavailableError
from ucloud_slurm.web.access import check_shell, file_account
from ucloud_slurm.web.live.hub import START_SECONDS, Hub, NoAnswerError
from ucloud_slurm.web.live.websocket import CallFrame, WebSocketClosedError, WebSocketConnection
from ucloud_slurm.web.sessions import resolved_again

log = logging.getLogger(__name__)

MOST_INPUT_BYTES = 1024 * 1024  # that may wait for a shell which does not read
DESCRIPTORS = 1  # of a shell that is open
ACK = {"type": "ack"}


class _PendingInput(NamedTuple):
    """Input that waits for the shell, and the stream on which it is acknowledged."""

    stream_id: str
    data: bytes


class Shell:
    """A shell that runs, on a terminal of the user."""

    def __init__(
        self, hub: Hub, connection: WebSocketConnection, stream_id: str, session: Session, terminal: Terminal, account: str
    ) -> None:
        """Takes ownership of the terminal.

        :param account: see :func:`ucloud_slurm.web.access.file_account`
        """
        self._account = account
        self.token: str | None = session.token
        self.job_id = session.job_id
        is_linked = not session.job_id and hub.provider.config.users.mapping == "table"
        self.username = session.username if is_linked else None
        self._hub = hub
        self._connection = connection
        self.stream_id = stream_id
        self._session = session
        self._terminal = terminal
        self._input: deque[_PendingInput] = deque()
        self._waiting = 0
        self._has_input = asyncio.Event()
        self._end: asyncio.Future[Problem | None] = asyncio.get_running_loop().create_future()
        self._used_at = hub.provider.now()

    def on_access_change(self, access: Access | None, link: UserLink | None) -> None:
        now = self._hub.provider.now()
        if self.username is not None and (link is None or link.local_user != self._account):
            self._finish(Forbidden("Your account at UCloud is not connected with this account on the cluster any more."))
        elif self._session.job_id and (access is None or access.ended):
            self._finish(None)
        elif access is not None and access.lost(self._session.username, self._session.created_at):
            self._finish(Forbidden("You have no access to this job any more."))
        elif now - self._used_at > self._hub.provider.config.sessions.life:
            self._finish(Forbidden("The shell was closed because nobody used it."))

    async def run(self) -> None:
        """Copies text in both directions until the shell or the job ends or the user loses access.

        :raises Problem: the shell was closed, with the reason
        """
        hub = self._hub
        hub.watchers.add(self)
        tasks = [hub.spawn(self._copy_output()), hub.spawn(self._copy_input())]
        try:
            await self._connection.message(self.stream_id, {"type": "initialize"})
            problem = await self._end
            if problem is not None:
                raise problem
            await self._connection.response(self.stream_id, 200, ACK)
        finally:
            hub.watchers.discard(self)
            for task in tasks:
                task.cancel()
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._terminal.descriptor)
            loop.remove_writer(self._terminal.descriptor)
            await asyncio.shield(
                asyncio.gather(
                    hub.read(self._account, self._terminal.close, cleanup=True),
                    hub.ask(lambda: hub.provider.sessions.end(self._session, hub.provider.now())),
                    return_exceptions=True,
                )
            )

    def input(self, stream_id: str, text: str) -> None:
        """Queues input for the shell.

        :raises TooMany: the shell has not read earlier input
        """
        data = text.encode(errors="replace")
        if self._waiting + len(data) > MOST_INPUT_BYTES:
            raise TooMany("The shell has not read what was typed before; wait a moment.")
        self._waiting += len(data)
        self._input.append(_PendingInput(stream_id, data))
        self._has_input.set()
        self._used_at = self._hub.provider.now()

    def close(self) -> None:
        """Ends the shell, because the connection is closed."""
        # Cancelling its task would skip the cleanup of a task that has not begun.
        self._finish(None)

    def resize(self, cols: int, rows: int) -> None:
        """Sets the size of the window.

        :raises TooMany: the shell has not taken earlier sizes
        """
        if self._end.done():
            return  # the number of its descriptor may be that of another terminal now
        try:
            self._terminal.resize(cols, rows)
        except BlockingIOError:
            raise TooMany("The shell has not read what was typed before; wait a moment.") from None

    def _finish(self, problem: Problem | None) -> None:
        if not self._end.done():
            self._end.set_result(problem)

    async def _copy_output(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        loop = asyncio.get_running_loop()
        descriptor = self._terminal.descriptor
        try:
            while True:
                ready = loop.create_future()
                loop.add_reader(descriptor, _done, ready)
                await ready
                loop.remove_reader(descriptor)
                try:
                    data = self._terminal.read()
                except BlockingIOError:
                    continue
                if not data:
                    break
                if text := decoder.decode(data):
                    await self._connection.message(self.stream_id, {"type": "data", "data": text})
        except WebSocketClosedError:
            pass
        self._finish(None)

    async def _copy_input(self) -> None:
        loop = asyncio.get_running_loop()
        descriptor = self._terminal.descriptor
        try:
            while True:
                while not self._input:
                    self._has_input.clear()
                    await self._has_input.wait()
                pending = self._input.popleft()
                left = memoryview(pending.data)
                while left:
                    try:
                        left = left[self._terminal.write(left) :]
                    except BlockingIOError:
                        ready = loop.create_future()
                        loop.add_writer(descriptor, _done, ready)
                        await ready
                        loop.remove_writer(descriptor)
                self._waiting -= len(pending.data)
                await self._connection.response(pending.stream_id, 200, ACK)
        except (WebSocketClosedError, OSError):
            self._finish(None)


def _done(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)


class ShellCalls:
    """The shell of one connection, if it has one."""

    def __init__(self, hub: Hub, connection: WebSocketConnection) -> None:
        self._hub = hub
        self._connection = connection
        self._shell: Shell | None = None

    async def call(self, frame: CallFrame) -> None:
        """Answers a call of the shell.

        :raises Problem: it is refused
        """
        request = from_data(ShellRequest, {"request": frame.payload}).request
        if isinstance(request, Initialize):
            await self._open(frame.stream_id, request)
            return
        if self._shell is None:
            raise NotFound("There is no shell on this connection.")
        if isinstance(request, Input):
            self._shell.input(frame.stream_id, request.data)
        else:
            self._shell.resize(request.cols, request.rows)
            await self._connection.response(frame.stream_id, 200, ACK)

    async def _open(self, stream_id: str, request: Initialize) -> None:
        if self._shell is not None:
            raise Refused("There is a shell on this connection already.")
        hub, provider = self._hub, self._hub.provider
        session, row, access = await hub.ask(lambda: self._find(request.session_identifier))
        if session is None:
            raise NotFound("Unknown shell session")
        self._connection.visit.identify(session.username)
        if session.job_id:
            account, start = await self._in_job(session, row, access, request)
        else:
            at = await hub.ask_site(lambda: resolved_again(provider, session))
            account, start = at.acting.user, partial(self._start_in_folder, session, at, request)
        await hub.heartbeat([session.token])
        with ExitStack() as taken:
            taken.enter_context(hub.entrance().descriptors(session.username, DESCRIPTORS))
            try:
                terminal = await hub.read(account, start, lambda late: late.close(), seconds=START_SECONDS)
            except (TerminalError, ImpersonationUnavailableError, NoAnswerError, StuckError) as trouble:
                where = f"job {session.job_id}" if session.job_id else f"a shell of {session.username} as {account}"
                log.error("%s: %s", one_line(where), one_line(str(trouble)))
                raise Problem("No shell can be opened at the moment; please try again later.") from None
            self._shell = Shell(hub, self._connection, stream_id, session, terminal, account)
            held = taken.pop_all()
            hub.spawn(self._run(self._shell)).add_done_callback(lambda _: held.close())

    async def _in_job(
        self, session: Session, row: JobRow | None, access: Access | None, request: Initialize
    ) -> tuple[str, Callable[[], Terminal]]:
        """Whose threads the start of a shell takes, and the start."""
        hub, provider = self._hub, self._hub.provider
        if row is None or row.phase is not JobPhase.LIVE or row.slurm_id is None or access is None or access.ended:
            raise Refused("The job has ended.")
        if access.lost(session.username, session.created_at):
            raise Forbidden("You have no access to this job any more.")
        await hub.ask_site(lambda: check_shell(provider, row, session.username))
        return file_account(provider, row), partial(self._start, row, session.rank, request)

    def _start_in_folder(self, session: Session, at: ResolvedPlace, request: Initialize) -> Terminal:
        terminal = self._hub.provider.files(at.acting.user).shell(at.place, request.cols, request.rows)
        path = str(DrivePath(session.drive_id or "", session.parts))
        log.info("files: %s as %s: opened a shell in %r", session.username, at.acting.user, path)
        return terminal

    def _start(self, row: JobRow, rank: int, request: Initialize) -> Terminal:
        provider = self._hub.provider
        number, folder = SlurmJobId(row.slurm_id or 0), provider.job_paths(row).folder
        launch = provider.scheduler.terminal(number, rank, folder, provider.mapping.person(row.local_user).shell)
        return provider.impersonation(row.local_user).terminal(launch.argv, dict(launch.env), request.cols, request.rows)

    def _find(self, identifier: str) -> tuple[Session | None, JobRow | None, Access | None]:
        provider = self._hub.provider
        session = provider.sessions.open(identifier, Kind.SHELL, provider.now())
        if session is None:
            return None, None, None
        access = provider.sessions.access([session.job_id])
        return session, provider.jobs.get(session.job_id), access.get(session.job_id)

    async def _run(self, shell: Shell) -> None:
        try:
            with suppress(WebSocketClosedError):
                async with self._connection.answering(shell.stream_id):
                    await shell.run()
        finally:
            self._shell = None

    @property
    def has_shell(self) -> bool:
        """Whether a shell is open."""
        return self._shell is not None

    def close(self) -> None:
        """Ends the shell, because the connection is closed."""
        if self._shell is not None:
            self._shell.close()
