"""Quoting of Jinja values in a script of bash: each arrives as it is, wherever in the script it is printed.

Code of the template's author is not changed. Where it is not certain how bash would read a value, the value is refused,
so that a user's text never runs as code.
"""

import re
from collections.abc import Sequence

from ucloud_slurm.bridge.template.frames import Frame, Mode
from ucloud_slurm.bridge.template.lexer import Lexer
from ucloud_slurm.bridge.template.provenance import Origin, Piece
from ucloud_slurm.bridge.template.shell_commands import RESERVED

_DIGITS = re.compile(r"-?[0-9]{1,18}")
_HARMLESS = re.compile(r"[A-Za-z0-9_./:@%+,-]+")
_HARMLESS_PREFIX = re.compile(r"[A-Za-z0-9_./:=@%+,-]*")
_NAME_AT_END = re.compile(r"\$(?:[A-Za-z_][A-Za-z0-9_]*|[0-9])$")
_OPEN_BRACKET = re.compile(r"\[[^\]]*$")
_BRACES = re.compile(r"\{-?[0-9]+\.\.(?:-?[0-9]+\.\.)?")
_AFTER_A_WORD = ("", " ", "\t", "\n", ";", "&", "|", ")")
_AFTER_A_PART = tuple("/.:@%,-_")


def quoted_script(pieces: Sequence[Piece]) -> str:
    """The script, with every value quoted for its place.

    :raises Refused: naming the line and what cannot be there
    """
    quoter = _ValueQuoter()
    for number, piece in enumerate(pieces):
        if piece.origin is Origin.CODE:
            quoter.read(piece.text)
        else:
            after = pieces[number + 1] if number + 1 < len(pieces) else None
            quoter.add_value(piece, "" if after is None else after.text[:1] if after.origin is Origin.CODE else "?")
    return quoter.end()


