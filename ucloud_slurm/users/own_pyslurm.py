"""pyslurm in the program that acts as a user: a copy of the program (fork(2)) loads it, and submits instead of sbatch.

libslurm may abort or hang, and only the copy does. sbatch submits until it can be used, and where it cannot.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _socket
import os
import select

from ucloud_slurm.errors import InvalidRequestError
from ucloud_slurm.system import ipc
from ucloud_slurm.system.lean import Suppress, boot_clock
from ucloud_slurm.system.waiting_command import CommandEndedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

FIRST = 2  # jobs of a user are sbatch's: most people start one or two at a time, and the module takes long to load
RETRY_SECONDS, SOON_SECONDS = 600.0, 60.0  # after a failure; where Slurm's commands gave no answer
HELLO_SECONDS = 1.0  # for what the copy says of itself to be whole
ANSWER_BYTES = 1024 * 1024
_MOST_DESCRIPTORS = 1 << 20

# What a job can be described by (translation.DESCRIPTION): the script comes later, and whose it is is known.
DESCRIBED = frozenset(
    {
        *("name", "comment", "partitions", "account", "qos", "constraints", "reservations", "nodes", "ntasks"),
        *("ntasks_per_node", "cpus_per_task", "memory_per_node", "gres_per_node", "time_limit", "working_directory"),
        *("standard_output", "standard_error", "log_files_open_mode", "signal", "resource_sharing", "environment"),
    }
)


class OwnPySlurm:
    """At most one copy. Nothing waits for its start."""

    def __init__(self) -> None:
        self._pid = 0
        self._channel: _socket.socket | None = None
        self._is_ready = False
        self._submissions = 0
        self._not_before = 0.0
        self._wanted: tuple[str, str, Mapping[str, str]] | None = None
        self._loaded: tuple[str, str, Mapping[str, str]] | None = None

    def is_ready_for(self, file: str, commands: str, env: Mapping[str, str]) -> bool:
        """Whether the copy can submit now, with that pyslurm; notes that somebody wants it. Never waits for its start.

        :param file: of the module
        :param commands: folder of Slurm's commands
        :param env: the whole environment of a submission
        """
        self._wanted = file, commands, env
        self._submissions += 1
        return self._check()

    def get_ready(self) -> None:
        """Starts the copy where it is wanted and not there. Called between requests."""
        if self._wanted is None or self._submissions < FIRST or self._pid or boot_clock() < self._not_before:
            return
        self._loaded = file, commands, env = self._wanted
        self._not_before = boot_clock() + SOON_SECONDS  # where its user has no more processes or descriptors
        with Suppress(OSError):
            ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
            self._channel = ours
            try:
                self._pid = os.fork()
                if self._pid == 0:
                    _become_pyslurm(theirs.fileno(), file, commands, env)
            finally:
                theirs.close()
                if not self._pid:
                    ours.close()
                    self._channel = None

    def submit(self, description: Mapping[str, object], script: str, deadline: float) -> ipc.Message | None:
        """Has the copy submit a job.

        :param deadline: by :func:`boot_clock`; nothing is submitted after it
        :returns: its answer (:class:`ucloud_slurm.slurm.pyslurm.child.PySlurmCalls`); None: it has not had the job
        :raises CommandEndedError: it is unknown what it did
        """
        if not self._check() or self._channel is None:
            return None
        wanted = {"call": "submit", "description": {**description, "script": script}, "deadline": deadline}
        try:
            ipc.send(self._channel, wanted, within=deadline - boot_clock())
        except ipc.ConnectionLostError:
            self.end()
            return None
        try:
            answer, _ = ipc.receive(self._channel, ANSWER_BYTES, within=deadline - boot_clock())
        except ipc.ConnectionLostError as error:
            self.end()
            raise CommandEndedError(f"pyslurm gave no answer ({error})") from None
        if "unfit" in answer:
            self.end()
            raise CommandEndedError(f"pyslurm: {answer['unfit']}")
        return answer

    def end(self, pause: float = RETRY_SECONDS) -> None:
        """Kills the copy.

        :param pause: seconds before another is started
        """
        self._not_before = boot_clock() + pause
        self._is_ready = False
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._pid:
            pid, self._pid = self._pid, 0
            with Suppress(ProcessLookupError):
                os.kill(pid, _signal.SIGKILL)
            os.waitpid(pid, 0)

    def _check(self) -> bool:
        if self._channel is None:
            return False
        if self._loaded != self._wanted:
            self.end(0.0)
            return False
        if self._is_ready:
            if not _is_readable(self._channel):
                return True
            self.end()  # it has ended
        elif _is_readable(self._channel):
            self._read_hello(self._channel)
        return self._is_ready

    def _read_hello(self, channel: _socket.socket) -> None:
        try:
            hello, _ = ipc.receive(channel, ANSWER_BYTES, within=HELLO_SECONDS)
        except ipc.ConnectionLostError:
            hello = {}
        if "pyslurm" in hello:
            self._is_ready = True
        else:
            self.end(SOON_SECONDS if "soon" in hello else RETRY_SECONDS)


def description(message: ipc.Message) -> Mapping[str, object]:
    """What a request describes a job by.

    :raises InvalidRequestError: it has something else
    """
    found = message.get("description")
    if not isinstance(found, dict) or not DESCRIBED.issuperset(found):
        raise InvalidRequestError("library: not the description of a job")
    return found


def _is_readable(channel: _socket.socket) -> bool:
    poll = select.poll()
    poll.register(channel.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _become_pyslurm(channel: int, file: str, commands: str, env: Mapping[str, str]) -> None:
    """In the copy: serves this channel until it is closed. Like the program it is not dumpable (prctl(2))."""
    try:
        os.setsid()
        os.dup2(channel, 0)
        os.closerange(3, _MOST_DESCRIPTORS)
        os.environ.clear()
        os.environ.update(env)
        from ucloud_slurm.slurm.pyslurm.child import main

        main(commands, file)
    finally:
        os._exit(1)
