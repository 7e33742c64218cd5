"""Runs one command with a hard time limit and a fixed environment."""

import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

from ucloud_slurm.system import deadline, limits

PIPE_SECONDS = 1.0  # for a killed command and what it started to close its pipes
KILL_SECONDS = 0.05  # of these, also for a caller who has no time left


class Started(Protocol):
    """A command that has been started, or is started with its input, and waits for that input."""

    def finish(self, stdin: str, timeout: float) -> "Finished":
        """Gives the command its input and waits for its end.

        :param timeout: seconds
        :raises CommandMissingError: it could not be started
        :raises CommandTimeoutError: it was killed at the limit; what it had done by then is unknown
        """

    def kill(self) -> None:
        """Kills a command that has not been given its input."""


class Start(Protocol):
    """Starts a command as the account of this process, or as another user."""

    def __call__(self, argv: Sequence[str], env: Mapping[str, str], by_library: Mapping[str, Any] | None = None, /) -> Started:
        """Starts it.

        :param by_library: the same work for a process of that user that has Slurm's library, which then does it instead
        :raises CommandMissingError: it could not be started
        """


class Preparation(Protocol):
    """A job's folder, and the command that submits the job, as its user."""

    def start(self, argv: Sequence[str], env: Mapping[str, str], by_library: Mapping[str, Any] | None = None) -> Started:
        """Starts the command, which waits for its input; the folder may be made meanwhile. See :class:`Start`.

        :raises CommandMissingError: it could not be started
        """

    def ready(self) -> None:
        """Returns when the folder is there, or will be before the command has its input.

        :raises StorageFullError: it cannot be made or written
        """


class CommandMissingError(Exception):
    """The command is not there or may not be run; nothing happened."""


class CommandTimeoutError(Exception):
    """The command was ended at its limit; what it had done by then is unknown."""


class Finished(NamedTuple):
    """A command that came to its end by itself.

    :ivar answer: of the library that did its work instead (:class:`Start`); None: the command was run
    """

    status: int
    output: str
    errors: str
    answer: Mapping[str, Any] | None = None


class Command:
    """A command in a session of its own, so that all of it can be killed at a time limit. See :class:`Started`.

    :raises CommandMissingError: it could not be started
    """

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], _by_library: Mapping[str, Any] | None = None) -> None:
        self._name = os.path.basename(argv[0])
        try:
            self._process = _Process(
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
        limits.restore(self._process.pid)  # in time: sbatch reads its limits after its script has come

    def finish(self, stdin: str, timeout: float) -> Finished:
        try:
            timeout = deadline.left(timeout)
            output, errors = self._process.communicate(stdin, timeout=max(timeout, 0.001))
        except subprocess.TimeoutExpired:
            self.kill()
            raise CommandTimeoutError(f"{self._name} gave no answer in {timeout:.1f} s") from None
        except BaseException:
            self.kill()
            raise
        return Finished(self._process.returncode, output, errors)

    def kill(self) -> None:
        _kill(self._process)


def run(argv: Sequence[str], env: Mapping[str, str], timeout: float, stdin: str = "") -> Finished:
    """Runs a command from its start to its end.

    :param timeout: seconds
    :raises CommandMissingError: it could not be started
    :raises CommandTimeoutError: it was killed at the limit
    """
    return Command(argv, env).finish(stdin, timeout)


class _Process(subprocess.Popen[str]):
    """A process whose end is noticed at once: by itself subprocess looks for it every few milliseconds."""

    def wait(self, timeout: float | None = None) -> int:
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


def _kill(process: "subprocess.Popen[str]") -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    try:
        process.communicate(timeout=max(deadline.left(PIPE_SECONDS), KILL_SECONDS))
    except subprocess.TimeoutExpired:
        # Something that it started holds the pipes, or the kernel holds it: it is left behind.
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
