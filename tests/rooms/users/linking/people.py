"""What users type and send to connect themselves, as accounts that this process believes to exist."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import requests

from tests.conftest import World

BASE = "/ucloud/example"
USER = "Ada#1234"
APPROVE = "providers.im.control.approveConnection"
ADA, BOB, LOCKED, OUTSIDER = 64321, 64322, 64323, 64324
GROUP = 64000
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


def typed(path: Path, *words: str, uid: int = ADA, keys: str = "") -> tuple[int, str]:
    """What somebody sees who types the command; and its status."""
    done = subprocess.run(
        [sys.executable, "-c", TYPING, str(uid), *words, "--socket", str(path)],
        input=keys,
        text=True,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        cwd=Path(__file__).parents[4],
    )
    return done.returncode, done.stdout


def connect(world: World, user: str = USER) -> str:
    """A user presses Connect at UCloud; returns the code."""
    target = world.core.connect_user(user)
    prefix = f"https://hpc.example.org{BASE}/link/"
    assert target.startswith(prefix)
    return target.removeprefix(prefix)


def shown(world: World, code: str) -> requests.Response:
    return requests.get(f"{world.url}{BASE}/link/{code}", timeout=5)
