"""Impersonation: what must be done as the user that a job runs as, here or through the runner."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ucloud_slurm.errors import Forbidden, NotNow, StorageFullError, one_line
from ucloud_slurm.system import deadline, ipc, request_id
from ucloud_slurm.system.files import NotARegularFileError, checked_file
from ucloud_slurm.system.lean import boot_clock
from ucloud_slurm.system.process import Preparation, Started
from ucloud_slurm.users import name_service

if TYPE_CHECKING:
    import socket  # most passes act as nobody, and start without it

    from ucloud_slurm.system.terminal import Terminal

CONNECT_SECONDS = 1.0
LEAST_SECONDS = 0.01  # also for a caller who has no time left
QUICK_SECONDS = 5.0  # for what is not a command of Slurm
MARGIN_SECONDS = 4.0  # that the runner has beyond the deadline of a request


class ImpersonationUnavailableError(NotNow):
    """The user cannot be impersonated at the moment; nothing was done."""


class RunnerUnavailableError(ImpersonationUnavailableError):
    """The runner is away, for all users; nothing was done."""


class ImpersonationDeniedError(Forbidden):
    """This provider may not impersonate that user; a retry is of no use."""


def connect(runner: Path) -> socket.socket:
    """Connects to the runner.

    :raises RunnerUnavailableError: it does not answer, or somebody else listens there
    """
    import socket

    channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        channel.settimeout(max(deadline.left(CONNECT_SECONDS), LEAST_SECONDS))
        channel.connect(str(runner))
        listens = ipc.peer(channel)
    except OSError as error:
        channel.close()
        raise RunnerUnavailableError(
            f"the runner does not answer at {runner} ({error.strerror or error}); start ucloud-slurm-runner.socket"
        ) from None
    if listens not in (0, os.geteuid()):  # systemd's sockets are root's
        channel.close()
        raise RunnerUnavailableError(
            f"at {runner} the account with uid {listens} listens, not the runner; start ucloud-slurm-runner.socket, and find "
            "out who can write there"
        )
    return channel


class Impersonation(Protocol):
    """One user, and what can be done as that user.

    Every call may block on the user's file systems until its limit, and beyond it where this process opens files itself.
    So may :func:`os.close` of what :meth:`open` returns, which writes back; the others' results are closed without
    waiting. A thread that makes such a call for somebody who has given up closes its result.

    :raises ImpersonationUnavailableError: from every call; nothing was done
    :raises ImpersonationDeniedError: from every call; nothing was done, and a retry is of no use
    """

    def start(self, argv: Sequence[str], env: Mapping[str, str], by_library: Mapping[str, Any] | None = None) -> Started:
        """Starts a command of Slurm's, which waits for its input. See :class:`ucloud_slurm.system.process.Start`.

        :raises CommandMissingError: it could not be started
        """

    def preparation(self, folder: str, files: Mapping[str, str], within: float) -> Preparation:
        """What comes before a job is sent. Nothing is done yet.

        :param files: that its folder is made with
        :param within: seconds after which its command does nothing more
        """

    def wake(self) -> None:
        """Has what acts as the user started, if there is room; does not wait for it.

        :raises RunnerUnavailableError: the runner is away
        """

    def open(self, path: str) -> int | None:
        """Opens a file of a job for reading and returns its descriptor; None if there is no such file.

        :raises NotARegularFileError: it is no regular file of the user
        """

    def listen(self, folder: str) -> socket.socket | None:
        """A socket of packets on which changes of a folder arrive (:mod:`ucloud_slurm.users.pump`).

        :returns: None where this process can watch the folder itself, or nobody can
        """

    def terminal(self, argv: Sequence[str], env: Mapping[str, str], cols: int, rows: int) -> Terminal:
        """Starts a shell on a terminal.

        :raises TerminalError: it cannot be started
        """

    def self_test(self, folder: str) -> None:
        """Makes a folder and removes it.

        :raises StorageFullError: it cannot be made
        """


class RunnerClient:
    """Impersonation as another user through the runner's socket. See :class:`Impersonation`.

    The answers are not trusted: the user's own processes could have written them.
    """

    def __init__(self, runner: Path, user: str) -> None:
        self._runner = runner
        self._user = user

    def prepare(self, folder: str, files: Mapping[str, str]) -> None:
        self._simple("prepare", folder=folder, files=dict(files))

    def self_test(self, folder: str) -> None:
        self._simple("trial", folder=folder)

    def start(self, argv: Sequence[str], env: Mapping[str, str], by_library: Mapping[str, Any] | None = None) -> Started:
        """See :class:`Impersonation`. The runner starts the command when its input comes, not before."""
        from ucloud_slurm.users.runner_command import RunnerCommand

        return RunnerCommand(self, argv, env["SLURM_CONF"], library=by_library)

    def preparation(self, folder: str, files: Mapping[str, str], within: float) -> Preparation:
        from ucloud_slurm.users.runner_command import RunnerPreparation

        return RunnerPreparation(self, folder, files, within)

    def wake(self) -> None:
        self.send("wake", QUICK_SECONDS, CONNECT_SECONDS).close()

    def open(self, path: str) -> int | None:
        ours, theirs = packets()
        with ours:
            answer = self.ask("open", QUICK_SECONDS, theirs, path=path)
            if "trouble" in answer:
                raise NotARegularFileError(str(answer["trouble"])[:200])
            if "unknown" in answer:
                raise ImpersonationUnavailableError(one_line(str(answer["unknown"]), 200))
            if answer.get("found") is not True:
                return None
            uid = self.uid()
            # It was sent before the answer. Where this call ends before it is taken, the kernel drops it.
            descriptor = ipc.receive_descriptor(ours)
        name = Path(path).name
        if descriptor is None:
            raise NotARegularFileError(f"{name} is not a regular file of the job's user")
        return checked_file(descriptor, name, uid)

    def listen(self, folder: str) -> socket.socket | None:
        ours, theirs = packets()
        try:
            if self.ask("listen", QUICK_SECONDS, theirs, folder=folder).get("found") is True:
                return ours
        except BaseException:
            ours.close()
            raise
        ours.close()
        return None

    def terminal(self, argv: Sequence[str], env: Mapping[str, str], cols: int, rows: int) -> Terminal:
        """See :class:`Impersonation`. Of the environment only ``SLURM_CONF`` counts."""
        from ucloud_slurm.system.terminal import RemoteTerminal, TerminalError

        ours, theirs = packets()
        wanted: dict[str, Any] = {
            "command": argv[0],
            "arguments": list(argv[1:]),
            "conf": env["SLURM_CONF"],
            "cols": cols,
            "rows": rows,
        }
        try:
            answer = self.ask("terminal", QUICK_SECONDS, theirs, **wanted)
            if answer.get("found") is not True:
                reason = answer.get("trouble", answer.get("unknown", "the runner sent no terminal"))
                raise TerminalError(one_line(str(reason), 200))
        except BaseException:
            ours.close()
            raise
        return RemoteTerminal(ours)

    def uid(self) -> int:
        """The user's number.

        :raises ImpersonationDeniedError: there is no such user any more
        """
        try:
            return name_service.ask(lambda: pwd.getpwnam(self._user)).pw_uid
        except KeyError:
            raise ImpersonationDeniedError(f"The account {self._user} does not exist any more.") from None

    def _simple(self, verb: str, **arguments: Any) -> None:
        answer = self.ask(verb, QUICK_SECONDS, **arguments)
        if "problem" in answer:
            raise StorageFullError(one_line(str(answer["problem"])))
        if answer:
            raise self.failure(answer)

    def failure(self, answer: Mapping[str, Any]) -> ImpersonationUnavailableError:
        """What an answer says that is none: ``trouble`` is what the user has no more of, such as descriptors."""
        said = answer.get("trouble", answer.get("unknown", answer))
        return ImpersonationUnavailableError(f"the program that acts as {self._user} failed: {one_line(str(said), 200)}")

    def ask(
        self, verb: str, within: float, theirs: socket.socket | None = None, margin: float | None = None, **arguments: Any
    ) -> dict[str, Any]:
        """Sends a request and returns its answer.

        :param within: seconds; nothing is done as the user after them
        :param theirs: a socket that the user's program receives; it is closed here
        :param margin: seconds after that, for the answer; None: as long as the runner waits
        :returns: the answer, which the user's own processes could have written; ``unknown``: none came
        :raises ImpersonationUnavailableError: nothing was done
        :raises ImpersonationDeniedError: nothing was done, and a retry is of no use
        """
        latest = within + (MARGIN_SECONDS if margin is None else margin)
        try:
            with self.send(verb, within, min(QUICK_SECONDS, latest), theirs, **arguments) as channel:
                return self.receive(channel, latest)
        finally:
            if theirs is not None:
                theirs.close()

    def send(
        self, verb: str, within: float, sends: float, theirs: socket.socket | None = None, **arguments: Any
    ) -> socket.socket:
        """Sends a request.

        :param within: see :meth:`ask`, likewise the others
        :param sends: seconds until the runner must have taken it
        :returns: the connection on which the answer comes
        :raises RunnerUnavailableError: nothing was done
        """
        message = {"form": ipc.FORM, "user": self._user, "verb": verb, "deadline": boot_clock() + within, **arguments}
        if (request := request_id.current()) is not None:
            message["request"] = request
        channel = connect(self._runner)
        try:
            ipc.send(channel, message, [] if theirs is None else [theirs.fileno()], within=deadline.left(sends))
        except BaseException as error:
            channel.close()
            if not isinstance(error, ipc.ConnectionLostError):
                raise
            raise RunnerUnavailableError(f"the runner did not take the request ({error})") from None
        return channel

    def receive(self, channel: socket.socket, within: float) -> dict[str, Any]:
        """The answer to a request; see :meth:`ask`.

        :param within: seconds until it must be there
        """
        try:
            answer, _ = ipc.receive(channel, ipc.LARGEST_BYTES, within=within)
        except ipc.ConnectionLostError as error:
            return {"unknown": f"the runner gave no answer ({error})"}
        if "refused" in answer and answer.get("form") != ipc.FORM:
            raise ImpersonationUnavailableError("the runner is of another release; restart ucloud-slurm-runner.service")
        if "refused" in answer:
            why = one_line(str(answer["refused"]), 200)
            raise ImpersonationDeniedError(f"Nothing can be done as {self._user}: {why}. Please tell the provider's support.")
        if "busy" in answer:
            raise ImpersonationUnavailableError(one_line(str(answer["busy"]), 200))
        return answer


def packets() -> tuple[socket.socket, socket.socket]:
    """Two ends: this process keeps the first, and reads and writes it with MSG_DONTWAIT only."""
    import socket

    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
