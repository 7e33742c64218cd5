"""Runs one command with a hard time limit and a fixed environment."""

import errno
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple, Protocol

from ucloud_slurm.system import deadline, limits

PIPE_SECONDS = 1.0  # for a killed command and what it started to close its pipes
KILL_SECONDS = 0.05  # of these, also for a caller who has no time left
TIMER_SECONDS = 0.2  # by which a process may end later than at its deadline
_MFD_NOEXEC_SEAL = 0x8


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

    def __call__(self, argv: Sequence[str], env: Mapping[str, str]) -> Started:
        """Starts it.

        :raises CommandMissingError: it could not be started
        """


class CommandMissingError(Exception):
    """The command is not there or may not be run; nothing happened."""


class CommandTimeoutError(Exception):
    """The command was ended at its limit; what it had done by then is unknown."""


class Finished(NamedTuple):
    """A command that came to its end by itself."""

    status: int
    output: str
    errors: str


class Command:
    """A command in a session of its own, so that all of it can be killed at a time limit. See :class:`Started`.

    :raises CommandMissingError: it could not be started
    """

    def __init__(
        self, argv: Sequence[str], env: Mapping[str, str], stdin: int = subprocess.PIPE, begin: Callable[[], None] | None = None
    ) -> None:
        """Starts it.

        :param stdin: its standard input, where that is not given at the end
        :param begin: is called in the new process before it becomes the command
        """
        self._name = os.path.basename(argv[0])
        try:
            self._process = _Process(
                argv,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=dict(env),
                cwd="/",
                start_new_session=True,
                encoding="utf-8",
                errors="replace",
                preexec_fn=begin,
            )
        except OSError as error:
            raise CommandMissingError(f"{argv[0]} cannot be run ({error.strerror})") from None
        except subprocess.SubprocessError as error:
            raise CommandMissingError(f"{argv[0]} was not run ({error})") from None
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


def user_environment(name: str, home: str, shell: str, folder: str | os.PathLike[str]) -> dict[str, str]:
    """The environment of a command that a user runs, and of the jobs that it submits. No login profile is run for it.

    :param folder: that of the command, with others that scripts call
    """
    usual = ("/usr/local/bin", "/usr/bin", "/bin")
    path = usual if str(folder) in usual else (str(folder), *usual)
    return {"PATH": ":".join(path), "HOME": home, "USER": name, "LOGNAME": name, "SHELL": shell, "LANG": "C.UTF-8"}


def run(argv: Sequence[str], env: Mapping[str, str], timeout: float, stdin: str = "") -> Finished:
    """Runs a command from its start to its end.

    :param timeout: seconds
    :raises CommandMissingError: it could not be started
    :raises CommandTimeoutError: it was killed at the limit
    """
    return Command(argv, env).finish(stdin, timeout)


def run_by(deadline: float, argv: Sequence[str], env: Mapping[str, str], stdin: str) -> Finished:
    """Runs a command that has all of its input from its start, and that does nothing more after a deadline.

    Neither the end of this process gives it a part of its input, nor a stop of it more time (:func:`end_at`).

    :param deadline: by :func:`boot_clock`
    :raises CommandMissingError: it could not be started; nothing happened
    :raises CommandTimeoutError: it was killed at the limit
    """
    try:
        script = _memory_file(stdin.encode())
    except OSError as error:
        raise CommandMissingError(f"{argv[0]} was not run: there is no memory for its input ({error.strerror})") from None
    try:
        command = Command(argv, env, script, lambda: end_at(deadline))
    finally:
        os.close(script)
    return command.finish("", deadline - boot_clock())


def boot_clock() -> float:
    """Seconds by the clock that all processes of this host share (clock_gettime(2))."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def end_at(deadline: float) -> None:
    """Has the kernel end this process at a deadline, and what it becomes by execve(2).

    One that is stopped then ends before it does anything else once it is continued (setitimer(2): SIGALRM waits).

    :param deadline: by :func:`boot_clock`
    :raises TimeoutError: it has passed
    """
    while True:
        left = deadline - boot_clock()
        if left <= 0:
            raise TimeoutError("the deadline has passed")
        signal.setitimer(signal.ITIMER_REAL, left)
        # A stop before the timer was set would have moved its end.
        if deadline - boot_clock() > left - TIMER_SECONDS:
            return


def _memory_file(data: bytes) -> int:
    """A file in memory, to be read from its beginning (memfd_create(2))."""
    try:
        file = os.memfd_create("input", os.MFD_CLOEXEC | _MFD_NOEXEC_SEAL)
    except OSError as error:
        if error.errno != errno.EINVAL:  # Linux before 6.3
            raise
        file = os.memfd_create("input", os.MFD_CLOEXEC)
    with open(file, "wb", closefd=False) as writing:
        writing.write(data)
        writing.seek(0)
    return file


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
