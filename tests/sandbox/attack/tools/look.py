"""Reads what an account can read: files, and what /proc shows of processes.

``files PATTERN...`` prints the paths that could be read or written; ``find`` takes secrets as JSON in a line of its
input and prints where they stand in commands and environments of processes, until its input is closed; ``poke
PATTERN`` does to processes what one account may do to another's, and prints what was not refused once they had started.
"""

import ctypes
import json
import os
import re
import select
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

ATTACH, DETACH = 16, 17  # ptrace(2)
PROC = Path("/proc")
STARTING_SECONDS = 3.0  # by which a program has protected itself, on a busy machine too


def processes() -> Iterator[int]:
    for place in PROC.iterdir():
        if place.name.isdigit() and int(place.name) != os.getpid():
            yield int(place.name)


def text(pid: int, name: str) -> bytes:
    try:
        with (PROC / str(pid) / name).open("rb") as file:
            return file.read(1 << 20)
    except OSError:
        return b""


def expanded(patterns: Sequence[str]) -> Iterator[Path]:
    for pattern in patterns:
        fixed, star, _ = pattern.partition("*")
        if not star:
            yield Path(pattern)
            continue
        parent = Path(fixed).parent if not fixed.endswith("/") else Path(fixed)
        with suppress(OSError):
            yield from parent.glob(str(Path(pattern).relative_to(parent)))


def files(patterns: Sequence[str]) -> list[str]:
    found = []
    waiting = list(expanded(patterns))
    while waiting:
        path = waiting.pop()
        with suppress(OSError):
            if path.is_symlink():
                continue
            if path.is_dir():
                found += [f"{path} can be written"] if os.access(path, os.W_OK) else []
                waiting += path.iterdir()
            elif path.exists():
                found += [
                    f"{path} can be {word}" for way, word in ((os.R_OK, "read"), (os.W_OK, "written")) if os.access(path, way)
                ]
    return sorted(found)


def find() -> list[str]:
    wanted = [secret.encode() for secret in json.loads(sys.stdin.readline())]
    seen: set[str] = set()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while not select.select([0], [], [], 0)[0]:
        for pid in processes():
            for name in ("cmdline", "environ", "comm"):
                seen.update(f"{name} of a process" for secret in wanted if secret in text(pid, name))
    return sorted(seen)


def poke(pattern: str) -> dict[str, object]:
    got: set[str] = set()
    count = 0
    for pid in processes():
        command = text(pid, "cmdline")
        if re.search(pattern.encode(), command) and b"look.py" not in command:
            count += 1
            until = time.monotonic() + STARTING_SECONDS
            while (given := set(poke_one(pid))) - {"SIGCONT"} and time.monotonic() < until:
                select.select([], [], [], 0.05)
            got |= given
    return {"processes": count, "got": sorted(got)}


def poke_one(pid: int) -> Iterator[str]:
    libc = ctypes.CDLL(None, use_errno=True)
    with suppress(OSError):
        os.kill(pid, signal.SIGCONT)
        yield "SIGCONT"
    if libc.ptrace(ATTACH, pid, None, None) == 0:
        os.waitpid(pid, 0x40000000)
        libc.ptrace(DETACH, pid, None, None)
        yield "ptrace"
    for name in ("environ", "maps", "io"):
        if text(pid, name):
            yield name
    with suppress(OSError), (PROC / str(pid) / "mem").open("rb"):
        yield "mem"
    with suppress(OSError):
        yield from ["fd"] if list((PROC / str(pid) / "fd").iterdir()) else []


def main() -> None:
    verb, *words = sys.argv[1:]
    if verb == "files":
        found: object = files(words)
    else:
        found = find() if verb == "find" else poke(words[0])
    sys.stdout.write(json.dumps(found))


main()
