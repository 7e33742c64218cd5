"""Stands in the place of the program that acts as people, as if one had taken over theirs.

Whose home has a file ``.attack``, their program does what its first word says; everybody else's is the real one.
"""

import ctypes
import fcntl
import json
import os
import pwd
import socket
import struct
import sys
import threading
import time
import tty
from contextlib import suppress
from pathlib import Path

REAL = "/opt/ucloud-slurm/bin/ucloud-slurm-as-user.real"
Message = dict[str, object]
LONG = 64 * 1024 * 1024


def whole(answer: object) -> bytes:
    data = json.dumps(answer).encode()
    return struct.pack("!I", len(data)) + data


def receive(channel: socket.socket) -> tuple[Message, list[int]]:
    head, descriptors, _, _ = socket.recv_fds(channel, 4, 8)
    if len(head) < 4:
        sys.exit(0)
    left, data = struct.unpack("!I", head)[0], b""
    while len(data) < left:
        piece, more, _, _ = socket.recv_fds(channel, left - len(data), 8)
        descriptors += more
        data += piece
    return json.loads(data), descriptors


def feed(channel: socket.socket, _: Message, given: list[int]) -> None:
    """Four descriptors with each byte."""
    data = whole({"found": True, "x": "y" * 2000})
    for each in given:
        _send(each, [0] * 4, times=200)
    for number in range(len(data)):
        socket.send_fds(channel, [data[number : number + 1]], [0, 0, 0, 0])


def _send(given: int, descriptors: list[int], times: int = 1) -> None:
    """Sends descriptors over a socket that the service gave."""
    with socket.socket(fileno=os.dup(given)) as one, suppress(OSError):
        one.setblocking(False)
        for _ in range(times):
            socket.send_fds(one, [b"x"], descriptors)


def pipe(channel: socket.socket, _: Message, given: list[int]) -> None:
    """A pipe in the place of a file, into which nobody writes."""
    ours, theirs = os.pipe()
    for each in given:
        _send(each, [ours])
    channel.sendall(whole({"found": True}))
    if not given:
        os.close(theirs)


def give(channel: socket.socket, message: Message, given: list[int]) -> None:
    """Plausible answers, each with a descriptor that nobody wants."""
    for each in given:
        _send(each, [0, 1])
    answers: dict[object, Message] = {
        "prepare": {},
        "trial": {},
        "start": {"waits": True},
        "go": {"status": 1, "output": "", "errors": "sbatch: error: Unable to contact slurm controller"},
    }
    socket.send_fds(channel, [whole(answers.get(message.get("verb"), {"found": True}))], [0])


def another(channel: socket.socket, message: Message, _: list[int]) -> None:
    """Says that her job is the one whose number stands in the file ``.attack-job``."""
    number = Path(pwd.getpwuid(os.getuid()).pw_dir, ".attack-job").read_text(encoding="ascii").strip()
    submitted = {"status": 0, "output": f"{number}\n", "errors": ""}
    answers: dict[object, Message] = {"prepare": {}, "start": {"waits": True}, "go": submitted}
    channel.sendall(whole(answers.get(message.get("verb"), {"found": False})))


def block(channel: socket.socket, message: Message, given: list[int]) -> None:
    """Makes every description that it shares with the service a blocking one, and reads what the service waits for."""
    verb = message.get("verb")
    if verb not in ("terminal", "listen", "watch"):
        channel.sendall(whole({"found": False}))
        return
    shared, more = list(given), []
    if not given and verb == "terminal":
        ours, theirs = _terminal()
        shared, more = [ours], [theirs]
    elif not given:
        libc = ctypes.CDLL(None)
        shared = [libc.inotify_init1(0)]
        libc.inotify_add_watch(shared[0], b"/tmp", 0x100)
    socket.send_fds(channel, [whole({"found": True})], shared if not given else [])
    threading.Thread(target=_block, args=([os.dup(each) for each in shared], more), daemon=True).start()


def _block(shared: list[int], more: list[int]) -> None:
    time.sleep(0.3)
    for each in shared * 3:
        fcntl.fcntl(each, fcntl.F_SETFL, fcntl.fcntl(each, fcntl.F_GETFL) & ~os.O_NONBLOCK)
        threading.Thread(target=_drain, args=(each,), daemon=True).start()
    end = time.monotonic() + 8
    while time.monotonic() < end:
        path = f"/tmp/attack-{time.monotonic_ns()}"
        with suppress(OSError):
            for each in more:
                os.write(each, b"x")
            os.close(os.open(path, os.O_CREAT, 0o600))
            Path(path).unlink()
        time.sleep(0.001)


