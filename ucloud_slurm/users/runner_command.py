"""A command that the runner has run as a user, in two parts over one connection: it loads, and later has its input."""

import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ucloud_slurm.errors import StorageFullError, one_line
from ucloud_slurm.system import ipc
from ucloud_slurm.system.lean import boot_clock
from ucloud_slurm.system.process import CommandMissingError, CommandTimeoutError, Finished, Started
from ucloud_slurm.users import impersonation
from ucloud_slurm.users.impersonation import ImpersonationUnavailableError, RunnerClient, RunnerUnavailableError


class RunnerCommand:
    """See :class:`Started`. Of the environment only ``SLURM_CONF`` is passed on. It is used by one thread at a time."""

    def __init__(self, client: RunnerClient, argv: Sequence[str], conf: str, **more: Any) -> None:
        """Nothing is done yet.

        :param more: ``folder`` and ``files`` of its job, where these are made with it; ``library``: what the library of
            Slurm's does instead (:class:`ucloud_slurm.system.process.Start`)
        """
        self._client = client
        more = {key: value for key, value in more.items() if value is not None}
        self._wanted: dict[str, Any] = {"command": argv[0], "arguments": list(argv[1:]), "conf": conf, **more}
        self._channel: socket.socket | None = None
        self._waits = False
        self._ends = self._until = 0.0

    def begin(self, within: float) -> None:
        """Has the command load and the folder made; does not wait for it.

        :param within: seconds after which the command does nothing more
        :raises RunnerUnavailableError: nothing was done
        """
        quick = min(impersonation.QUICK_SECONDS, within)
        self._ends = boot_clock() + within
        self._until = time.monotonic() + quick + impersonation.MARGIN_SECONDS
        self._channel = self._client.send("start", quick, quick, ends=self._ends, **self._wanted)

    def ready(self) -> None:
        """Waits until the command waits for its input.

        :raises StorageFullError: the folder cannot be made
        :raises CommandMissingError: it could not be started
        :raises ImpersonationUnavailableError: nothing was done
        """
        if self._channel is None or self._waits:
            return
        try:
            answer = self._client.receive(self._channel, self._until - time.monotonic())
            _raise_problem(answer)
            if answer.get("waits") is not True:
                raise self._client.failure(answer)
        except BaseException:
            self.kill()
            raise
        self._waits = True

    def finish(self, stdin: str, timeout: float) -> Finished:
        """See :class:`Started`.

        :raises StorageFullError: the folder cannot be put into its place; nothing was done
        """
        if self._channel is None:
            self.begin(timeout)
        try:
            self.ready()
            answer = self._send(stdin, min(timeout, self._ends - boot_clock()))
        finally:
            self.kill()
        _raise_problem(answer)
        if isinstance(by_library := answer.get("library"), dict):
            return Finished(0, "", "", by_library)
        status, output, errors = answer.get("status"), answer.get("output"), answer.get("errors")
        if "unknown" in answer or not isinstance(status, int):
            raise CommandTimeoutError(one_line(str(answer.get("unknown", "the answer cannot be read")), 200))
        return Finished(status, str(output), str(errors))

    def _send(self, stdin: str, within: float) -> dict[str, Any]:
        if self._channel is None or within <= 0:
            raise ImpersonationUnavailableError("too little time was left to send the job")
        second = {"form": ipc.FORM, "verb": "go", "deadline": boot_clock() + within, "stdin": stdin}
        try:
            ipc.send(self._channel, second, within=min(impersonation.QUICK_SECONDS, within))
        except ipc.ConnectionLostError as error:
            raise RunnerUnavailableError(f"the runner did not take the job ({error})") from None
        return self._client.receive(self._channel, within + impersonation.MARGIN_SECONDS)

    def kill(self) -> None:
        """See :class:`Started`. The end of the connection is that of the command."""
        if self._channel is not None:
            self._channel.close()


class RunnerPreparation:
    """See :class:`ucloud_slurm.system.process.Preparation`: one request for both, made at the start of the command."""

    def __init__(self, client: RunnerClient, folder: str, files: Mapping[str, str], within: float) -> None:
        self._client = client
        self._folder = folder
        self._files = files
        self._within = within
        self._command: RunnerCommand | None = None

    def start(self, argv: Sequence[str], env: Mapping[str, str], by_library: Mapping[str, Any] | None = None) -> Started:
        folder = {"folder": self._folder, "files": dict(self._files)}
        command = RunnerCommand(self._client, argv, env["SLURM_CONF"], library=by_library, **folder)
        command.begin(self._within)
        self._command = command
        return command

    def ready(self) -> None:
        if self._command is None:
            self._client.prepare(self._folder, self._files)
            return
        try:
            self._command.ready()
        except CommandMissingError as error:  # the user may have no more processes, say
            raise ImpersonationUnavailableError(str(error)) from None


def _raise_problem(answer: Mapping[str, Any]) -> None:
    if "problem" in answer:
        raise StorageFullError(one_line(str(answer["problem"])))
    if "missing" in answer:
        raise CommandMissingError(one_line(str(answer["missing"]), 200))
