"""The runner: the only part of the product that may use sudo, by one rule.

It listens on a socket of its own account, asks the kernel who calls, and passes each request to the program
``ucloud-slurm-as-user``, which runs as the user that the request is about. A program serves many requests, one at a
time, and ends when it is idle: a bulk of jobs needs one sudo for each user, and a pass of the worker needs none.
"""

import logging
import os
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ucloud_slurm.errors import Misconfigured, one_line
from ucloud_slurm.system import ipc
from ucloud_slurm.system.accounts import read_rule
from ucloud_slurm.system.child import Child
from ucloud_slurm.system.ipc import ConnectionLostError, Message

log = logging.getLogger(__name__)

PROGRAMS_PER_USER = 4
PROGRAMS = 32  # in all; each takes about 10 MiB
REQUESTS = 64  # that are served at a time
REQUESTS_PER_USER = 32  # of them: a user may stop the program, so that each takes its whole time
REUSE_SECONDS = 45.0  # that an idle program is used again; it ends by itself a little later
START_SECONDS = 10.0  # until a program must say who it is
CALLER_SECONDS = 5.0  # for a caller to send its request, and to take the answer
MARGIN_SECONDS = 3.0  # that a program has beyond the limit of a request
ANSWER_BYTES = 1024 * 1024  # of an answer: its user could have it say anything
ERRORS_BYTES = 2000

SUDO_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}


class ProgramStartError(Exception):
    """The program does not start as that user; the text is for the journal."""


class Runner:
    """Serves the requests of web and worker. ``sudo_calls`` counts."""

    def __init__(self, sudo: Path, program: Path) -> None:
        self._sudo = sudo
        self._program = program
        self._changed = threading.Condition()
        self._idle: dict[str, list[_Program]] = {}
        self._count: dict[str, int] = {}
        self._served: Counter[str] = Counter()  # requests, by user
        self._closed: list[_Program] = []
        self.sudo_calls = 0

    def serve(self, listener: socket.socket) -> None:
        """Answers until the listener is closed."""
        listener.settimeout(CALLER_SECONDS)
        with ThreadPoolExecutor(REQUESTS, "caller") as callers:
            while True:
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    self._prune()
                    continue
                except OSError:
                    break
                callers.submit(self._serve, connection)
        self._prune(everything=True)

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                caller = ipc.peer(connection)
                if caller != os.geteuid():
                    log.warning("the runner refused a request of the account with uid %d", caller)
                    return
                ipc.serve(connection, self._answer, waits=CALLER_SECONDS, sends=CALLER_SECONDS)
            except ConnectionLostError as error:
                log.debug("a request to the runner was not answered: %s", error)
            except Exception as error:  # noqa: BLE001  one request must not end the others
                log.error("unexpected %s in the runner: %s", type(error).__name__, one_line(str(error), 200))

    def _answer(self, message: Message) -> tuple[Message, list[int]]:
        user, within = message.get("user"), message.get("within")
        try:
            rule = read_rule()
        except Misconfigured as error:
            log.error("nobody can be impersonated: %s", one_line(str(error), 300))
            return {"busy": "the rule about people cannot be used; the journal of the runner says why"}, []
        if not isinstance(user, str) or not rule.allows_name(user) or user == "root":
            return {"refused": "user: not the name of a user"}, []
        if isinstance(within, bool) or not isinstance(within, (int, float)) or not 0 < within < 1000:
            return {"refused": "within: not a number of seconds"}, []
        with self._changed:
            if self._served[user] >= REQUESTS_PER_USER:
                return {"busy": f"too many requests are served as {user} at the moment"}, []
            self._served[user] += 1
        try:
            return self._ask(user, message, time.monotonic() + within)
        finally:
            with self._changed:
                self._served -= Counter([user])

    def _ask(self, user: str, message: Message, until: float) -> tuple[Message, list[int]]:
        try:
            program = self._acquire(user, until)
        except ProgramStartError as error:
            log.error("jobs cannot run as %s: %s", user, one_line(str(error), 300))
            return {"refused": f"the provider may not act as the account {user}"}, []
        except TimeoutError:
            return {"busy": f"too many requests are served as {user} at the moment"}, []
        try:
            answer, given = program.ask(message, until - time.monotonic() + MARGIN_SECONDS)
        except ConnectionLostError as error:
            with self._changed:
                # What stopped it may have stopped the user's others too.
                for each in (program, *self._idle.pop(user, [])):
                    self._discard(each)
            log.warning("the program that acts as %s gave no answer: %s", user, error)
            return {"unknown": f"it is unknown what was done as {user}: {error}"}, []
        if "refused" in answer:
            log.error("the program that acts as %s refuses: %s", user, one_line(str(answer["refused"]), 300))
        with self._changed:
            program.idle_since = time.monotonic()
            self._idle.setdefault(user, []).append(program)
            self._changed.notify_all()
        return answer, given

    def _acquire(self, user: str, until: float) -> "_Program":
        with self._changed:
            while True:
                waiting = self._idle.get(user, [])
                while waiting:
                    program = waiting.pop()
                    if program.is_usable():
                        return program
                    self._discard(program)
                if self._count.get(user, 0) < PROGRAMS_PER_USER and self._has_capacity():
                    self._count[user] = self._count.get(user, 0) + 1
                    break
                left = until - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    raise TimeoutError
        try:
            self.sudo_calls += 1
            return _Program(user, self._sudo, self._program)
        except BaseException:
            with self._changed:
                self._uncount(user)
            raise

    def _has_capacity(self) -> bool:
        """Whether one more program may run; closes the one that has been idle for longest if that makes it possible."""
        if sum(self._count.values()) < PROGRAMS:
            return True
        idle = [program for waiting in self._idle.values() for program in waiting]
        if not idle:
            return False
        oldest = min(idle, key=lambda program: program.idle_since)
        self._idle[oldest.user].remove(oldest)
        self._discard(oldest)
        return True

    def _discard(self, program: "_Program") -> None:
        # It sees the end of its input and ends. It runs as another user, so that it cannot be killed.
        program.close()
        self._closed.append(program)
        self._uncount(program.user)

    def _uncount(self, user: str) -> None:
        self._count[user] -= 1
        if not self._count[user]:
            del self._count[user]
        self._changed.notify_all()

    def _prune(self, *, everything: bool = False) -> None:
        with self._changed:
            for user, waiting in list(self._idle.items()):
                for program in list(waiting):
                    if everything or not program.is_usable():
                        waiting.remove(program)
                        self._discard(program)
                if not waiting:
                    del self._idle[user]
        self._closed = [program for program in self._closed if not program.has_ended()]


