"""Which characters a text may have that goes into a script."""

from collections.abc import Iterable

from ucloud_slurm.errors import Refused


def refuse_control_characters(what: str, texts: Iterable[str]) -> None:
    """Refuses text that could begin a line of its own in a script, or end a string in C.

    :raises Refused: naming ``what`` and the character
    """
    for text in texts:
        for character in text:
            if character != "\t" and not is_plain(character):
                raise Refused(f"{what} holds a character that is not allowed (U+{ord(character):04X}).")


def is_plain(character: str) -> bool:
    """False for control characters, line and paragraph separators, and half surrogates."""
    code = ord(character)
    return not (code < 0x20 or 0x7F <= code < 0xA0 or code in (0x2028, 0x2029) or 0xD800 <= code < 0xE000)
