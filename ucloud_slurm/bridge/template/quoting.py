"""Values in a script of bash: each is written so that it arrives as it is, wherever the script wants it.

What the author of a template wrote stays as it is. Where it is not certain how bash would take a value, it is refused:
better no job than one that runs what a user typed.
"""

import re
from collections.abc import Sequence

from ucloud_slurm.bridge.template import shell_commands as bash
from ucloud_slurm.bridge.template.lexer import NAMES, Frame, Lexer, Mode
from ucloud_slurm.bridge.template.provenance import Origin, Piece

_DIGITS = re.compile(r"-?[0-9]{1,18}")
_HARMLESS = re.compile(r"[A-Za-z0-9_./:@%+,-]+")
_NAME_AT_END = re.compile(r"\$(?:[A-Za-z_][A-Za-z0-9_]*|[0-9])$")
_OPEN = re.compile(r"\[[^\]]*$")
_BRACES = re.compile(r"\{-?[0-9]+\.\.(?:-?[0-9]+\.\.)?")
_AFTER_A_WORD = ("", " ", "\t", "\n", ";", "&", "|", ")")
_AFTER_A_PART = tuple("/.:@%,-_")


def shell(pieces: Sequence[Piece]) -> str:
    """The script in which every value arrives as it is.

    :raises Refused: naming the line and what cannot be there
    """
    reader = _Quoter()
    for number, piece in enumerate(pieces):
        if piece.kind is Origin.CODE:
            reader.read(piece.text)
        else:
            after = pieces[number + 1] if number + 1 < len(pieces) else None
            reader.value(piece, "" if after is None else after.text[:1] if after.kind is Origin.CODE else "?")
    return reader.end()


class _Quoter(Lexer):
    def value(self, piece: Piece, after: str) -> None:
        """Puts in a value.

        :param after: the first character of what follows; "?" for another value, "" for the end
        """
        if self._ambiguity is not None:
            raise self._refusal(self._ambiguity)
        if self._loose or self._levels[-1].delimiter:
            raise self._refusal(f"a value cannot follow {self._loose or '<<'} directly")
        text = self._live(piece.text) if piece.kind is Origin.LIVE else self._data(piece.text, after)
        self._out.append(text)
        self._number += text.count("\n")

    def _enclosing(self) -> set[Mode]:
        """The places around a value, up to the nearest command or document."""
        found = set()
        for level in reversed(self._levels):
            found.add(level.place)
            if level.place in (Mode.COMMAND, Mode.COMMENT, Mode.DOCUMENT):
                break
        return found

    def _live(self, name: str) -> str:
        top = self._levels[-1]
        places = self._enclosing()
        if Mode.BACKQUOTE in places or Mode.ANSI in places or (top.here and top.here[0].quoted):
            raise self._refusal(f"{name} is known on the node only and cannot be filled in within {NAMES[top.place]}")
        if top.place is Mode.DOCUMENT:
            top.line += "$"
        if top.place is Mode.COMMAND:
            top.word += '"'
            return f'"${name}"'
        if top.place is Mode.SINGLE:
            return f"'\"${name}\"'"
        return name if top.place is Mode.COMMENT else f"${{{name}}}"

    def _data(self, text: str, after: str) -> str:
        top = self._levels[-1]
        places = self._enclosing()
        if Mode.ARITHMETIC in places or Mode.PARAMETER in places:
            before = self._out[-1][-1:] if self._out else ""
            number = _DIGITS.fullmatch(text) and (Mode.ARITHMETIC in places or before in tuple(":-"))
            if not number:
                what = "((...))" if Mode.ARITHMETIC in places else "${...}"
                # A variable would be no way out of ((...)): its contents are computed too.
                raise self._refusal(f"a value that is no number cannot stand within {what}")
            return text
        inner = [level for level in self._levels if level.place is Mode.DOCUMENT and level is not top]
        if inner and "\n" in text and top.place is not Mode.COMMENT:
            raise self._refusal("a value of several lines cannot stand in a command within a here-document")
        match top.place:
            case Mode.COMMAND:
                return self._word(text, after, top)
            case Mode.COMMENT:
                return " ".join(text.splitlines())
            case Mode.SINGLE:
                self._check_quoted(text)
                return text.replace("'", "'\\''")
            case Mode.DOUBLE:
                self._check_quoted(text)
                joins = _NAME_AT_END.search(self._before())
                return ('""' if joins else "") + re.sub(r'([\\$`"])', r"\\\1", text)
            case Mode.DOCUMENT:
                return self._into_document(text, top)
        raise self._refusal(f"a value cannot stand within {NAMES[top.place]}")

    def _into_document(self, text: str, top: Frame) -> str:
        here = top.here[0]
        if not here.quoted and text and _NAME_AT_END.search(self._before()):
            raise self._refusal("a value cannot follow a variable in a here-document directly; write ${NAME}")
        shown = text if here.quoted else re.sub(r"([\\$`])", r"\\\1", text)
        for number, line in enumerate(shown.split("\n")):
            if number:
                self._line_ends(top)
            if here.tabs and line.startswith("\t") and not top.line.strip("\t"):
                raise self._refusal(
                    "a tab at the beginning of a line of a value would be lost in a here-document with <<-"
                )
            top.line += line
            top.valued = True
        return shown

    def _before(self) -> str:
        """The last of what stands before a value."""
        return next((text[-300:] for text in reversed(self._out) if text), "")

    def _check_quoted(self, text: str) -> None:
        """Refuses a value within quotes where what counts is the command that gets it."""
        level = self._levels[-2]
        if level.place is Mode.COMMAND:
            self._check(text, level, level.subscript)
            level.plain += text

    def _check(self, text: str, level: Frame, in_brackets: bool) -> None:
        if _DIGITS.fullmatch(text):
            return
        harmless = _HARMLESS.fullmatch(text) is not None
        integers = self._integers
        trouble = level.command.trouble(level.plain, integers=integers, harmless=harmless)
        if self._arrays and text.startswith("(") and level.command.declares:
            trouble = "a value in parentheses cannot be given to a variable that may be an array"
        if level.array and integers:
            trouble = "a value that is no number cannot stand in an array where variables may be integers"
        if in_brackets:
            trouble = "a value that is no number cannot stand within [...]"
        if trouble:
            raise self._refusal(trouble)

    def _word(self, text: str, after: str, top: Frame) -> str:
        self._check(text, top, top.word.count("[") > top.word.count("]"))
        if not text:
            shown = "" if top.word else "''"
        elif self._bare(text, after, top):
            shown = text
        else:
            shown = "'" + text.replace("'", "'\\''") + "'"  # always: shlex.quote leaves a=b as it is
        top.word += shown if shown == text else "''" if shown else ""
        top.plain += text
        return shown

    def _bare(self, text: str, after: str, top: Frame) -> bool:
        """Whether the text may stand there without quotes: it begins nothing, and nothing begun takes it."""
        before = top.word
        if _DIGITS.fullmatch(text) and (_BRACES.fullmatch(before) or _OPEN.search(before)):
            return True
        if top.command.condition:  # where even words such as -v are more than text
            return _DIGITS.fullmatch(text) is not None
        if not _HARMLESS.fullmatch(text) or not (before == "" or re.fullmatch(r"[A-Za-z0-9_./:=@%+,-]+", before)):
            return False
        if before:
            # Together they may be no name of a variable and no word of the shell's own.
            return not before.replace("_", "a").isalnum() and (after in _AFTER_A_WORD or after in _AFTER_A_PART)
        return after in tuple("/.:@%,-") or (after in _AFTER_A_WORD and text not in bash.RESERVED)
