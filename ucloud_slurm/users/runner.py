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
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ucloud_slurm.errors import Misconfigured, one_line
from ucloud_slurm.system import ipc, request_id
from ucloud_slurm.system.acceptor import accept
from ucloud_slurm.system.accounts import read_rule
from ucloud_slurm.system.bulkhead import admits
from ucloud_slurm.system.ipc import ConnectionLostError, Message
from ucloud_slurm.system.lean import boot_clock
from ucloud_slurm.users.program import CALLER_SECONDS, KEPT_SECONDS, LONGEST_SECONDS, Program, ProgramStartError, second_part

log = logging.getLogger(__name__)

PROGRAMS_PER_USER = 4  # also of those that do not end
PROGRAMS = 64  # in all; each takes about 10 MiB
ROOMY = PROGRAMS // 2  # with fewer, idle ones are kept for long, and some are started before they are needed
IDLE_SECONDS = 45.0  # for which others are kept
REQUESTS_PER_USER = 16
REQUESTS = 160  # that are served at a time
MARGIN_SECONDS = 3.0  # that a program has beyond the deadline of a request
SILENCE_SECONDS = 2.0  # after which a request without an answer counts as silence of the user's programs
PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 15.0, 600.0  # for which a user's silent programs are not asked
WAIT_SECONDS = 0.5  # between two looks whether a program has ended

# Descriptors: a request has its connection and a socket that is passed on; a program has its channel and its errors,
# and, while it starts, the other ends of both, /dev/null and a pipe of subprocess. The rest: the listener, the three of
# every process, the rule about people in each thread that reads it.
MOST_DESCRIPTORS = 3 * REQUESTS + (2 + 5) * PROGRAMS + 16


class TooManyError(Exception):
    """The user has, or all have, as many programs as they can at the moment."""


class _Silence(NamedTuple):
    """A user's programs have not answered. Times: monotonic seconds."""

    since: float
    until: float


def _refusal(why: str) -> Message:
    """A final answer. The service takes no other's for final: one of another release may not know the request."""
    return {"refused": why, "form": ipc.FORM}


