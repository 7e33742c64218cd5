"""Transfers as curl(1) makes them: of whole files, and of a file in the chunks that browsers send."""

import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.sandbox.core.files import UploadLink
from tests.sandbox.core.web_files import CHUNK
from tests.sandbox.errors import SandboxError

PATIENCE = 600.0
QUIET = ("curl", "--silent", "--show-error", "--fail", "--output", "/dev/null")
Command = Sequence[str]


def get(url: str, rate: str | None = None) -> Command:
    """Fetches a file, and keeps nothing of it.

    :param rate: bytes a second at most, such as ``2M``
    """
    return [*QUIET, *_limit(rate), url]


def put(file: Path, url: str, rate: str | None = None) -> Command:
    """Sends a file whole."""
    return [*QUIET, *_limit(rate), "--upload-file", str(file), url]


def chunks(link: UploadLink, chunk: Path, number: int, rate: str | None = None) -> Command:
    """Sends a file in chunks over one connection, as UCloud's web client does.

    :param chunk: a file of :data:`CHUNK` bytes, which is sent so many times
    """
    total = number * CHUNK
    text = ""
    for each in range(number):
        headers = {"Token": link.token, "Offset": each * CHUNK, "Total-Size": total}
        lines = [f'header = "Chunked-Upload-{name}: {value}"' for name, value in headers.items()]
        # "Expect: 100-continue" is what curl does by itself with large bodies, and browsers do not. A body of data-binary
        # would be copied together in memory first, which costs curl more than a server needs to take it.
        lines += ['header = "Expect:"', 'request = "POST"', f'upload-file = "{chunk}"', f'url = "{link.endpoint}"']
        lines += ["fail", "silent", "show-error"]
        lines += ['output = "/dev/null"', *([f"limit-rate = {rate}"] if rate else [])]
        text += ("next\n" if each else "") + "\n".join(lines) + "\n"
    with tempfile.NamedTemporaryFile("w", dir=chunk.parent, suffix=".curl", delete=False) as file:
        file.write(text)
    return ["curl", "--config", file.name]


def took(command: Command) -> float:
    """Seconds until it has ended.

    :raises SandboxError: it failed
    """
    begun = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    seconds = time.perf_counter() - begun
    if done.returncode:
        raise SandboxError(f"curl ended with {done.returncode}: {done.stderr[:300]}")
    return seconds


@contextmanager
def beside(commands: Sequence[Command]) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Runs them meanwhile, and ends what has not ended.

    :raises SandboxError: one ended by itself
    """
    running = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for command in commands]
    try:
        yield running
        for process in running:
            if process.poll() is not None:
                error = process.stderr.read().decode(errors="replace") if process.stderr else ""
                raise SandboxError(f"a transfer ended too early, with {process.returncode}: {error[:300]}")
    finally:
        for process in running:
            process.kill()
            process.communicate()


def _limit(rate: str | None) -> Sequence[str]:
    return ("--limit-rate", rate) if rate else ()