class _ValueQuoter(Lexer):
    def add_value(self, piece: Piece, after: str) -> None:
        """Adds a value to the script.

        :param after: the first character of what follows; "?" for another value, "" for the end
        """
        if self._ambiguity is not None:
            raise self._refused(self._ambiguity)
        if self._unfinished or self._frames[-1].operator:
            raise self._refused(f"a value cannot follow {self._unfinished or '<<'} directly")
        variable = piece.origin is Origin.VARIABLE
        text = self._quote_variable(piece.text) if variable else self._quote_data(piece.text, after)
        self._output.append(text)
        self._line_number += text.count("\n")

    def _enclosing_modes(self) -> set[Mode]:
        """The modes around a value, up to the nearest command or here-document."""
        found = set()
        for frame in reversed(self._frames):
            found.add(frame.mode)
            if frame.mode in (Mode.COMMAND, Mode.COMMENT, Mode.DOCUMENT):
                break
        return found

    def _quote_variable(self, name: str) -> str:
        top = self._frames[-1]
        modes = self._enclosing_modes()
        if Mode.BACKQUOTE in modes or Mode.ANSI in modes or (top.documents and top.documents[0].quoted):
            raise self._refused(f"{name} is known on the node only and cannot be used within {top.mode.value}")
        if top.mode is Mode.DOCUMENT:
            top.line += "$"
        if top.mode is Mode.COMMAND:
            top.unquoted += '"'
            return f'"${name}"'
        if top.mode is Mode.SINGLE:
            return f"'\"${name}\"'"
        return name if top.mode is Mode.COMMENT else f"${{{name}}}"

    def _quote_data(self, text: str, after: str) -> str:
        top = self._frames[-1]
        modes = self._enclosing_modes()
        if Mode.ARITHMETIC in modes or Mode.PARAMETER in modes:
            before = self._output[-1][-1:] if self._output else ""
            if not _DIGITS.fullmatch(text) or not (Mode.ARITHMETIC in modes or before in tuple(":-")):
                within = Mode.ARITHMETIC if Mode.ARITHMETIC in modes else Mode.PARAMETER
                # A variable would not help in ((...)): bash evaluates its contents too.
                raise self._refused(f"a value that is no number cannot be used within {within.value}")
            return text
        in_document = any(frame.mode is Mode.DOCUMENT and frame is not top for frame in self._frames)
        if in_document and "\n" in text and top.mode is not Mode.COMMENT:
            raise self._refused("a value of several lines cannot be used in a command within a here-document")
        match top.mode:
            case Mode.COMMAND:
                return self._quote_word(text, after, top)
            case Mode.COMMENT:
                return " ".join(text.splitlines())
            case Mode.SINGLE:
                self._check_quoted(text)
                return text.replace("'", "'\\''")
            case Mode.DOUBLE:
                self._check_quoted(text)
                follows_name = _NAME_AT_END.search(self._before())
                return ('""' if follows_name else "") + re.sub(r'([\\$`"])', r"\\\1", text)
            case Mode.DOCUMENT:
                return self._quote_in_document(text, top)
        raise self._refused(f"a value cannot be used within {top.mode.value}")

    def _quote_in_document(self, text: str, top: Frame) -> str:
        document = top.documents[0]
        if not document.quoted and text and _NAME_AT_END.search(self._before()):
            raise self._refused("a value cannot follow a variable in a here-document directly; write ${NAME}")
        quoted = text if document.quoted else re.sub(r"([\\$`])", r"\\\1", text)
        for number, line in enumerate(quoted.split("\n")):
            if number:
                self._end_document_line(top)
            if document.strips_tabs and line.startswith("\t") and not top.line.strip("\t"):
                raise self._refused("a tab at the beginning of a line of a value would be lost in a here-document with <<-")
            top.line += line
            top.has_value = True
        return quoted

    def _before(self) -> str:
        """The end of the text before a value."""
        return next((text[-300:] for text in reversed(self._output) if text), "")

    def _check_quoted(self, text: str) -> None:
        """Refuses a value within quotes that the enclosing command would not take as text."""
        frame = self._frames[-2]
        if frame.mode is Mode.COMMAND:
            self._check(text, frame, in_brackets=frame.in_subscript)
            frame.argument += text

    def _check(self, text: str, frame: Frame, *, in_brackets: bool) -> None:
        if _DIGITS.fullmatch(text):
            return
        harmless = _HARMLESS.fullmatch(text) is not None
        refusal = frame.command.refusal(frame.argument, integers=self._has_integers, harmless=harmless)
        if self._has_arrays and text.startswith("(") and frame.command.declares:
            refusal = "a value in parentheses cannot be assigned to a variable that may be an array"
        if frame.array_depth and self._has_integers:
            refusal = "a value that is no number cannot be used in an array where variables may be integers"
        if in_brackets:
            refusal = "a value that is no number cannot be used within [...]"
        if refusal:
            raise self._refused(refusal)

    def _quote_word(self, text: str, after: str, top: Frame) -> str:
        self._check(text, top, in_brackets=top.in_brackets)
        if not text:
            quoted = "" if top.unquoted else "''"
        elif self._needs_no_quotes(text, after, top):
            quoted = text
        else:
            quoted = "'" + text.replace("'", "'\\''") + "'"  # shlex.quote would leave a=b as it is
        top.unquoted += quoted if quoted == text else "''" if quoted else ""
        top.argument += text
        return quoted

    def _needs_no_quotes(self, text: str, after: str, top: Frame) -> bool:
        """Whether bash reads the text as a plain word, or a part of one, without quotes."""
        before = top.unquoted
        if _DIGITS.fullmatch(text) and (_BRACES.fullmatch(before) or _OPEN_BRACKET.search(before)):
            return True
        if top.command.condition:  # where words such as -v are operators
            return _DIGITS.fullmatch(text) is not None
        if not _HARMLESS.fullmatch(text) or not _HARMLESS_PREFIX.fullmatch(before):
            return False
        if before:
            # Together they must be neither the name of a variable nor a reserved word.
            return not before.replace("_", "a").isalnum() and (after in _AFTER_A_WORD or after in _AFTER_A_PART)
        return after in tuple("/.:@%,-") or (after in _AFTER_A_WORD and text not in RESERVED)