class _Program(Child):
    """One running program."""

    def __init__(self, user: str, sudo: Path, program: Path) -> None:
        """Starts it and waits until it says who it is.

        :raises ProgramStartError: it cannot be started, or runs as another user
        """
        self.user = user
        self.idle_since = time.monotonic()
        try:
            # -n: never ask for a password. The program takes no arguments, and the rule allows none.
            super().__init__([str(sudo), "-n", "-u", user, "--", str(program)], SUDO_ENVIRONMENT)
        except OSError as error:
            raise ProgramStartError(f"{sudo} cannot be run ({error.strerror})") from None
        try:
            hello, _ = ipc.receive(self.channel, 1024, within=START_SECONDS)
            if hello.get("user") != user:
                raise ConnectionLostError("it runs as another user")
        except ConnectionLostError as error:
            printed = self.errors(ERRORS_BYTES).strip()
            self.close()
            raise ProgramStartError(printed or str(error)) from None

    def ask(self, message: Message, within: float) -> tuple[Message, list[int]]:
        """Sends a request and returns the answer with at most one descriptor.

        :raises ConnectionLostError: it is unknown what was done
        """
        until = time.monotonic() + within
        ipc.send(self.channel, message, within=within)
        return ipc.receive(self.channel, ANSWER_BYTES, within=until - time.monotonic(), descriptors=1)

    def is_usable(self) -> bool:
        """Whether it still waits for requests, as far as can be seen."""
        return not self.is_readable() and time.monotonic() - self.idle_since < REUSE_SECONDS
