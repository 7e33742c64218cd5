"""The channel on which Core tells providers of wallets and projects (contract: notification channel)."""

import queue
import random
import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import simple_websocket

from tests.sandbox.core.catalogue import Catalogue
from tests.sandbox.core.directory import Directory, Project
from tests.sandbox.core.errors import CoreError, ProtocolError
from tests.sandbox.core.today import records
from tests.sandbox.core.today.quotas import Account, Accounts, Workspace
from tests.sandbox.core.today.records import Auth, ReplayUser
from tests.sandbox.core.tokens import Tokens

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

MOST_WAITING = 128
"""Messages that wait for a slow reader; what comes then is lost."""
PATIENCE = 0.2
"""Seconds that Core waits for a slow reader before."""
NONSENSE = b"\xff\x00\x01 this is no record"


class Notifications:
    """All connections of providers. Safe for several threads."""

    def __init__(
        self,
        changed: threading.Condition,
        tokens: Tokens,
        accounts: Accounts,
        directory: Directory,
        catalogue: Catalogue,
        complain: Callable[[str], None],
    ) -> None:
        self._changed = changed
        self._tokens = tokens
        self._accounts = accounts
        self._directory = directory
        self._catalogue = catalogue
        self._complain = complain
        self._sessions: list[_Session] = []
        self._connections: list[socket.socket] = []
        self._opened: list[Auth] = []
        self._replayed: list[str] = []
        self._silent = False
        # Core guarantees no order; here it is the same in each run of a test.
        self._random = random.Random(1)
        accounts.watch(self._account)
        directory.watch(self._project)

    # -- what a test can look at and break ------------------------------------------------------------------

    @property
    def connected(self) -> int:
        """How many connections were let in and are still there."""
        with self._changed:
            return len(self._sessions)

    @property
    def replays(self) -> list[int]:
        """From when each that was let in wanted to hear everything again, in order. A copy."""
        with self._changed:
            return [auth.replay_from for auth in self._opened]

    @property
    def replayed_users(self) -> list[str]:
        """Whose wallets a provider has asked for, in order. A copy."""
        with self._changed:
            return list(self._replayed)

    def drop(self) -> None:
        """End all connections without a word."""
        with self._changed:
            sessions = list(self._sessions)
        for session in sessions:
            session.cut()

    def garbage(self, data: bytes = NONSENSE) -> None:
        """Send something that is no record."""
        with self._changed:
            for session in self._sessions:
                session.put(data)

    def silence(self, on: bool = True) -> None:
        """Say nothing, whatever happens, until switched off; what was not said is lost."""
        with self._changed:
            self._silent = on

    # -- the channel ----------------------------------------------------------------------------------------

    def serve(self, environ: "WSGIEnvironment") -> None:
        """Take a connection, and serve it until it ends."""
        connection = environ["werkzeug.socket"]
        connection.settimeout(None)
        with self._changed:
            self._connections.append(connection)
        try:
            self._serve(environ)
        finally:
            with self._changed:
                self._connections.remove(connection)

    def _serve(self, environ: "WSGIEnvironment") -> None:
        try:
            websocket = simple_websocket.Server.accept(environ)
        except simple_websocket.ConnectionError:
            self._complain("the notification channel was opened with a handshake that is none")
            return
        session = _Session(websocket)
        try:
            if self._let_in(session):
                while True:
                    said = self._read(websocket.receive())
                    if isinstance(said, Auth):
                        raise ProtocolError(["a provider introduced itself twice on the notification channel"])
                    self._replay_user(session, said)
        except ProtocolError as error:
            for sentence in error.sentences:
                self._complain(sentence)
        except (simple_websocket.ConnectionClosed, OSError):
            pass
        finally:
            with self._changed:
                if session in self._sessions:
                    self._sessions.remove(session)
                self._changed.notify_all()
            session.end()

    def close(self) -> None:
        """End all connections, also those on which nobody has introduced himself yet."""
        self.drop()
        with self._changed:
            for connection in self._connections:
                with suppress(OSError):  # it ended already
                    connection.shutdown(socket.SHUT_RDWR)

    def _let_in(self, session: "_Session") -> bool:
        said = self._read(session.websocket.receive())
        if not isinstance(said, Auth):
            raise ProtocolError(["a provider did not introduce itself on the notification channel"])
        try:
            self._tokens.check_provider(f"Bearer {said.token}")
        except CoreError:
            return False  # closed without a word
        with self._changed:
            session.with_zero = bool(said.flags & records.WITH_ZERO)
            self._opened.append(said)
            self._sessions.append(session)
            accounts = [each for each in self._accounts.all() if each.changed_at >= said.replay_from]
            paying = {each.workspace.project for each in self._accounts.all()}
            projects = [
                each for each in self._directory.projects() if each.id in paying and each.modified_at >= said.replay_from
            ]
            self._send([session], accounts, projects)
            self._changed.notify_all()
        return True

    @staticmethod
    def _read(data: str | bytes | None) -> Auth | ReplayUser:
        if data is None:
            raise OSError
        if isinstance(data, str):
            raise ProtocolError(["a frame on the notification channel is text"])
        return records.read(data)

    def _replay_user(self, session: "_Session", said: ReplayUser) -> None:
        with self._changed:
            self._replayed.append(said.username)
            mine = {Workspace(said.username, None)}
            mine |= {Workspace(None, project.id) for project in self._directory.projects(said.username)}
            self._send([session], [each for each in self._accounts.all() if each.workspace in mine], [])
            self._changed.notify_all()

    def _account(self, account: Account) -> None:
        self._send(self._sessions, [account], [])

    def _project(self, project: Project) -> None:
        if any(account.workspace.project == project.id for account in self._accounts.all()):
            self._send(self._sessions, [], [project])

    def _send(self, sessions: Iterable["_Session"], accounts: list[Account], projects: list[Project]) -> None:
        if self._silent:
            return
        granted = [account for account in accounts if account.granted]
        shuffled = self._random.sample(granted, len(granted))
        for session in sessions:
            pieces = [session.project(project) for project in projects]
            pieces += [self._wallet(session, account) for account in shuffled]
            message = b"".join(pieces)
            if message:
                session.put(message)

    def _wallet(self, session: "_Session", account: Account) -> bytes:
        workspace = account.workspace
        flags = records.LOCKED if account.max_usable == 0 else 0
        if workspace.project is not None:
            flags |= records.IS_PROJECT
            project = self._directory.project(workspace.project) or self._directory.add_project(workspace.project)
            owner, reference = session.project(project), session.number("project", project.id)
        else:
            owner, reference = session.user(str(workspace.username)), session.number("user", workspace.username)
        kind = session.category(account.category, self._catalogue.category(account.category) or {})
        return (
            owner
            + kind
            + records.wallet(
                reference,
                session.number("category", account.category),
                account.quota,
                account.usage,
                flags,
                account.changed_at,
                with_zero=session.with_zero,
            )
        )


