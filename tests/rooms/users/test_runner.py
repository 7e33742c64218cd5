"""The runner, with a stand-in for sudo: one user's program keeps nobody else waiting."""

import socket
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.sandbox.processes import wait_until
from ucloud_slurm.system import ipc
from ucloud_slurm.system.ipc import Message
from ucloud_slurm.users.impersonation import RunnerClient
from ucloud_slurm.users.runner import REQUESTS, REQUESTS_PER_USER, Runner

PATIENCE = 30.0
# Says who it is, as the real program does; alice's then hangs until the runner gives it up.
SUDO = f"""#!{sys.executable}
import socket, sys, time
sys.path[:0] = {[path for path in sys.path if path]!r}
from ucloud_slurm.system import ipc
channel = socket.socket(fileno=0)
ipc.send(channel, {{"user": sys.argv[3], "uid": 1}}, within=5)
while True:
    try:
        message, _ = ipc.receive(channel, 65536, within=60)
        if sys.argv[3] == "alice":
            ipc.receive(channel, 65536, within=60)
        ipc.send(channel, {{}}, within=5)
    except ipc.ConnectionLostError:
        sys.exit()
"""


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[tuple[Runner, Path]]:
    sudo = tmp_path / "sudo"
    sudo.write_text(SUDO)
    sudo.chmod(0o755)
    runner, path = Runner(sudo, tmp_path / "program"), tmp_path / "runner.sock"
    listener = ipc.listener(path, 0o600)
    serving = threading.Thread(target=runner.serve, args=(listener,))
    serving.start()
    yield runner, path
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    serving.join(PATIENCE)
    closed = list(runner._closed)
    wait_until("its programs have ended", lambda: all(program.has_ended() for program in closed), seconds=PATIENCE)


def test_a_user_whose_program_is_stopped_does_not_take_all_threads_of_the_runner(runner: tuple[Runner, Path]) -> None:
    served, path = runner

    def ask() -> Message:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
            channel.connect(str(path))
            ipc.send(channel, {"user": "alice", "verb": "open", "within": 1.0}, within=5.0)
            return ipc.receive(channel, 65536, within=PATIENCE)[0]

    with ThreadPoolExecutor(REQUESTS) as pool:
        asked: list[Future[Message]] = [pool.submit(ask) for _ in range(REQUESTS)]
        busy = REQUESTS - REQUESTS_PER_USER
        wait_until("the rest is told so", lambda: sum(each.done() for each in asked) >= busy, seconds=PATIENCE)
        RunnerClient(path, "bob").prepare("/x", {})
        assert sum(not each.done() for each in asked) == REQUESTS_PER_USER, "alice's requests still wait"
        answers = [each.result(PATIENCE) for each in asked]
    assert all({"busy", "unknown"} & set(answer) for answer in answers)
    assert served._served == {}
