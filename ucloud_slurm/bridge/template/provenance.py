"""TaggedStr that remembers where it came from: the shell that an application's author wrote, or a value, which is data.

Whatever is done with such a text by a filter, a method or a format makes plain text of it, and plain text is data.
So nothing that a user gave can become shell, and what was forgotten errs on the side of too many quotes.
"""

from collections.abc import Iterable
from enum import Enum
from typing import Any, NamedTuple

from ucloud_slurm.errors import Refused


class Origin(Enum):
    """What a piece of text is for the shell."""

    CODE = "code"  # written by the author of the template
    DATA = "data"  # a value
    LIVE = "live"  # the name of a variable that the job sets on its node


class Piece(NamedTuple):
    """A part of a text."""

    kind: Origin
    text: str


class TaggedStr(str):
    """A text with the pieces that it is made of; without any it is data as a whole."""

    __slots__ = ("_pieces",)
    _pieces: tuple[Piece, ...]

    def __new__(cls, text: str = "", pieces: Iterable[Piece] | None = None) -> "TaggedStr":
        """Makes it from its characters and its pieces, which must say the same."""
        made = super().__new__(cls, text)
        made._pieces = (Piece(Origin.DATA, str.__str__(text)),) if pieces is None else tuple(pieces)
        return made

    def __str__(self) -> str:
        """The same text; str() must not forget its pieces."""
        return self

    def __add__(self, other: str) -> "TaggedStr":
        """Both, each with its pieces."""
        return joined((self, other))

    def __radd__(self, other: str) -> "TaggedStr":
        """Both, each with its pieces."""
        return joined((other, self))


class ShellVariable:
    """A value that only the node knows: the name of a variable of the shell."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def _unknown(self, *_: Any) -> Any:
        raise Refused(f"{self._name} is known on the node only: it can be printed, but nothing can be made of it.")

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __int__ = __float__ = __str__ = __repr__ = _unknown
    __eq__ = __lt__ = __gt__ = __le__ = __ge__ = __len__ = __iter__ = _unknown
    __hash__ = None  # type: ignore[assignment]


def written(text: str) -> TaggedStr:
    """TaggedStr that the author of the template wrote."""
    return TaggedStr(text, (Piece(Origin.CODE, text),) if text else ())


def text_of(value: Any) -> TaggedStr:
    """What printing a value gives.

    :raises Refused: it is nothing that has a text
    """
    if isinstance(value, TaggedStr):
        return value
    if value is None:
        return written("")
    if isinstance(value, str | bool | int | float):
        return TaggedStr(str(value))
    if isinstance(value, ShellVariable):
        return TaggedStr(f"${{{value._name}}}", (Piece(Origin.LIVE, value._name),))
    raise Refused(f"a {type(value).__name__} cannot be printed; name one of its values, or use the filter join.")


def joined(values: Iterable[Any]) -> TaggedStr:
    """The texts of these values behind each other."""
    texts = [text_of(value) for value in values]
    return TaggedStr("".join(texts), (piece for text in texts for piece in text._pieces))


def pieces(text: TaggedStr) -> list[Piece]:
    """The pieces of a text, as few as can be."""
    found: list[Piece] = []
    for piece in text._pieces:
        if piece.kind is Origin.CODE and found and found[-1].kind is Origin.CODE:
            found[-1] = Piece(Origin.CODE, found[-1].text + piece.text)
        elif piece.text or piece.kind is not Origin.CODE:
            found.append(piece)
    return found


def as_data(value: Any) -> TaggedStr:
    """The text of a value as one that a user might have given."""
    text = text_of(value)
    return TaggedStr(text, (Piece(Origin.DATA, one.text) if one.kind is Origin.CODE else one for one in text._pieces))


def trimmed(value: Any, chars: str | None = None) -> TaggedStr:
    """The text without blanks, or these characters, at its ends."""
    left = list(text_of(value)._pieces)
    while left and left[0].kind is not Origin.LIVE:
        left[0] = Piece(left[0].kind, left[0].text.lstrip(chars))
        if left[0].text:
            break
        del left[0]
    while left and left[-1].kind is not Origin.LIVE:
        left[-1] = Piece(left[-1].kind, left[-1].text.rstrip(chars))
        if left[-1].text:
            break
        del left[-1]
    return TaggedStr("".join(f"${{{one.text}}}" if one.kind is Origin.LIVE else one.text for one in left), left)
