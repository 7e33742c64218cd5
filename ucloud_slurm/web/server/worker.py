"""gunicorn's threaded worker, which spends a thread on a request only when all of it is there.

``worker_class = "ucloud_slurm.web.server.worker.Worker"``. What it uses of gunicorn's internals is listed in
``tests/rooms/web/test_gunicorn_internals.py``.
"""

import errno
import io
import socket
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar

from gunicorn.workers.gthread import ThreadWorker

from ucloud_slurm.errors import Problem, place
from ucloud_slurm.system import deadline, limits
from ucloud_slurm.system.journal import Rarely
from ucloud_slurm.web.server import budgets
from ucloud_slurm.web.server.budgets import Budgets, Waiting
from ucloud_slurm.web.server.connection import Answering, Connection, Phase, UnreadBody
from ucloud_slurm.web.server.peers import Peers
from ucloud_slurm.web.server.pool import OVERDUE, Overdue, Pool
from ucloud_slurm.web.server.requests import RequestClass, arrival, caller, head_ends, refusal

PASSING = (errno.EAGAIN, errno.ECONNABORTED, errno.EINTR, errno.EPROTO, errno.EPERM)  # accept(2)
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Worker(ThreadWorker):  # type: ignore[misc]
    """See the module. The event loop reads requests; each class of callers has threads and room of its own."""

    MOST: ClassVar = {Phase.HEAD: budgets.MOST_HEADS, Phase.IDLE: budgets.MOST_IDLE, Phase.CLOSING: budgets.MOST_CLOSING}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.worker_connections = budgets.MOST_CONNECTIONS
        seconds = {
            Phase.HEAD: budgets.HEAD_SECONDS,
            Phase.BODY: budgets.BODY_SECONDS,
            Phase.IDLE: float(self.cfg.keepalive),
            Phase.CLOSING: budgets.CLOSE_SECONDS,
        }
        self._waiting = {
            phase: Waiting[Connection](seconds[phase], self.MOST.get(phase, budgets.MOST_CONNECTIONS)) for phase in seconds
        }
        self._warn = Rarely(self.log.warning)
        self._accept_at = 0.0

    def init_process(self) -> None:
        """Prepares the process and runs the event loop until the end."""
        limits.raise_open_files()
        self._peers = Peers(self.sockets)
        super().init_process()

    def load_wsgi(self) -> None:
        """Loads the application, which knows the tokens of UCloud and how long a request may be."""
        super().load_wsgi()
        self._provider = self.wsgi.extensions["ucloud-slurm"]
        self._shares = budgets.shares(self.cfg.threads, self.wsgi.config["MAX_CONTENT_LENGTH"])
        self._budgets = Budgets(self._shares)
        self._overdue = Overdue(self.wsgi.config["ANSWER_WITHIN"], self._shares[RequestClass.UCLOUD].threads)
        self.tpool = Pool(self._shares)

    def get_thread_pool(self) -> Pool:
        """No threads yet; see :meth:`load_wsgi`."""
        return Pool({})

    # -- the event loop -------------------------------------------------------------------------------------

    def accept(self, listener: Any) -> None:
        """Accepts a connection and waits for its first request."""
        try:
            sock, client = listener.accept()
        except OSError as error:
            if error.errno in EXHAUSTED:
                self._warn("accept", f"no connection can be accepted ({error.strerror})")
                self.set_accept_enabled(False)
                self.worker_connections = 0  # else run() enables it at once
                self._accept_at = time.monotonic() + budgets.EXHAUSTED_SECONDS
            elif error.errno not in PASSING:
                raise
            return
        refused = self._peers.refused(sock, listener)
        if refused is not None:
            self._warn(refused, refused)
            sock.close()
            return
        self.nr_conns += 1
        self._wait(Connection(sock, client, listener.getsockname()), Phase.HEAD)

    def _wait(self, conn: Connection, phase: Phase) -> None:
        """Waits for the other side, after this side has had the connection."""
        if conn.sock.fileno() < 0:
            self.nr_conns -= 1
            return
        conn.sock.setblocking(False)
        self.poller.register(conn.sock, 1, partial(self._readable, conn))
        conn.phase = phase
        self._enter(conn)

    def _enter(self, conn: Connection) -> None:
        oldest = self._waiting[conn.phase].add(conn, time.monotonic())
        if oldest is not None:
            self._forget(oldest)

    def _move(self, conn: Connection, phase: Phase) -> None:
        self._waiting[conn.phase].remove(conn)
        conn.phase = phase
        self._enter(conn)

    def _forget(self, conn: Connection) -> None:
        """Closes a connection that is in no table any more."""
        self.poller.unregister(conn.sock)
        if conn.phase is Phase.BODY:
            self._budgets.give_back(conn.caller, conn.body_bytes)
        self.nr_conns -= 1
        conn.sock.close()

    def _drop(self, conn: Connection) -> None:
        self._waiting[conn.phase].remove(conn)
        self._forget(conn)

    def _readable(self, conn: Connection, _file: object) -> None:
        if conn.sock.fileno() < 0:  # it had to go for another one, after the poller had reported it
            return
        try:
            data = conn.sock.recv(budgets.READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._drop(conn)
        elif conn.phase is not Phase.CLOSING:
            if conn.phase is Phase.IDLE:
                self._move(conn, Phase.HEAD)
            if conn.phase is Phase.HEAD and not conn.buffer:
                conn.arrived = time.monotonic()
            conn.buffer += data
            self._advance(conn)

    def _advance(self, conn: Connection) -> None:
        """Does what the bytes that are there allow."""
        if conn.phase is Phase.HEAD:
            if not head_ends(conn.buffer, conn.searched, self.cfg.limit_request_line):
                conn.searched = len(conn.buffer)
                return
            refused = self._read_head(conn)
            if refused is not None:
                self._refuse(conn, refused)
                return
            self._move(conn, Phase.BODY)
        if len(conn.buffer) >= conn.body_bytes:
            self._answer(conn)

    def _read_head(self, conn: Connection) -> bytes | None:
        """Reads a head and takes room for the request; gives the answer where that cannot be done."""
        conn.requests += 1
        request = conn.parse(self.cfg)
        if isinstance(request, bytes):
            return request
        headers = dict(request.headers)
        conn.arrived = arrival(headers.get("X-REQUEST-START"), conn.arrived, time.time(), time.monotonic())
        who = caller(request.path, headers, is_authenticated=self._is_authenticated(request.path, headers))
        length = request.body.reader.length
        body_bytes = length if length <= self._shares[who.kind].body_bytes else 0
        if not self._budgets.take(who, body_bytes):
            self._warn(who.kind, f"{who.kind}: more requests than their share; answered with 429")
            why = "The provider has as many requests as it can answer; please try again in a few seconds."
            return refusal(429, why, budgets.RETRY_SECONDS)
        conn.request, conn.caller, conn.body_bytes, conn.claim = request, who, body_bytes, threading.Lock()
        conn.buffer, conn.searched = bytearray(request.unreader.take_buffered()), 0
        if body_bytes < length:
            request.body = UnreadBody()
            request.force_close()
        elif request._expected_100_continue:
            self._send(conn, b"HTTP/1.1 100 Continue\r\n\r\n")
        request._expected_100_continue = False
        return None

    def _is_authenticated(self, path: str, headers: dict[str, str]) -> bool:
        authorization = headers.get("AUTHORIZATION")
        if authorization is None or not path.startswith("/ucloud/"):
            return False
        try:
            self._provider.tokens.verify(authorization, self._provider.now())
        except Problem:
            return False
        return True

    def _answer(self, conn: Connection) -> None:
        """Has a thread answer a request that is whole."""
        self._waiting[conn.phase].remove(conn)
        conn.phase = Phase.ANSWERING
        self.poller.unregister(conn.sock)
        if not isinstance(conn.request.body, UnreadBody):
            conn.request.body = io.BytesIO(bytes(conn.buffer[: conn.body_bytes]))
            del conn.buffer[: conn.body_bytes]
        if self._overdue.refuses(conn.caller):
            self._answer_at_once(conn, 500, OVERDUE)
            self._give_back(conn)
            return
        try:
            future = self.tpool.submit(conn.caller, lambda: self.handle(conn))
        except RuntimeError as error:
            self._warn("threads", f"a request is answered with 500 ({error})")
            self._answer_at_once(conn, 500, "The provider cannot start a thread; please try again in a few seconds.")
            self._give_back(conn)
            return
        self._overdue.add(conn, future, time.monotonic())
        future.add_done_callback(lambda done: self.method_queue.defer(self.finish_request, conn, done))

    def _answer_at_once(self, conn: Connection, status: int, why: str) -> None:
        self._send(conn, refusal(status, why, budgets.RETRY_SECONDS))
        self._hang_up(conn)

    def _give_back(self, conn: Connection) -> None:
        self._budgets.give_back(conn.caller, conn.body_bytes)
        conn.request, conn.body_bytes = None, 0

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Does what is to be done on connections, and answers the calls that are overdue."""
        super().wait_for_and_dispatch_events(min(timeout, self._overdue.left(time.monotonic())))
        for conn in self._overdue.take(time.monotonic()):
            self._warn("overdue", "a call is answered with 500: its thread does not come back from a disk or a name service")
            self._answer_at_once(conn, 500, OVERDUE)

    def finish_request(self, conn: Connection, fs: Future[bool]) -> None:
        """Takes a connection back from a thread."""
        self._give_back(conn)
        if self._overdue.remove(conn):
            return
        error = None if fs.cancelled() else fs.exception()
        if error is not None:
            self.log.error("unexpected %s at %s; please report it", type(error).__name__, place(error))
            self._send(conn, refusal(500, "Internal error of the provider"))
        if error is not None or fs.cancelled() or not fs.result():
            self._hang_up(conn)
        elif conn.buffer:
            self._wait(conn, Phase.HEAD)
            self._advance(conn)
        else:
            self._wait(conn, Phase.IDLE)

    def _hang_up(self, conn: Connection) -> None:
        """Sends the end; the other side may send the rest of what it is sending (RFC 9112, section 9.6)."""
        with suppress(OSError):
            conn.sock.shutdown(socket.SHUT_WR)
        self._wait(conn, Phase.CLOSING)

    def _send(self, conn: Connection, answer: bytes) -> None:
        """Sends a short answer, if the other side takes it at once."""
        with suppress(OSError):
            conn.sock.setblocking(False)
            conn.sock.send(answer)

    def _refuse(self, conn: Connection, answer: bytes) -> None:
        """Answers without a thread, and hangs up."""
        self._send(conn, answer)
        with suppress(OSError):
            conn.sock.shutdown(socket.SHUT_WR)
        if conn.phase is Phase.BODY:
            self._budgets.give_back(conn.caller, conn.body_bytes)
        conn.buffer.clear()
        self._move(conn, Phase.CLOSING)

    def murder_pending(self) -> None:
        """Closes what has waited too long; accepts again after a time without descriptors."""
        now = time.monotonic()
        if now >= self._accept_at:
            self.worker_connections = budgets.MOST_CONNECTIONS
        if not self.alive:
            for phase in (Phase.HEAD, Phase.IDLE):
                self._waiting[phase].hurry(now + budgets.STOP_SECONDS)
        for phase, waiting in self._waiting.items():
            for conn in waiting.expired(now):
                if phase in (Phase.HEAD, Phase.BODY) and (conn.buffer or phase is Phase.BODY):
                    self._send(conn, refusal(408, "The request was sent too slowly."))
                self._forget(conn)

    def murder_keepalived(self, force: bool = False) -> None:
        """Closes, at the end of the process, what still waits."""
        for waiting in self._waiting.values() if force else ():
            for conn in waiting.expired(float("inf")):
                self._forget(conn)

    # -- threads --------------------------------------------------------------------------------------------

    def handle(self, conn: Connection) -> bool:
        """Answers a request; gives whether the connection can have another one. Runs in a thread."""
        try:
            conn.sock.settimeout(budgets.SEND_SECONDS)
            with deadline.arrived_at(conn.arrived):
                return bool(self.handle_request(conn.request, Answering(conn)))
        except (OSError, StopIteration):  # the other side has gone, or does not read
            return False
