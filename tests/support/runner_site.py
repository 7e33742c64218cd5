"""A runner that serves the tests' own process, with a stand-in for sudo."""

import os
import pwd
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.sandbox.processes import wait_until
from tests.support import hostile
from ucloud_slurm.system import ipc
from ucloud_slurm.system.ipc import Message
from ucloud_slurm.system.lean import boot_clock
from ucloud_slurm.users import impersonation, runner
from ucloud_slurm.users.impersonation import RunnerClient
from ucloud_slurm.users.runner import Runner

PATIENCE = 30.0


@dataclass
class Site:
    """A runner that serves this process, with the programs of its users."""

    runner: Runner
    path: Path
    folder: Path

    def client(self, user: str) -> RunnerClient:
        return RunnerClient(self.path, user)

    def behave(self, user: str, behaviour: str) -> None:
        hostile.behave(self.folder, user, behaviour)

    def ask(self, user: str, within: float) -> Message:
        """The runner's own answer to a request of that user."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
            channel.connect(str(self.path))
            message = {"user": user, "verb": "trial", "folder": str(self.folder / user), "deadline": boot_clock() + within}
            ipc.send(channel, message, within=5.0)
            return ipc.receive(channel, 65536, within=PATIENCE)[0]


def sbatch(folder: Path, *, reads: str = "", after: str = "") -> list[str]:
    """A stand-in for sbatch that submits what it reads, if that is anything.

    :param reads: what it does before it reads its input
    :param after: what it does before it submits
    """
    command = folder / "sbatch"
    read = f"cat > {folder}/read; [ -s {folder}/read ] || {{ touch {folder}/empty; exit 1; }}"
    command.write_text(
        f"#!/bin/sh\necho $$ >> {folder}/sbatch.pids\n{reads}\n{read}\n{after}\nmv {folder}/read {folder}/submitted\necho 1\n"
    )
    command.chmod(0o755)
    return [str(command), "--parsable"]


def submit(site: Site, script: str, within: float, *, reads: str = "", after: str = "") -> str:
    """Has ada's program submit with that stand-in; returns what it printed."""
    argv = sbatch(site.folder, reads=reads, after=after)
    return site.client("ada").start(argv, {"SLURM_CONF": "/etc/passwd"}).finish(script, within).output


@contextmanager
def runner_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Such a runner, whose users are all this process's; it and its callers wait less than they would."""
    own, getpwnam = pwd.getpwuid(os.geteuid()), pwd.getpwnam
    known = {"ada", "bob"} | {f"user{number}" for number in range(100)}
    monkeypatch.setattr(pwd, "getpwnam", lambda name: own if name in known else getpwnam(name))
    monkeypatch.setattr(impersonation, "QUICK_SECONDS", 1.0)
    monkeypatch.setattr(runner, "MARGIN_SECONDS", 0.5)
    monkeypatch.setattr(runner, "SILENCE_SECONDS", 0.8)
    served, path = Runner(hostile.install(tmp_path), tmp_path / "program"), tmp_path / "runner.sock"
    listener = ipc.listener(path, 0o600)
    serving = threading.Thread(target=served.serve, args=(listener,))
    serving.start()
    wait_until("it serves", lambda: served._pruned_at > 0, seconds=PATIENCE)
    site = Site(served, path, tmp_path)
    yield site
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    serving.join(PATIENCE)
    assert not serving.is_alive()
    for file in tmp_path.glob("*.pids"):
        for pid in hostile.pids(tmp_path, file.stem):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def ended() -> bool:
        with served._changed:
            for user in list(served._closed):
                served._reap(user)
            return not served._closed

    wait_until("its programs have ended", ended, seconds=PATIENCE)
