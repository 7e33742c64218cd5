"""The runner: the only part of the product that may use sudo, by one rule.

It listens on a socket of its own account, asks the kernel who calls, and hands each request to the small program
that runs as the user whom it is about. Such a program serves many requests, one at a time, and ends when nobody
asks for a while: so a bulk of jobs costs one sudo for each user, and a pass of the worker none.
"""

import logging
import os
import re
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ucloud_slurm.errors import Misconfigured, one_line
from ucloud_slurm.system import ipc
from ucloud_slurm.system.ipc import ConnectionLostError, Message

log = logging.getLogger(__name__)

MOST_PER_USER = 4  # programs of one user at a time
MOST = 32  # programs in all; each takes about 10 MiB
CALLERS = 64  # requests that are served at a time
FRESH = 45.0  # seconds after which an idle program is not used any more; it ends by itself a little later
BEGIN = 10.0  # seconds that a program has to say that it is there
READ = 5.0  # seconds that a caller has to say what it wants
SPARE = 3.0  # seconds that a program has beyond the limit of a request
LARGEST_ANSWER = 1024 * 1024  # bytes; the user could have it say anything

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
SUDO_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}


class ProgramStartError(Exception):
    """The program cannot be started as that user; ``why`` is for the journal."""


class Runner:
    """Serves the requests of the service and the worker. ``sudo_calls`` counts."""

    def __init__(self, sudo: Path, program: Path) -> None:
        self._sudo = sudo
        self._program = program
        self._turn = threading.Condition()
        self._idle: dict[str, list[_Program]] = {}
        self._count: dict[str, int] = {}
        self._ended: list[_Program] = []
        self.sudo_calls = 0

    def serve(self, listener: socket.socket) -> None:
        """Answers until the listener is closed."""
        listener.settimeout(READ)
        with ThreadPoolExecutor(CALLERS, "caller") as callers:
            while True:
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    self._sweep()
                    continue
                except OSError:
                    break
                callers.submit(self._serve, connection)
        self._sweep(everything=True)

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                caller = peer(connection)
                if caller != os.geteuid():
                    log.warning("the account with the number %d asked the runner for something; refused", caller)
                    return
                ipc.serve(connection, self._answer, waits=READ, sends=READ)
            except ConnectionLostError as error:
                log.debug("a caller of the runner is gone: %s", error)
            except Exception as error:  # noqa: BLE001  one request must not end the others
                log.error("unexpected %s in the runner: %s", type(error).__name__, one_line(str(error), 200))

    def _answer(self, message: Message) -> tuple[Message, list[int]]:
        user, within = message.get("user"), message.get("within")
        if not isinstance(user, str) or not _NAME.fullmatch(user) or user == "root":
            return {"refused": "user: not the name of a user"}, []
        if isinstance(within, bool) or not isinstance(within, (int, float)) or not 0 < within < 1000:
            return {"refused": "within: not a number of seconds"}, []
        until = time.monotonic() + within
        try:
            program = self._take(user, until)
        except ProgramStartError as error:
            log.error("jobs cannot run as %s: %s", user, one_line(str(error), 300))
            return {"refused": f"the provider may not act as the account {user}"}, []
        except TimeoutError:
            return {"busy": f"too much is done as {user} at the moment"}, []
        try:
            answer, given = program.ask(message, until - time.monotonic() + SPARE)
        except ConnectionLostError as error:
            self._give(program, good=False)
            log.warning("the program that acts as %s gave no answer: %s", user, error)
            return {"unknown": f"nobody knows what was done as {user}: {error}"}, []
        self._give(program, good=True)
        return answer, given

    def _take(self, user: str, until: float) -> "_Program":
        with self._turn:
            while True:
                waiting = self._idle.get(user, [])
                while waiting:
                    program = waiting.pop()
                    if program.usable():
                        return program
                    self._drop(program)
                if self._count.get(user, 0) < MOST_PER_USER and (self._room() or self._make_room()):
                    self._count[user] = self._count.get(user, 0) + 1
                    break
                left = until - time.monotonic()
                if left <= 0 or not self._turn.wait(left):
                    raise TimeoutError
        try:
            self.sudo_calls += 1
            return _Program(user, self._sudo, self._program)
        except BaseException:
            with self._turn:
                self._forget(user)
            raise

    def _give(self, program: "_Program", *, good: bool) -> None:
        with self._turn:
            if good:
                program.idle_since = time.monotonic()
                self._idle.setdefault(program.user, []).append(program)
                self._turn.notify_all()
            else:
                self._drop(program)

    def _room(self) -> bool:
        return sum(self._count.values()) < MOST

    def _make_room(self) -> bool:
        """Lets the program go that has been idle for longest."""
        idle = [program for waiting in self._idle.values() for program in waiting]
        if not idle:
            return False
        oldest = min(idle, key=lambda program: program.idle_since)
        self._idle[oldest.user].remove(oldest)
        self._drop(oldest)
        return True

    def _drop(self, program: "_Program") -> None:
        program.end()
        self._ended.append(program)
        self._forget(program.user)

    def _forget(self, user: str) -> None:
        self._count[user] -= 1
        if not self._count[user]:
            del self._count[user]
        self._turn.notify_all()

    def _sweep(self, *, everything: bool = False) -> None:
        with self._turn:
            for user, waiting in list(self._idle.items()):
                for program in list(waiting):
                    if everything or not program.usable():
                        waiting.remove(program)
                        self._drop(program)
                if not waiting:
                    del self._idle[user]
        self._ended = [program for program in self._ended if not program.gone()]


