"""Server processes without systemd: each in its own session, with its pid in a file, so that later runs can end it."""

import shlex
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.sandbox import processes
from tests.sandbox.commands import PLAIN, identity_of
from tests.sandbox.errors import SandboxError
from tests.sandbox.processes import Process

MARK = "UCLOUD_SLURM_SANDBOX"
"""Environment variable that all our daemons carry, and what they start inherits: the sandbox's folder."""


@dataclass(frozen=True, slots=True)
class Daemon:
    """One server.

    :ivar user: account it runs as; None means the caller's own
    :ivar port: TCP port it will take, if any
    :ivar ready: tells whether it answers
    :ivar patience: seconds it may take to answer after its start
    """

    name: str
    command: Sequence[str]
    user: str | None
    port: int | None
    ready: Callable[[], bool]
    patience: float = 30.0


class Daemons:
    """The servers of one sandbox folder."""

    def __init__(self, folder: Path, address: str, environment: Mapping[str, str]) -> None:
        """Know them by their folder.

        :param address: where their ports are
        :param environment: what all of them get besides a plain PATH
        """
        self._pids = folder / "run"
        self._out = folder / "out"
        self._folder = folder
        self._address = address
        self._environment = PLAIN | dict(environment) | {MARK: str(folder)}

    def process(self, name: str) -> Process | None:
        """Find the living process of a daemon."""
        try:
            pid, started = (self._pids / name).read_text().split()
        except (OSError, ValueError):
            return None
        process = Process(int(pid), int(started))
        return process if process.alive() else None

    def was_started(self, name: str) -> bool:
        """Whether a daemon was started and not ended from here; it may have ended by itself."""
        return (self._pids / name).exists()

    def start(self, daemon: Daemon) -> None:
        """Start a daemon and wait until it answers. Does nothing when it runs.

        :raises SandboxError: when its port is taken, or when it ends or stays silent
        """
        if self.launch(daemon):
            self.wait(daemon)

    def launch(self, daemon: Daemon) -> bool:
        """Start a daemon without waiting for it; tell whether that was necessary.

        :raises SandboxError: when its port is taken
        """
        if self.process(daemon.name):
            return False
        self.check_port(daemon)
        self._pids.mkdir(exist_ok=True)
        self._out.mkdir(exist_ok=True)
        identity = identity_of(daemon.user)
        with (self._out / daemon.name).open("ab") as out:
            # the shell ends at once, so that the daemon is init's child and no zombie of ours
            shell = subprocess.run(
                ["/bin/sh", "-c", 'exec "$@" >&2 & echo $!', "sh", *daemon.command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=out,
                cwd=self._folder,
                env=self._environment,
                start_new_session=True,
                umask=0o022,
                check=True,
                timeout=30,
                user=identity.uid,
                group=identity.gid,
                extra_groups=identity.groups,
            )
        note = self._pids / daemon.name
        note.unlink(missing_ok=True)
        if process := processes.find(int(shell.stdout)):
            note.write_text(f"{process.pid} {process.started}\n")
        return True

    def check_port(self, daemon: Daemon) -> None:
        """Refuse a port that somebody else has.

        :raises SandboxError: naming the port
        """
        if daemon.port is not None and not processes.port_is_free(self._address, daemon.port):
            raise SandboxError(
                f"Port {daemon.port}, wanted for {daemon.name}, is taken by another program; "
                f"end that one (ss -ltnp 'sport = :{daemon.port}' shows it) or choose another base port."
            )

    def wait(self, daemon: Daemon) -> None:
        """Wait until a started daemon answers.

        :raises SandboxError: when it ends or stays silent, with the last lines of what it said
        """

        def answered_or_ended() -> bool:
            return daemon.ready() or not self.process(daemon.name)

        try:
            processes.wait_until(f"{daemon.name} does not answer", answered_or_ended, seconds=daemon.patience)
        except SandboxError as silent:
            raise SandboxError(f"{silent} {self._last_words(daemon)}") from silent
        if not self.process(daemon.name):
            raise SandboxError(f"{daemon.name} ended by itself. {self._last_words(daemon)}")

    def _last_words(self, daemon: Daemon) -> str:
        said = []
        for file in (self._out / daemon.name, self._folder / "log" / f"{daemon.name}.log"):
            with suppress(OSError):
                said += file.read_text(errors="replace").splitlines()[-4:]
        return f"Its last words ({shlex.join(daemon.command)}): " + (" | ".join(said) or "none.")

    def end(self, names: Sequence[str], *, patience: float = 10.0) -> None:
        """End daemons side by side: asked first, killed after ``patience`` seconds."""
        processes.end([process for name in names if (process := self.process(name))], patience=patience)
        for name in names:
            (self._pids / name).unlink(missing_ok=True)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a daemon.

        :raises SandboxError: when it does not run
        """
        process = self.process(name)
        if process is None:
            raise SandboxError(f"{name} is not running; start it first.")
        process.signal(number)

    def end_offspring(self, cluster_name: str) -> None:
        """Kill what the daemons started and left: step managers, jobs, and daemons nobody wrote down."""
        spared = processes.own_line()
        spared |= {process for file in self._pids.glob("*") if (process := self.process(file.name))}
        while roots := {one for one in processes.everyone() if self._started(one, cluster_name)} - spared:
            processes.end(processes.with_descendants(roots) - spared, patience=0)

    def _started(self, process: Process, cluster_name: str) -> bool:
        environment = process.environment()
        if environment.get(MARK) == str(self._folder):
            return process.alive()
        # a job's environment is made by slurmstepd from nothing, so it does not carry the mark
        return "SLURM_JOB_ID" in environment and environment.get("SLURM_CLUSTER_NAME") == cluster_name and process.alive()