class Runner:
    """Serves the requests of web and worker. ``sudo_calls`` counts."""

    def __init__(self, sudo: Path, program: Path) -> None:
        self._sudo = sudo
        self._program = program
        self._changed = threading.Condition()
        self._requests: Counter[str] = Counter()  # by user
        self._programs: Counter[str] = Counter()  # that are open, by user
        self._idle: dict[str, list[Program]] = {}
        self._closed: dict[str, list[Program]] = {}  # that have not ended yet
        self._silent: dict[str, _Silence] = {}
        self._pruned_at = 0.0
        self.sudo_calls = 0

    def serve(self, listener: socket.socket) -> None:
        """Answers until the listener is closed."""
        accept(listener, self._serve, REQUESTS, "caller", between=self._prune)
        self._prune(everything=True)

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                caller = ipc.peer(connection)
                if caller != os.geteuid():
                    log.warning("the runner refused a request of the account with uid %d", caller)
                    return
                message, given = ipc.receive(connection, ipc.LARGEST_BYTES, within=CALLER_SECONDS, descriptors=1)
                request = request_id.well_formed(message.pop("request", None))
                try:
                    with request_id.serving(request_id.Served(request) if request else None):
                        answer = self._answer(message, given, connection)
                finally:
                    ipc.close(given)
                ipc.send(connection, answer, within=CALLER_SECONDS)
            except ConnectionLostError as error:
                log.debug("a request to the runner was not answered: %s", error)
            except Exception as error:  # noqa: BLE001  one request must not end the others
                log.error("unexpected %s in the runner: %s", type(error).__name__, one_line(str(error), 200))

    def _answer(self, message: Message, given: Sequence[int], connection: socket.socket) -> Message:
        if ipc.is_of_other_release(message):
            return {"busy": "the service is of another release than the runner; restart both"}
        user, deadline = message.get("user"), message.get("deadline")
        try:
            rule = read_rule()
        except Misconfigured as error:
            log.error("nobody can be impersonated: %s", one_line(str(error), 300))
            return {"busy": "the rule about people cannot be used; the journal of the runner says why"}
        if not isinstance(user, str) or not rule.allows_name(user) or user == "root":
            return _refusal("user: not the name of a user")
        latest = boot_clock() + LONGEST_SECONDS
        if isinstance(deadline, bool) or not isinstance(deadline, (int, float)) or not 0 <= deadline <= latest:
            return _refusal("deadline: not a time that is near (clock_gettime(2): CLOCK_BOOTTIME)")
        left = deadline - boot_clock()
        if left <= 0:
            return {"busy": "the request came after its deadline"}
        with self._changed:
            silence = self._silent.get(user)
            if silence is not None and time.monotonic() < silence.until:
                return {"busy": f"the programs that act as {user} did not answer a moment ago"}
            most = 1 if silence is not None else REQUESTS_PER_USER
            if not admits(self._requests[user], most, self._requests.total(), REQUESTS):
                return {"busy": f"too many requests are served as {user} at the moment"}
            self._requests[user] += 1
        try:
            return self._ask(user, message, given, time.monotonic() + left, connection)
        finally:
            with self._changed:
                self._requests -= Counter([user])

    def _ask(self, user: str, message: Message, given: Sequence[int], until: float, connection: socket.socket) -> Message:
        begun, sent = time.monotonic(), False
        program = None
        try:
            if message.get("verb") == "wake":
                if self._may_wake(user):
                    self._release(self._started(user, until))
                return {}
            program = self._acquire(user, until)
            sent = True
            answer = program.ask(message, given, until - time.monotonic() + MARGIN_SECONDS)
            if answer.get("waits") is True and message.get("verb") == "start":
                message, left = second_part(connection, answer, message)
                begun, sent = time.monotonic(), not program.is_readable()  # the caller's time is not the program's
                if not sent:
                    raise ConnectionLostError("it did not wait for the job")
                answer = program.ask(message, [], left + MARGIN_SECONDS)
        except ProgramStartError as error:
            log.error("nothing can be done as %s: %s", user, one_line(str(error), 300))
            return _refusal(f"the provider may not act as the account {user}")
        except TooManyError:
            return {"busy": f"too many requests are served as {user} at the moment"}
        except ConnectionLostError as error:
            self._record_failure(user, program, begun)
            log.warning("the program that acts as %s gave no answer: %s", user, error)
            if not sent:
                return {"busy": f"the program that acts as {user} did nothing ({error})"}
            return {"unknown": f"it is unknown what was done as {user}: {error}"}
        if "refused" in answer:
            log.error("the program that acts as %s refuses: %s", user, one_line(str(answer["refused"]), 300))
        self._release(program)
        return answer

    def _release(self, program: "Program") -> None:
        """A program has answered and waits for requests."""
        with self._changed:
            self._silent.pop(program.user, None)
            program.idle_since = time.monotonic()
            self._idle.setdefault(program.user, []).append(program)
            self._changed.notify_all()

    def _may_wake(self, user: str) -> bool:
        """Whether a program is started before it is needed, which then counts; it takes the place of none."""
        with self._changed:
            self._reap(user)
            if self._programs[user] or user in self._closed or self._programs.total() >= ROOMY:
                return False
            self._programs[user] += 1
        return True

    def _record_failure(self, user: str, program: "Program | None", begun: float) -> None:
        now = time.monotonic()
        with self._changed:
            # What stopped it may have stopped the user's others too.
            for each in (*([program] if program else []), *self._idle.pop(user, [])):
                self._discard(each)
            if now - begun > SILENCE_SECONDS:
                since = self._silent[user].since if user in self._silent else begun
                self._silent[user] = _Silence(since, now + min(max(PAUSE_SECONDS, now - since), LONGEST_PAUSE_SECONDS))

    def _acquire(self, user: str, until: float) -> "Program":
        with self._changed:
            while True:
                waiting = self._idle.get(user, [])
                while waiting:
                    program = waiting.pop()
                    if program.is_usable():
                        return program
                    self._discard(program)
                if self._may_start(user):
                    self._programs[user] += 1
                    break
                left = until - time.monotonic()
                if left <= 0 or not self._programs[user]:
                    raise TooManyError
                self._changed.wait(min(left, WAIT_SECONDS))
        return self._started(user, until)

    def _started(self, user: str, until: float) -> "Program":
        """A new program, which has been counted."""
        try:
            self.sudo_calls += 1
            program = Program(user, self._sudo, self._program)
        except BaseException:
            with self._changed:
                self._uncount(user)
            raise
        try:
            program.greet(until - time.monotonic() + MARGIN_SECONDS)
        except BaseException:
            with self._changed:
                self._discard(program)
            raise
        return program

    def _may_start(self, user: str) -> bool:
        """Whether one more program may run; closes the one that has been idle for longest if that makes it possible."""
        self._reap(user)
        own = self._programs[user] + len(self._closed.get(user, []))
        idle = [program for waiting in self._idle.values() for program in waiting]
        every = self._programs.total()
        if not admits(own, PROGRAMS_PER_USER, every - len(idle), PROGRAMS):
            return False
        if every >= PROGRAMS:
            oldest = min(idle, key=lambda program: program.idle_since)
            self._idle[oldest.user].remove(oldest)
            self._discard(oldest)
        return True

    def _discard(self, program: "Program") -> None:
        # It sees the end of its input and ends, or has been stopped: it runs as another user, and cannot be killed.
        program.close()
        self._closed.setdefault(program.user, []).append(program)
        self._uncount(program.user)

    def _uncount(self, user: str) -> None:
        self._programs -= Counter([user])
        self._changed.notify_all()

    def _reap(self, user: str) -> None:
        left = [program for program in self._closed.pop(user, []) if not program.has_ended()]
        if left:
            self._closed[user] = left

    def _prune(self, *, everything: bool = False) -> None:
        now = time.monotonic()
        if now - self._pruned_at < CALLER_SECONDS and not everything:
            return
        self._pruned_at = now
        with self._changed:
            idle = KEPT_SECONDS if self._programs.total() <= ROOMY else IDLE_SECONDS
            for user, waiting in list(self._idle.items()):
                for program in list(waiting):
                    if everything or not program.is_usable(idle):
                        waiting.remove(program)
                        self._discard(program)
                if not waiting:
                    del self._idle[user]
            for user in list(self._closed):
                self._reap(user)
            kept = {user: each for user, each in self._silent.items() if now < each.until + LONGEST_PAUSE_SECONDS}
            self._silent = kept