class _Program:
    """One running program, and our end of the socket to it."""

    def __init__(self, user: str, sudo: Path, program: Path) -> None:
        self.user = user
        self.idle_since = time.monotonic()
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        # In a file, not a pipe: nobody has to read it, and nothing waits for us to.
        with theirs, tempfile.TemporaryFile() as errors:
            try:
                # -n: never ask for a password. The program takes no arguments, and the rule allows none.
                self._process = subprocess.Popen(
                    [str(sudo), "-n", "-u", user, "--", str(program)],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    env=SUDO_ENVIRONMENT,
                    cwd="/",
                    start_new_session=True,
                )
            except OSError as error:
                self._channel.close()
                raise ProgramStartError(f"{sudo} cannot be run ({error.strerror})") from None
            theirs.close()
            try:
                hello, descriptors = ipc.receive(self._channel, 1024, within=BEGIN)
                ipc.close(descriptors)
                if hello.get("user") != user:
                    raise ConnectionLostError("it is somebody else")
            except ConnectionLostError as error:
                self.end()
                errors.seek(0)
                raise ProgramStartError(errors.read(2000).decode(errors="replace").strip() or str(error)) from None

    def ask(self, message: Message, within: float) -> tuple[Message, list[int]]:
        """Has it do something.

        :raises ConnectionLostError: it is not known what was done
        """
        until = time.monotonic() + within
        ipc.send(self._channel, message, within=within)
        answer, descriptors = ipc.receive(self._channel, LARGEST_ANSWER, within=until - time.monotonic())
        ipc.close(descriptors[1:])
        return answer, descriptors[:1]

    def usable(self) -> bool:
        """Whether it still waits for requests, as far as can be seen."""
        silent = not select.select([self._channel], [], [], 0)[0]
        return silent and time.monotonic() - self.idle_since < FRESH

    def end(self) -> None:
        """Lets go of it. It sees that and ends; it is somebody else's, so that it cannot be made to."""
        self._channel.close()

    def gone(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None


def peer(connection: socket.socket) -> int:
    """The uid of whoever is at the other end of a local socket, as the kernel knows it (unix(7): SO_PEERCRED)."""
    return int.from_bytes(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[4:8], sys.byteorder)


def listener(path: Path, mode: int) -> socket.socket:
    """The socket that systemd hands over, else one that is made here.

    :param mode: who may connect
    :raises Misconfigured: it cannot be made
    """
    if os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS") == "1":
        return socket.socket(fileno=3)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        made.bind(str(path))
        path.chmod(mode)
        made.listen(CALLERS)
    except OSError as error:
        made.close()
        raise Misconfigured(
            [
                f"{path}: the socket cannot be made ({error.strerror}); start it with its systemd unit, "
                "or make the folder and give it to this account."
            ]
        ) from None
    return made