class _Session:
    """One connection: its references and what waits to be sent."""

    def __init__(self, websocket: Any) -> None:
        self.websocket = websocket
        self.with_zero = False
        self._numbers: dict[str, dict[Any, int]] = {}
        self._said: dict[tuple[str, Any], Any] = {}
        self._outbox: queue.Queue[bytes | None] = queue.Queue(MOST_WAITING)
        self._thread = threading.Thread(target=self._write, name="simulated-core-notifications")
        self._thread.start()

    def number(self, kind: str, key: Any) -> int:
        """The reference of something, from 0."""
        numbers = self._numbers.setdefault(kind, {})
        return numbers.setdefault(key, len(numbers))

    def user(self, username: str) -> bytes:
        """The record of a user, unless it was sent."""
        new = self._is_new("user", username, username)
        return records.user(self.number("user", username), username) if new else b""

    def project(self, project: Project) -> bytes:
        """The record of a project, unless it was sent as it is."""
        if not self._is_new("project", project.id, project):
            return b""
        return records.project(self.number("project", project.id), project.modified_at, project.json())

    def category(self, name: str, content: dict[str, Any]) -> bytes:
        """The record of a category, unless it was sent."""
        new = self._is_new("category", name, name)
        return records.category(self.number("category", name), content) if new else b""

    def put(self, message: bytes) -> None:
        """Send a message by and by. A reader that is too slow loses it."""
        with suppress(queue.Full):
            self._outbox.put(message, timeout=PATIENCE)

    def cut(self) -> None:
        """End the connection, and wake its reader."""
        with suppress(OSError):
            self.websocket.sock.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        """End the connection and the thread."""
        self.cut()
        while self._thread.is_alive():
            with suppress(queue.Full):
                self._outbox.put_nowait(None)
            self._thread.join(0.01)

    def _is_new(self, kind: str, key: Any, content: Any) -> bool:
        if self._said.get((kind, key)) == content:
            return False
        self._said[kind, key] = content
        return True

    def _write(self) -> None:
        while (message := self._outbox.get()) is not None:
            try:
                self.websocket.send(message)
            except (OSError, simple_websocket.ConnectionClosed):
                return
