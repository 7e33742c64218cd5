"""A kept scontrol(1): it has loaded, and looks at jobs and changes them in a millisecond each.

It reads lines from its standard input, and repeats each on its output (readline(3)). After each line it gets a word that
nobody knows beforehand and that is none of its commands. When it has repeated that word, and complained about it, its
answer to the line is whole, whatever texts of users are in it.
"""

import logging
import os
import select
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

log = logging.getLogger(__name__)

START_SECONDS = 2.0  # until it must have repeated the first word
WAIT_SECONDS = 0.1  # for other threads' lines
KEPT_SECONDS = 600.0  # after which it is started again: it has read Slurm's configuration once
PAUSE_SECONDS = 600.0  # before another try, where an scontrol does not repeat its input
MOST_BYTES = 1 << 20


class SessionLostError(Exception):
    """It has been asked, and gave no whole answer: what it was asked for may have been done or not."""


class Answer(NamedTuple):
    """What scontrol printed for a line."""

    output: str
    errors: str


class Session:
    """At most one scontrol, started with the first line. Safe for several threads; a fork of the process has its own."""

    def __init__(self, argv: list[str], env: Mapping[str, str]) -> None:
        """Nothing is started.

        :param env: its whole environment, without a terminal (``TERM``), so that it repeats its input as it is
        """
        self._argv = argv
        self._env = {key: value for key, value in env.items() if key != "TERM"} | {"INPUTRC": os.devnull}
        self._lock = threading.Lock()
        self._process: _Process | None = None
        self._not_before = 0.0
        self._owner = os.getpid()

    def ask(self, line: str, within: float) -> Answer | None:
        """Has scontrol execute a line.

        :param within: seconds
        :returns: what it printed; None: it has not been asked
        :raises SessionLostError: it gave no whole answer
        """
        until = time.monotonic() + within
        if self._owner != os.getpid() or not self._lock.acquire(timeout=max(min(WAIT_SECONDS, within), 0.0)):
            return None
        try:
            process = self._ready(until)
            if process is None:
                return None
            try:
                return process.ask(line, until)
            except SessionLostError:
                self._end()
                raise
        finally:
            self._lock.release()

    def close(self) -> None:
        """Ends it. It is not started again."""
        with self._lock:
            self._not_before = float("inf")
            if self._owner == os.getpid():
                self._end()

    def _ready(self, until: float) -> "_Process | None":
        now = time.monotonic()
        if self._process is not None and (now - self._process.started_at > KEPT_SECONDS or self._process.has_ended()):
            self._end()
        if self._process is None and now >= self._not_before:
            try:
                self._process = _Process(self._argv, self._env)
                self._process.ask("", min(until, now + START_SECONDS))
            except (OSError, SessionLostError) as error:
                log.debug("scontrol is started for each call: %s", error)
                self._end()
                self._not_before = now + PAUSE_SECONDS
        return self._process

    def _end(self) -> None:
        if self._process is not None:
            self._process.end()
            self._process = None


class _Process:
    """An scontrol that waits for lines.

    :ivar started_at: monotonic seconds
    """

    def __init__(self, argv: list[str], env: Mapping[str, str]) -> None:
        import subprocess  # most passes change nothing, and start without it

        self.started_at = time.monotonic()
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            argv, stdin=pipe, stdout=pipe, stderr=pipe, env=dict(env), cwd="/", start_new_session=True, bufsize=0
        )
        if self._process.stdin is None or self._process.stdout is None or self._process.stderr is None:
            raise OSError("it has no pipes")
        self._input, self._outputs = self._process.stdin, (self._process.stdout, self._process.stderr)

    def has_ended(self) -> bool:
        """Whether it has; never waits."""
        return self._process.poll() is not None

    def ask(self, line: str, until: float) -> Answer:
        """See :meth:`Session.ask`; an empty line is none.

        :param until: monotonic seconds
        """
        word = os.urandom(16).hex()
        lines = f"{line}\n{word}\n" if line else f"{word}\n"
        try:
            os.write(self._input.fileno(), lines.encode())
        except OSError as error:
            raise SessionLostError(f"scontrol has ended ({error.strerror})") from None
        output, errors = (text.decode(errors="replace") for text in self._read(word.encode(), until))
        _, _, answer = output[: output.rindex(word)].partition(f"{line}\n")
        answer = answer[: answer.rfind("\n") + 1]  # without the prompt before the word
        return Answer(answer, "".join(each for each in errors.splitlines(keepends=True) if word not in each))

    def _read(self, word: bytes, until: float) -> list[bytes]:
        """Both outputs, up to the line with the word in each."""
        read = {output.fileno(): b"" for output in self._outputs}
        poll = select.poll()
        for descriptor in read:
            poll.register(descriptor, select.POLLIN)
        while not all(word + b"\n" in text or (word in text and text.endswith(b"\n")) for text in read.values()):
            ready = poll.poll(max(until - time.monotonic(), 0.0) * 1000)
            if not ready:
                raise SessionLostError("scontrol gave no answer in time")
            for descriptor, _ in ready:
                piece = os.read(descriptor, 65536)
                read[descriptor] += piece
                if not piece or len(read[descriptor]) > MOST_BYTES:
                    raise SessionLostError("scontrol has ended" if not piece else "scontrol printed too much")
        return [*read.values()]

    def end(self) -> None:
        """Kills it, unless it has ended."""
        with suppress(ProcessLookupError):
            self._process.kill()
        for each in (self._input, *self._outputs):
            with suppress(OSError):
                each.close()
        self._process.wait()