def _drain(descriptor: int) -> None:
    with suppress(OSError):
        while os.read(descriptor, 65536):
            pass


def _terminal() -> tuple[int, int]:
    """One that keeps all that is written into it, and has nobody who reads."""
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    return ours, theirs


def full(channel: socket.socket, message: Message, given: list[int]) -> None:
    """A terminal that takes nothing, and is blocking when the service writes into it."""
    if message.get("verb") != "terminal":
        channel.sendall(whole({"found": False}))
        return
    shared = list(given) or [_terminal()[0]]
    socket.send_fds(channel, [whole({"found": True})], shared if not given else [])
    threading.Thread(target=_unblock, args=([os.dup(each) for each in shared],), daemon=True).start()


def _unblock(shared: list[int]) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        for each in shared:
            fcntl.fcntl(each, fcntl.F_SETFL, fcntl.fcntl(each, fcntl.F_GETFL) & ~os.O_NONBLOCK)
        time.sleep(0.0005)


def flood(channel: socket.socket, _: Message, given: list[int]) -> None:
    """Bytes without an end on whatever was given to it."""
    socket.send_fds(channel, [whole({"found": True})], [])
    end = time.monotonic() + 5
    for each in given:
        fcntl.fcntl(each, fcntl.F_SETFL, 0)
    while given and time.monotonic() < end:
        for each in given:
            with suppress(OSError):
                os.write(each, b"x" * 60000)


def huge(channel: socket.socket, _: Message, __: list[int]) -> None:
    """An answer that is as long as its length can say."""
    channel.sendall(struct.pack("!I", LONG) + b'{"found": "' + b"x" * 2_000_000)


def longer(channel: socket.socket, _: Message, __: list[int]) -> None:
    """A length of four gigabytes."""
    channel.sendall(b"\xff\xff\xff\xff" + b"x" * 100_000)


def deep(channel: socket.socket, _: Message, __: list[int]) -> None:
    """JSON of a hundred thousand levels."""
    data = b"[" * 100_000
    channel.sendall(struct.pack("!I", len(data)) + data)


def garbage(channel: socket.socket, _: Message, __: list[int]) -> None:
    """What is no JSON."""
    channel.sendall(struct.pack("!I", 9) + b"\xff\xfe\x00\x1b[2J\n{")


def wrong(channel: socket.socket, _: Message, __: list[int]) -> None:
    """JSON of other types than are wanted, with text for the journal."""
    channel.sendall(whole({"found": "no", "status": {"a": []}, "output": 5, "errors": "\x1b[2J\nroot: all is well"}))


def slow(channel: socket.socket, _: Message, __: list[int]) -> None:
    """A byte in a second."""
    for each in whole({"found": True, "x": "y" * 100}):
        channel.sendall(bytes([each]))
        time.sleep(1)


def silent(_: socket.socket, __: Message, ___: list[int]) -> None:
    """Nothing at all."""
    time.sleep(30)


def stderr(channel: socket.socket, _: Message, __: list[int]) -> None:
    """Fills what takes its error output, if anything does."""
    for number in (2, 1):
        try:
            for _round in range(2000):
                os.write(number, b"\x1b[31mroot: all is lost\n" * 1000)
        except OSError:
            continue
    channel.sendall(whole({"found": False}))


def lost(_: socket.socket, __: Message, ___: list[int]) -> None:
    """Ends without an answer."""
    sys.exit(1)


def main() -> None:
    account = pwd.getpwuid(os.getuid())
    try:
        how = Path(account.pw_dir, ".attack").read_text(encoding="ascii").strip()
    except OSError:
        os.execv(REAL, [REAL])
    channel = socket.socket(fileno=os.dup(0))
    if how == "hello":
        channel.sendall(b"\xff" * 100)
        time.sleep(30)
    channel.sendall(whole({"user": account.pw_name, "uid": account.pw_uid}))
    while True:
        message, given = receive(channel)
        globals()[how](channel, message, given)
        for each in given:
            os.close(each)


main()
