"""Runs one program of the site: a document as its input, a time limit for all of its processes, an end to its output."""

import os
import selectors
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from ucloud_slurm.errors import NotNow, one_line
from ucloud_slurm.system.ownership import distrust

OUTPUT_BYTES = 64 * 1024  # that are kept of what it prints; the rest is read and dropped
KILL_SECONDS = 1.0  # for a killed program to end
_PIECE = 64 * 1024


class HookFailedError(NotNow):
    """The program has not done its work. The text names the program and the reason, for the administrator."""


@dataclass(slots=True)
class _Output:
    """What is kept of one of its outputs."""

    text: bytes = b""
    cut: bool = False

    def add(self, piece: bytes) -> None:
        self.cut |= len(self.text) + len(piece) > OUTPUT_BYTES
        self.text = (self.text + piece)[:OUTPUT_BYTES]


def run(program: str, document: str, within: float, environment: dict[str, str]) -> str:
    """Runs a program until its end, and returns what it has printed.

    At the limit, and also after its end, all processes of its group are killed (kill(2)). A process that has left the
    group is ended with the unit.

    :param program: absolute path
    :param document: its standard input
    :param within: seconds
    :param environment: its whole environment
    :raises HookFailedError: it cannot be trusted or started, takes too long, prints too much, or its exit status is not 0
    """
    found = distrust(program, lambda uid: uid in (0, os.geteuid()), "root or the account that runs it")
    if found is not None:
        raise HookFailedError(f"{program} was not run: {found.why}; repair it with {found.repair}")
    until = time.monotonic() + within
    with _input(document) as given:
        try:
            process = subprocess.Popen(
                [program],
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            raise HookFailedError(f"{program} cannot be run ({error.strerror}); check the file and its first line") from None
    try:
        output, errors, ended = _read(process, until)
    finally:
        # Before its status is read: until then the kernel gives its number to no other group.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(KILL_SECONDS)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
    if not ended:
        raise HookFailedError(f"{program} took longer than {within:g} s and was killed; make it faster, or raise its timeout")
    if process.returncode != 0:
        raise HookFailedError(f"{program} ended with {_status(process.returncode)}{_last_words(errors.text or output.text)}")
    if output.cut:
        raise HookFailedError(f"{program} printed more than {OUTPUT_BYTES // 1024} KiB; print less")
    return output.text.decode(errors="replace")


def _input(document: str) -> IO[bytes]:
    """The document in a file of memory: a program that does not read it stops nobody (memfd_create(2))."""
    file = os.fdopen(os.memfd_create("event", os.MFD_CLOEXEC), "w+b", buffering=0)
    rest = memoryview(document.encode() + b"\n")
    while rest:
        rest = rest[file.write(rest) or 0 :]
    file.seek(0)
    return file


def _read(process: "subprocess.Popen[bytes]", until: float) -> tuple[_Output, _Output, bool]:
    """Reads both outputs until the process has ended, whatever other processes have them open.

    :returns: the output, the errors, and whether it has ended by itself in time
    """
    output, errors = _Output(), _Output()
    descriptor = os.pidfd_open(process.pid)
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            for pipe, kept in ((process.stdout, output), (process.stderr, errors)):
                if pipe is not None:
                    os.set_blocking(pipe.fileno(), False)
                    selector.register(pipe, selectors.EVENT_READ, kept)
            while True:
                ready = selector.select(max(until - time.monotonic(), 0.0))
                for key, _ in ready:
                    if key.data is not None and not (piece := _piece(key.fd)):
                        selector.unregister(key.fileobj)
                    elif key.data is not None:
                        key.data.add(piece)
                if any(key.fd == descriptor for key, _ in ready):
                    for key in list(selector.get_map().values()):  # what it has printed last
                        while key.data is not None and not key.data.cut and (piece := _piece(key.fd)):
                            key.data.add(piece)
                    return output, errors, True
                if time.monotonic() >= until:
                    return output, errors, False
    finally:
        os.close(descriptor)


def _piece(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, _PIECE)
    except BlockingIOError:
        return b""


def _status(code: int) -> str:
    return f"exit status {code}" if code > 0 else f"signal {-code}"


def _last_words(text: bytes) -> str:
    lines = text.decode(errors="replace").strip().splitlines()
    return f": {one_line(lines[-1], 200)}" if lines else ""
