"""Strings that know the origin of each piece: shell code of the template's author, or a value, which is data.

A filter, a method or a format that does not know the pieces makes a plain string, and a plain string is data. So no
value of a user can become shell code: where an origin is lost, the result has too many quotes rather than too few.
"""

from collections.abc import Iterable
from enum import Enum
from typing import Any, NamedTuple

from ucloud_slurm.errors import Refused


class Origin(Enum):
    """What a piece of text is for the shell."""

    CODE = "code"  # written by the author of the template
    DATA = "data"  # a value
    VARIABLE = "variable"  # the name of a variable that the job sets on its node


class Piece(NamedTuple):
    """A part of a text."""

    origin: Origin
    text: str


class TaggedStr(str):
    """A string with its pieces. Without any it is data as a whole."""

    __slots__ = ("_pieces",)
    _pieces: tuple[Piece, ...]

    def __new__(cls, text: str = "", pieces: Iterable[Piece] | None = None) -> "TaggedStr":
        """A string of these characters and these pieces, which must agree."""
        made = super().__new__(cls, text)
        made._pieces = (Piece(Origin.DATA, str.__str__(text)),) if pieces is None else tuple(pieces)
        return made

    def __str__(self) -> str:
        """The string itself, so that str() keeps the pieces."""
        return self

    def __add__(self, other: str) -> "TaggedStr":
        """Both strings, with the pieces of each."""
        return joined((self, other))

    def __radd__(self, other: str) -> "TaggedStr":
        """Both strings, with the pieces of each."""
        return joined((other, self))


class ShellVariable:
    """A value that only the node knows: the name of a variable of the shell."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def _unknown(self, *_: Any) -> Any:
        raise Refused(f"{self._name} is known on the node only: a template can print it, but not compute with it.")

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __int__ = __float__ = __str__ = __repr__ = _unknown
    __eq__ = __lt__ = __gt__ = __le__ = __ge__ = __len__ = __iter__ = _unknown
    __hash__ = None  # type: ignore[assignment]


def as_code(text: str) -> TaggedStr:
    """A text that the author of the template wrote."""
    return TaggedStr(text, (Piece(Origin.CODE, text),) if text else ())


def as_data(value: Any) -> TaggedStr:
    """The text of a value, as data throughout."""
    text = tagged(value)
    pieces = (Piece(Origin.DATA, piece.text) if piece.origin is Origin.CODE else piece for piece in text._pieces)
    return TaggedStr(text, pieces)


def tagged(value: Any) -> TaggedStr:
    """The text of a value as it is printed.

    :raises Refused: the value has no text
    """
    if isinstance(value, TaggedStr):
        return value
    if value is None:
        return as_code("")
    if isinstance(value, str | bool | int | float):
        return TaggedStr(str(value))
    if isinstance(value, ShellVariable):
        return _of_pieces([Piece(Origin.VARIABLE, value._name)])
    raise Refused(f"a {type(value).__name__} cannot be printed; name one of its values, or use the filter join.")


def joined(values: Iterable[Any]) -> TaggedStr:
    """The texts of these values, one after another."""
    texts = [tagged(value) for value in values]
    return TaggedStr("".join(texts), (piece for text in texts for piece in text._pieces))


def pieces(text: TaggedStr) -> list[Piece]:
    """The pieces of a text, with adjacent code joined and empty code left out."""
    found: list[Piece] = []
    for piece in text._pieces:
        if piece.origin is Origin.CODE and found and found[-1].origin is Origin.CODE:
            found[-1] = Piece(Origin.CODE, found[-1].text + piece.text)
        elif piece.text or piece.origin is not Origin.CODE:
            found.append(piece)
    return found


def trimmed(value: Any, chars: str | None = None) -> TaggedStr:
    """The text without blanks, or these characters, at its ends."""
    left = list(tagged(value)._pieces)
    for end, strip in ((0, str.lstrip), (-1, str.rstrip)):
        while left and left[end].origin is not Origin.VARIABLE:
            left[end] = Piece(left[end].origin, strip(left[end].text, chars))
            if left[end].text:
                break
            del left[end]
    return _of_pieces(left)


def _of_pieces(pieces: Iterable[Piece]) -> TaggedStr:
    found = tuple(pieces)
    texts = (f"${{{piece.text}}}" if piece.origin is Origin.VARIABLE else piece.text for piece in found)
    return TaggedStr("".join(texts), found)
