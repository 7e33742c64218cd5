"""What users type and send to connect themselves, as accounts that this process believes to exist."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.conftest import World
from tests.sandbox.browser import CONNECT, Browser

BASE = "/ucloud/example"
USER = "Ada#1234"
APPROVE = "providers.im.control.approveConnection"
ADA, BOB, LOCKED, OUTSIDER = 64321, 64322, 64323, 64324
GROUP = 64000
INVALID = "This code is not valid, or not any more: each works once, for ten minutes. Please connect again at UCloud."
NAMES = {ADA: "ada", BOB: "bob-b", LOCKED: "locked", OUTSIDER: "outsider"}

# Sends bytes to a socket, as another account.
SAYING = """
import os, socket, sys
os.setgroups([]); os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1]))
connection = socket.socket(socket.AF_UNIX); connection.connect(sys.argv[2])
connection.sendall(sys.stdin.buffer.read()); connection.shutdown(socket.SHUT_WR)
answers = connection.makefile("rb"); length = answers.read(4)
sys.stdout.buffer.write(length + answers.read(int.from_bytes(length, "big")))
"""
# The command line, as another account.
TYPING = """
import os, sys
from ucloud_slurm.cli.main import main
os.setgroups([]); os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1]))
main(sys.argv[2:], prog_name="ucloud-slurm")
"""


def framed(body: bytes) -> bytes:
    """A message as it is sent: its length, four bytes, comes first."""
    return len(body).to_bytes(4, "big") + body


def say(path: Path, sent: bytes, uid: int = ADA) -> Any:
    """What the daemon answers an account; None when it sends no answer."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", SAYING, str(uid), str(path)], input=sent, capture_output=True, check=True, timeout=60
    )
    assert framed(done.stdout[4:]) == done.stdout or not done.stdout
    return json.loads(done.stdout[4:]) if done.stdout else None


def ask(path: Path, uid: int = ADA, /, **message: Any) -> Any:
    return say(path, framed(json.dumps(message).encode()), uid)


@contextmanager
def typing(path: Path, *words: str, uid: int = ADA, keys: str = "") -> Iterator[subprocess.Popen[str]]:
    """Somebody who types the command."""
    with subprocess.Popen(
        [sys.executable, "-c", TYPING, str(uid), *words, "--socket", str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="surrogateescape",
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
        cwd=Path(__file__).parents[4],
    ) as process:
        assert process.stdin is not None
        process.stdin.write(keys)
        process.stdin.flush()
        try:
            yield process
        finally:
            process.kill()  # where a test has failed it may wait for ten minutes


def typed(path: Path, *words: str, uid: int = ADA, keys: str = "") -> tuple[int, str]:
    """What somebody sees who types the command; and its status."""
    with typing(path, *words, uid=uid, keys=keys) as process:
        text, _ = process.communicate(timeout=60)
        return process.returncode, text


def at_a_terminal(path: Path, *words: str, keys: str) -> str:
    """What the terminal shows to somebody who types the command there, and keys as soon as it asks."""
    master, slave = pty.openpty()
    argv = [sys.executable, "-c", TYPING, str(ADA), *words, "--socket", str(path)]
    shown = b""
    with subprocess.Popen(
        argv, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, cwd=Path(__file__).parents[4]
    ) as process:
        os.close(slave)
        with os.fdopen(master, "r+b", buffering=0) as terminal:
            while b"Code: " not in shown:
                shown += terminal.read(1024)
            terminal.write(f"{keys}\n".encode())
            with suppress(OSError):  # that is how a terminal ends
                while more := terminal.read(1024):
                    shown += more
        assert process.wait(60) == 0, shown
    return shown.decode()


def connect(world: World, user: str = USER) -> Browser:
    """A user presses Connect at UCloud; returns where the browser is sent."""
    target = world.core.connect_user(user)
    assert target.startswith(f"https://hpc.example.org{BASE}/link/")
    return Browser.sent_to(target, world.url)


def linked(world: World, path: Path, uid: int = ADA, user: str = USER) -> Any:
    """A user connects, types the code, and says yes on the page; what the command hears then."""
    browser = connect(world, user)
    code = browser.code()
    ask(path, uid, verb="claim", code=code)
    assert browser.press(CONNECT).status_code == 200
    return ask(path, uid, verb="outcome", code=code)
