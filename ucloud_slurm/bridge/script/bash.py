"""Text in a batch script: allowed characters, and the quoting of words."""

import shlex
from collections.abc import Iterable

from ucloud_slurm.errors import Refused

STOP = (
    "# Ends the job with one line that says why",
    "ucloud_stop() {",
    "    printf 'UCloud: %s\\n' \"$1\" >&2",
    "    exit 1",
    "}",
)


def quoted(words: Iterable[str]) -> str:
    """The words, quoted so that bash reads them byte for byte.

    No line of a word begins a line of the script, where Slurm or a reader could take it for something else.
    """
    return " ".join(_lines_quoted(word) if "\n" in word else shlex.quote(word) for word in words)


def _lines_quoted(word: str) -> str:
    """A word of several lines, each in ``$'...'`` on a line of its own."""
    escaped = word.replace("\\", "\\\\").replace("'", "\\'")
    return "\\\n".join(f"$'{line}'" for line in escaped.replace("\n", "\\n\n").split("\n") if line)


def stop(sentence: str) -> str:
    """The line that ends the job with a sentence, by the function of :data:`STOP`."""
    return f"ucloud_stop {shlex.quote(sentence)}"


def sourced(path: str, what: str) -> list[str]:
    """The lines that source a shell file of the site, and end the job when it cannot be read.

    :param what: what the file is, for the error message
    """
    return [f"[ -r {shlex.quote(path)} ] || {stop(f'{path} ({what}) cannot be read on this node.')}", f". {shlex.quote(path)}"]


def refuse_control_characters(what: str, texts: Iterable[str], *, lines: bool = False) -> None:
    """Refuses text that could end a string in C, or that a terminal would act on.

    :param lines: whether the text may have several lines, which :func:`quoted` keeps together
    :raises Refused: naming ``what`` and the character
    """
    allowed = "\t\n" if lines else "\t"
    for text in texts:
        for character in text:
            if character in "\r\n" and not lines:
                raise Refused(f"{what} takes one line only, and its value has a line break (U+{ord(character):04X}).")
            if character not in allowed and not is_plain(character):
                raise Refused(f"{what} contains a character that is not allowed (U+{ord(character):04X}).")


def is_plain(character: str) -> bool:
    """False for control characters, line and paragraph separators, and half surrogates."""
    code = ord(character)
    return not (code < 0x20 or 0x7F <= code < 0xA0 or code in (0x2028, 0x2029) or 0xD800 <= code < 0xE000)
