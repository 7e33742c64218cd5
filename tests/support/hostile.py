"""Stand-ins for sudo and for the program that acts as a user, whose user has it do anything."""

import errno
import os
import pwd
import random
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.support.lingering import send_lingering
from ucloud_slurm.system import beneath, ipc
from ucloud_slurm.system.accounts import Account, PeopleRule
from ucloud_slurm.users.operations import Operations

SUDO = f"""#!{sys.executable}
import sys
sys.path[:0] = {[path for path in sys.path if path]!r}
from pathlib import Path
from tests.support.hostile import main
main(sys.argv[3], Path(__file__).parent)
"""

Channel = socket.socket
WAITS = b'{"waits": true}'
ANSWER = b'{"found": true, "status": 0, "output": "1", "errors": ""}'


def install(folder: Path) -> Path:
    """Writes the stand-in for sudo; returns its path."""
    sudo = folder / "sudo"
    sudo.write_text(SUDO)
    sudo.chmod(0o755)
    return sudo


def behave(folder: Path, user: str, behaviour: str) -> None:
    """Says how the next programs of a user behave."""
    (folder / f"{user}.behaviour").write_text(behaviour)


def pids(folder: Path, user: str) -> list[int]:
    """The programs of a user that were started."""
    file = folder / f"{user}.pids"
    return [int(pid) for pid in file.read_text().split()] if file.exists() else []


def main(user: str, folder: Path) -> None:
    """Is the program of a user until its channel is closed."""
    with (folder / f"{user}.pids").open("a") as pids_file:
        pids_file.write(f"{os.getpid()}\n")
    channel = socket.socket(fileno=os.dup(0))
    file = folder / f"{user}.behaviour"
    name, _, number = (file.read_text() if file.exists() else "honest").partition(" ")
    try:
        BEHAVIOURS[name](channel, user, int(number or 0))
    except (ipc.ConnectionLostError, OSError):
        sys.exit()


def _framed(body: bytes) -> bytes:
    return struct.pack("!I", len(body)) + body


def _hello(channel: Channel, user: str) -> None:
    ipc.send(channel, {"user": user, "uid": 1}, within=5)


def _request(channel: Channel) -> None:
    for given in ipc.receive(channel, ipc.LARGEST_BYTES, within=60, descriptors=1)[1]:
        os.close(given)


def _pieces(channel: Channel, data: bytes, count: int, size: int = 1) -> None:
    """Sends data in pieces with descriptors in each."""
    for start in range(0, len(data), size):
        socket.send_fds(channel, [data[start : start + size]], [2] * count)


def _stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


class _Trusting(Operations):
    """Commands and slurm.conf may be the test's own."""

    def _trusted(self, path: str) -> str:
        return path


def honest(channel: Channel, user: str, _: int) -> None:
    _hello(channel, user)
    _serve(channel, user)


def old_kernel(channel: Channel, user: str, _: int) -> None:
    """Serves requests on a Linux that does not know openat2(2), with file systems that do not know renameat2(2)."""
    beneath._openat2 = lambda *_arguments: -errno.ENOSYS
    beneath._renameat2 = lambda *_arguments: errno.EINVAL
    honest(channel, user, 0)


def stops_before_request(channel: Channel, user: str, _: int) -> None:
    """Serves requests when it is continued."""
    _hello(channel, user)
    _stop()
    _serve(channel, user)


def _serve(channel: Channel, user: str) -> None:
    entry = pwd.getpwuid(os.geteuid())
    account = Account(entry.pw_name, entry.pw_uid, entry.pw_gid, "/bin/bash", entry.pw_dir)
    operations = _Trusting(account, -1, PeopleRule())
    while True:
        ipc.serve(channel, operations.answer, waits=60, sends=5, descriptors=1)
        operations.get_ready()


def hello_with_descriptors(channel: Channel, user: str, count: int) -> None:
    _pieces(channel, _framed(f'{{"user": "{user}"}}'.encode()), count)
    _request(channel)


def answer_with_descriptors(channel: Channel, user: str, count: int) -> None:
    _hello(channel, user)
    while True:
        _request(channel)
        _pieces(channel, _framed(ANSWER), count)


def answer_with_one(channel: Channel, user: str, _: int) -> None:
    _hello(channel, user)
    while True:
        _request(channel)
        _pieces(channel, _framed(ANSWER), 1, size=len(ANSWER) + 4)


def unasked_descriptors(channel: Channel, user: str, count: int) -> None:
    _hello(channel, user)
    _request(channel)
    channel.settimeout(5)
    for _ in range(20):
        _pieces(channel, _framed(ANSWER), count, size=len(ANSWER) + 4)


def sends_what_lingers(channel: Channel, user: str, asked: int) -> None:
    """In place of an answer, or after so many."""
    _hello(channel, user)
    for _ in range(asked):
        _request(channel)
        channel.sendall(_framed(ANSWER))
    if not asked:
        _request(channel)
    with send_lingering(channel):
        time.sleep(600)


def sends_out_of_band(channel: Channel, user: str, _: int) -> None:
    """What lingers, where a reader does not look for it, and then an answer."""
    _hello(channel, user)
    _request(channel)
    with send_lingering(channel, flags=socket.MSG_OOB):
        channel.sendall(_framed(ANSWER))
        time.sleep(600)


