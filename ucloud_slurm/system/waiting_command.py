"""A command that waits for its input and has a deadline, for a process that starts often and has no threads: it forks.

subprocess loads slowly, and does not have what the deadline needs (:mod:`ucloud_slurm.system.lean`).
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import fcntl
import os
import select

from ucloud_slurm.system.lean import Suppress, boot_clock, end_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from ucloud_slurm.system.files import StagedFolder

OUTPUT_BYTES = 65536  # that are kept of what it prints on either output
_MFD_NOEXEC_SEAL = 0x8
_EINVAL = 22


class CommandNotStartedError(Exception):
    """The command is not there, may not be run, or its deadline has passed; nothing happened."""


class CommandEndedError(Exception):
    """The command was ended at its deadline; what it had done by then is unknown."""


class WaitingCommand:
    """A command in a session of its own, with the signals of a new process, in the folder of this one.

    Neither the end of this process gives it a part of its input, nor a stop of it more time (:func:`.end_at`).
    """

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], deadline: float) -> None:
        """Starts it.

        :param env: its whole environment
        :param deadline: by :func:`boot_clock`
        :raises CommandNotStartedError: it cannot be started
        """
        self._argv, self._env, self._deadline = [*argv], env, deadline
        reading, self._input = os.pipe()
        self._begin(reading)

    def _begin(self, stdin: int) -> None:
        """Starts it with that standard input, which is closed here."""
        pipes = [os.pipe() for _ in range(3)]
        (self._output, output), (self._errors, errors), (reading, writing) = pipes
        try:
            self._pid = os.fork()
        except OSError as error:
            self._close(stdin, self._input, *(each for pipe in pipes for each in pipe))
            raise CommandNotStartedError(f"{self._argv[0]} was not run ({error.strerror})") from None
        if self._pid == 0:
            self._become((stdin, output, errors), writing)
        self._close(stdin, output, errors, writing)
        reason = os.read(reading, 200).decode(errors="replace")  # its end is that of the copy of this program
        self._close(reading)
        if reason:
            self.kill()
            raise CommandNotStartedError(reason)

    def _become(self, standard: tuple[int, int, int], reasons: int) -> None:
        """In the new process: becomes the command, or says why not. All other descriptors are closed by execve(2)."""
        try:
            os.setsid()
            for number, descriptor in enumerate(standard):
                os.dup2(descriptor, number)
            for each in (_signal.SIGPIPE, _signal.SIGXFSZ):  # which Python ignores
                _signal.signal(each, _signal.SIG_DFL)
            end_at(self._deadline)
            os.execve(self._argv[0], self._argv, self._env)
        except TimeoutError as error:
            os.write(reasons, f"{self._argv[0]} was not run ({error})".encode())
        except OSError as error:
            os.write(reasons, f"{self._argv[0]} cannot be run ({error.strerror})".encode())
        finally:
            os._exit(127)

    def finish(self, data: bytes, deadline: float) -> tuple[int, str, str]:
        """Gives the command its input and waits for its end.

        :param deadline: by which it is killed, if that is earlier than its own
        :returns: its status, and what it printed on its output and as errors
        :raises CommandNotStartedError: nothing happened
        :raises CommandEndedError: it was killed at the deadline
        """
        if self._holds(len(data)):
            with Suppress(BrokenPipeError):  # it has ended, and says why
                if os.write(self._input, data) < len(data):
                    self.kill()
                    raise CommandEndedError("the input of a command was not taken")
        else:
            self.kill()
            self._begin(_memory_file(data))
        self._close(self._input)
        self._input = -1
        printed = {self._output: b"", self._errors: b""}
        poll = select.poll()
        for each in printed:
            poll.register(each, select.POLLIN)
        left = len(printed)
        while left:
            ready = poll.poll(max(min(deadline, self._deadline) - boot_clock(), 0.0) * 1000)
            if not ready:
                self.kill()
                raise CommandEndedError(f"{os.path.basename(self._argv[0])} gave no answer in time")
            for each, _ in ready:
                piece = os.read(each, OUTPUT_BYTES)
                printed[each] = (printed[each] + piece)[:OUTPUT_BYTES]
                if not piece:
                    poll.unregister(each)
                    left -= 1
        output, errors = (each.decode(errors="replace") for each in printed.values())
        self._close(self._output, self._errors)
        return os.waitstatus_to_exitcode(self._wait()), output, errors

    def kill(self) -> None:
        """Kills the command and what it started, unless it has ended. One that has not had its input has done nothing."""
        if not self._pid:
            return
        self._close(self._input, self._output, self._errors)
        self._input = self._output = self._errors = -1
        with Suppress(ProcessLookupError):
            os.killpg(self._pid, _signal.SIGKILL)
        self._wait()

    def _wait(self) -> int:
        """Its status; without a limit, since nothing is left to do for the command, and the caller's own end is near."""
        pid, self._pid = self._pid, 0
        return os.waitpid(pid, 0)[1]

    def _holds(self, size: int) -> bool:
        """Whether the pipe takes so many bytes at once: a write that does not wait is whole, whatever happens to the writer."""
        if fcntl.fcntl(self._input, fcntl.F_GETPIPE_SZ) < size:
            with Suppress(OSError):  # its user has no more room, or it would be larger than pipes are (pipe(7))
                fcntl.fcntl(self._input, fcntl.F_SETPIPE_SZ, size)
        return fcntl.fcntl(self._input, fcntl.F_GETPIPE_SZ) >= size

    @staticmethod
    def _close(*descriptors: int) -> None:
        for each in descriptors:
            if each >= 0:
                os.close(each)


class Submission:
    """What submits a job and waits for its script, and the folder of the job, which is not in its place yet."""

    def __init__(self, start: Callable[[], WaitingCommand], library: Callable[[str, float], Any] | None) -> None:
        """Starts the command, unless the library is to submit.

        :param start: starts the command
        :param library: submits a script until a deadline; None as its answer: it has not had it
        :raises CommandNotStartedError: it cannot be started
        """
        self._start = start
        self._library = library
        self._command = start() if library is None else None
        self.folder: StagedFolder | None = None

    def send(self, script: str, deadline: float) -> dict[str, Any]:
        """Has the job submitted, and returns what came of it.

        :raises CommandNotStartedError: nothing happened
        :raises CommandEndedError: it is unknown what happened
        """
        if self.folder is not None:
            self.folder.place()
        if self._library is not None and (answer := self._library(script, deadline)) is not None:
            return {"library": answer}
        if self._command is None:
            self._command = self._start()
        status, output, errors = self._command.finish(script.encode(), deadline)
        return {"status": status, "output": output, "errors": errors}

    def drop(self) -> None:
        """Gives both up."""
        if self._command is not None:
            self._command.kill()
        if self.folder is not None:
            self.folder.discard()


def _memory_file(data: bytes) -> int:
    """A file in memory, to be read from its beginning (memfd_create(2)).

    :raises CommandNotStartedError: there is no memory for it
    """
    try:
        try:
            file = os.memfd_create("input", os.MFD_CLOEXEC | _MFD_NOEXEC_SEAL)
        except OSError as error:
            if error.errno != _EINVAL:  # Linux before 6.3
                raise
            file = os.memfd_create("input", os.MFD_CLOEXEC)
        with open(file, "wb", closefd=False) as writing:
            writing.write(data)
            writing.seek(0)
    except OSError as error:
        raise CommandNotStartedError(f"there is no memory for the input of a command ({error.strerror})") from None
    return file
