"""Running one command with a hard time limit and an environment of our own."""

import os
import select
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

LAST_WORDS = 1.0  # seconds that a killed command has to let go of its pipes


class Run(Protocol):
    """Whatever runs a command as :func:`run` does, as this account or as another."""

    def __call__(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        timeout: float,
        stdin: str = "",
        before: Callable[[], None] | None = None,
    ) -> "Finished":
        """See :func:`run`."""


class CommandMissingError(Exception):
    """The command is not there or may not be run; nothing happened."""


class CommandTimeoutError(Exception):
    """The command was ended at its limit; what it had done by then is unknown."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that came to its end by itself."""

    status: int
    output: str
    errors: str


def run(
    argv: Sequence[str],
    env: Mapping[str, str],
    timeout: float,
    stdin: str = "",
    before: Callable[[], None] | None = None,
) -> Finished:
    """Runs a command in a session of its own, so that all of it can be ended at the limit.

    :param timeout: seconds
    :param before: done while the command starts, before it is given its input; if it raises, the command is ended
    :raises CommandMissingError: it could not be started
    :raises CommandTimeoutError: it had to be ended
    """
    try:
        process = _Process(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(env),
            cwd="/",
            start_new_session=True,
            encoding="utf-8",
            errors="replace",
        )
    except OSError as error:
        raise CommandMissingError(f"{argv[0]} cannot be run ({error.strerror})") from None
    try:
        if before is not None:
            before()
        output, errors = process.communicate(stdin, timeout=max(timeout, 0.001))
    except subprocess.TimeoutExpired:
        _end(process)
        raise CommandTimeoutError(f"{Path(argv[0]).name} gave no answer in {timeout:.1f} s") from None
    except BaseException:
        _end(process)
        raise
    return Finished(process.returncode, output, errors)


class _Process(subprocess.Popen[str]):
    """A process whose end is noticed at once: by itself subprocess looks for it every few milliseconds."""

    def wait(self, timeout: float | None = None) -> int:
        """See :meth:`subprocess.Popen.wait`."""
        if timeout is not None and self.returncode is None:
            with suppress(OSError, AttributeError):  # a kernel that does not have it: subprocess looks for the end
                descriptor = os.pidfd_open(self.pid)
                try:
                    ended = select.poll()
                    ended.register(descriptor, select.POLLIN)
                    ended.poll(max(timeout, 0.0) * 1000)
                finally:
                    os.close(descriptor)
        return super().wait(timeout)


def _end(process: "subprocess.Popen[str]") -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    try:
        process.communicate(timeout=LAST_WORDS)
    except subprocess.TimeoutExpired:
        # Something that it started holds the pipes, or the kernel holds it: it is left behind.
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
