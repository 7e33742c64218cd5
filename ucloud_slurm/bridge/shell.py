"""Pieces of bash: words as data, and the one line with which a job ends that cannot go on."""

import shlex
from collections.abc import Iterable

STOP = (
    "# Ends the job with one line that says why",
    "ucloud_stop() {",
    "    printf 'UCloud: %s\\n' \"$1\" >&2",
    "    exit 1",
    "}",
)


def quoted(words: Iterable[str]) -> str:
    """The words as bash reads them back, byte for byte."""
    return " ".join(shlex.quote(word) for word in words)


def stop(sentence: str) -> str:
    """A call of the function of :data:`STOP`."""
    return f"ucloud_stop {shlex.quote(sentence)}"


def sourced(path: str, what: str) -> list[str]:
    """Reads a shell file of the site, which must be there.

    :param what: what it is, for the line that says so when it is missing
    """
    return [f"[ -r {shlex.quote(path)} ] || {stop(f'{path} ({what}) cannot be read on this node.')}",
            f". {shlex.quote(path)}"]  # fmt: skip