def anything(channel: Channel, user: str, seed: int) -> None:
    """Does what it should and what it should not, in an order that only the seed says."""
    chance = random.Random(seed)
    actions: list[Callable[[], object]] = [
        lambda: _hello(channel, user),
        lambda: _request(channel),
        lambda: channel.sendall(_framed(ANSWER)),
        lambda: channel.sendall(_framed(chance.choice([b"[]", b"{", b"{}", b"[" * 2000, b'{"found": NaN}', b"\xff", b""]))),
        lambda: channel.sendall(chance.choice([b"\0", b"\xff\xff\xff\xff", b"\0\0\0\5{}", b"\0\x20\0\0{"])),
        lambda: _pieces(channel, _framed(ANSWER), chance.choice([1, 4, 253]), size=chance.choice([1, 7, 100])),
        lambda: os.write(2, b"x" * chance.choice([1, 5000, 200_000])),
        lambda: channel.shutdown(chance.choice([socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR])),
        lambda: time.sleep(chance.choice([0.01, 0.1, 1.5])),
        lambda: os.kill(os.getpid(), chance.choice([signal.SIGKILL, signal.SIGSTOP])),
    ]
    if chance.random() < 0.8:
        _hello(channel, user)
    for _ in range(chance.randrange(1, 12)):
        with suppress(BlockingIOError):
            chance.choice(actions)()


def silent(channel: Channel, _user: str, _: int) -> None:
    _request(channel)
    time.sleep(600)


def waits_and_dies(channel: Channel, user: str, _: int) -> None:
    """Says that the job can be sent, and ends when it is."""
    _hello(channel, user)
    _request(channel)
    channel.sendall(_framed(WAITS))
    _request(channel)


def waits_and_has_ended(channel: Channel, user: str, _: int) -> None:
    _hello(channel, user)
    _request(channel)
    channel.sendall(_framed(WAITS))


def waits_and_stops(channel: Channel, user: str, _: int) -> None:
    _hello(channel, user)
    _request(channel)
    channel.sendall(_framed(WAITS))
    _stop()


def waits_always(channel: Channel, user: str, _: int) -> None:
    """Says of every request, also of the second part, that it waits."""
    _hello(channel, user)
    while True:
        _request(channel)
        channel.sendall(_framed(WAITS))


def waits_twice(channel: Channel, user: str, _: int) -> None:
    """Sends its answer to the second part before that."""
    _hello(channel, user)
    _request(channel)
    channel.sendall(_framed(WAITS) + _framed(ANSWER))
    _request(channel)


def stays(_channel: Channel, _user: str, _: int) -> None:
    time.sleep(600)


def mute(channel: Channel, user: str, _: int) -> None:
    _hello(channel, user)
    time.sleep(600)


def dies_before_hello(_channel: Channel, _user: str, _: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dies_amid_answer(channel: Channel, user: str, _: int) -> None:
    _hello(channel, user)
    _request(channel)
    _pieces(channel, _framed(ANSWER)[:20], 1, size=20)
    os.kill(os.getpid(), signal.SIGKILL)


def stops_before_hello(_channel: Channel, _user: str, _: int) -> None:
    _stop()


def stops_amid_answer(channel: Channel, user: str, count: int) -> None:
    _hello(channel, user)
    _request(channel)
    _pieces(channel, _framed(ANSWER)[:20], count, size=20)
    _stop()


def stops_after_answer(channel: Channel, user: str, _: int) -> None:
    _hello(channel, user)
    _request(channel)
    _pieces(channel, _framed(ANSWER), 1, size=len(ANSWER) + 4)
    _stop()


def prints_without_end(channel: Channel, user: str, _: int) -> None:
    os.set_blocking(2, True)
    if os.fork() == 0:
        while True:
            os.write(2, b"x" * 65536)
    honest(channel, user, 0)


def gives(make: Callable[[], list[int]]) -> Callable[[Channel, str, int], None]:
    """Answers every request with these descriptors on the socket that came with it."""

    def behaviour(channel: Channel, user: str, _: int) -> None:
        _hello(channel, user)
        while True:
            given = ipc.receive(channel, ipc.LARGEST_BYTES, within=60, descriptors=1)[1]
            if given:
                with socket.socket(fileno=given[0]) as answering:
                    socket.send_fds(answering, [b"."], make())
            ipc.send(channel, {"found": True}, within=5)

    return behaviour


BEHAVIOURS: dict[str, Callable[[Channel, str, int], None]] = {
    each.__name__: each
    for each in (
        honest,
        old_kernel,
        hello_with_descriptors,
        answer_with_descriptors,
        answer_with_one,
        unasked_descriptors,
        sends_what_lingers,
        sends_out_of_band,
        anything,
        silent,
        stays,
        mute,
        dies_before_hello,
        dies_amid_answer,
        stops_before_hello,
        stops_before_request,
        stops_amid_answer,
        stops_after_answer,
        prints_without_end,
        waits_and_dies,
        waits_and_has_ended,
        waits_and_stops,
        waits_always,
        waits_twice,
    )
} | {
    "gives_nothing": gives(list),
    "gives_a_pipe": gives(lambda: [os.pipe()[0]]),
    "gives_a_folder": gives(lambda: [os.open("/", os.O_RDONLY)]),
    "gives_four": gives(lambda: [os.open("/etc/passwd", os.O_RDONLY)] * 4),
    "gives_many": gives(lambda: [os.open("/etc/passwd", os.O_RDONLY)] * 253),
}
