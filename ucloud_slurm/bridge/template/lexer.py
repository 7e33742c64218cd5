"""A reader of bash that knows at each place of a script how bash would read on: as a command, within quotes, ...

Where it is not sure what bash would make of the text so far, it remembers why.
"""

import re
import shlex
from dataclasses import dataclass, field
from enum import Enum, auto

from ucloud_slurm.bridge.template import shell_commands as bash
from ucloud_slurm.errors import Refused


class Mode(Enum):
    """Where in a script the reader is."""

    COMMAND = auto()
    COMMENT = auto()
    SINGLE = auto()  # '...'
    ANSI = auto()  # $'...'
    DOUBLE = auto()  # "..."
    PARAMETER = auto()  # ${...}
    ARITHMETIC = auto()  # $((...)), ((...))
    BACKQUOTE = auto()  # `...`
    DOCUMENT = auto()  # a here-document


@dataclass(slots=True)
class Here:
    """A here-document: the line that ends it, and how its text is read."""

    end: str
    quoted: bool
    tabs: bool  # tabs at the beginning of a line do not count (<<-)


@dataclass(slots=True)
class Frame:
    """One of the places that enclose each other.

    :ivar nested: a command that ends with ")": $(...), <(...)
    :ivar depth: open parentheses in it
    :ivar word: of a command: the word so far, without what is quoted in it
    :ivar plain: of a command: the word so far, as the command will get it
    :ivar array: of a command: the depth of a=(...)
    :ivar waiting: of a command: here-documents that begin with the next line
    :ivar here: of a here-document: those that are read, the first one now
    :ivar line: of a here-document: the line so far
    :ivar valued: there is a value in this line
    """

    place: Mode
    nested: bool = False
    depth: int = 0
    word: str = ""
    plain: str = ""
    array: int = 0
    command: bash.Command = field(default_factory=bash.Command)
    delimiter: str = ""
    waiting: list[Here] = field(default_factory=list)
    here: list[Here] = field(default_factory=list)
    line: str = ""
    valued: bool = False

    @property
    def subscript(self) -> bool:
        """Whether the word is within the brackets of a[...]= or a=([...]=)."""
        begun = _SUBSCRIPT.match(self.word) or (self.array and self.word.startswith("["))
        return bool(begun) and not self.command.condition and self.word.count("[") > self.word.count("]")


_PLAIN = re.compile(r"[A-Za-z0-9_./:=@%+,^~*?!{}\]-]+")
_SUBSCRIPT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\[")
_DESCRIPTOR = re.compile(r"[0-9]+|\{[A-Za-z_][A-Za-z0-9_]*\}")
_ENDS_A_WORD = " \t\n;&|<>()"
_DELIMITER = re.compile(r"""(?:'[^'\n]*'|"[^"\n$`\\]*"|\\[^\n]|[^ \t\n;&|<>()'"\\$`])+""")
_SKIPPED = {
    Mode.SINGLE: re.compile(r"[^']+"),
    Mode.DOUBLE: re.compile(r'[^"\\$`\n]+'),
    Mode.COMMENT: re.compile(r"[^\n]+"),
}


class Lexer:
    """Reads a script piece by piece. What it has read so far is in ``_out``, where it is in ``_levels``."""

    def __init__(self) -> None:
        self._out: list[str] = []
        self._levels = [Frame(Mode.COMMAND)]
        self._ambiguity: str | None = None  # why nothing is certain any more
        self._loose = ""  # what stands right before a value and would take it
        self._arrays = False  # there may be arrays
        self._integers = False  # a variable was declared that evaluates what it gets
        self._number = 1

    # ---- what the author wrote

    def read(self, text: str) -> None:
        """Reads on; what the author wrote stays as it is."""
        self._loose = ""
        at = 0
        while at < len(text) and self._ambiguity is None:
            begin = at
            at = self._step(text, at)
            self._number += text.count("\n", begin, at)
        self._out.append(text)

    def end(self) -> str:
        """The whole script."""
        top = self._levels[-1]
        if top.place is Mode.DOCUMENT and self._ambiguity is None:
            self._line_ends(top)
        if self._ambiguity is None and self._levels[-1].place not in (Mode.COMMAND, Mode.COMMENT):
            raise Refused(f"the script ends within {NAMES[self._levels[-1].place]}.")
        return "".join(self._out)

    def _step(self, text: str, at: int) -> int:
        top = self._levels[-1]
        skipped = _SKIPPED[top.place].match(text, at) if top.place in _SKIPPED else None
        if skipped:
            self._said(skipped[0])
            return skipped.end()
        if top.place is Mode.COMMAND:
            return self._in_command(text, at, top)
        if text[at] == "\n":
            self._newline_inside(top)
        match top.place:
            case Mode.COMMENT:
                self._levels.pop()
                return at
            case Mode.SINGLE:
                self._levels.pop()
            case Mode.DOCUMENT:
                return self._in_document(text, at, top)
            case Mode.DOUBLE | Mode.PARAMETER | Mode.ARITHMETIC | Mode.BACKQUOTE | Mode.ANSI:
                return self._inside(text, at, top)
        return at + 1

    def _said(self, text: str) -> None:
        """Notes text in quotes as a part of the word that they belong to."""
        for level in reversed(self._levels):
            if level.place is Mode.COMMAND:
                level.plain += text
            if level.place not in _QUOTATIONS:
                break

    def _in_command(self, text: str, at: int, top: Frame) -> int:
        if top.delimiter:
            return self._delimiter(text, at, top)
        plain = _PLAIN.match(text, at)
        if plain:
            top.word += plain[0]
            top.plain += plain[0]
            return plain.end()
        character = text[at]
        if character in _ENDS_A_WORD + "#" and top.subscript:
            self._ambiguity = "a subscript of several words is not understood; use a variable"
        if top.array and character in ";&|<>(" and text[at : at + 2] not in ("<(", ">("):
            # Bash gives such an array up, and goes on with the next line, be it one of a value.
            self._ambiguity = f"an array a=(...) with {character} in it is not understood"
        match character:
            case " " | "\t" | "\n" | ";" | "&" | "|":
                # Not the end of a command: 2>&1, >|x, &>x
                redirects = top.command.redirected and not top.word and text[at - 1 : at] in ("<", ">")
                self._word_ends(top)
                if character not in " \t" and not (redirects and character in "&|") and text[at : at + 2] != "&>":
                    top.command.end()
                if character == "\n":
                    self._line_of_command_ends(top)
            case "#" if not top.word:
                self._levels.append(Frame(Mode.COMMENT))
            case "(" | ")":
                return self._parenthesis(text, at, top)
            case "<" | ">":
                return self._redirection(text, at, top)
            case "$" | "`" | "\\" | '"' | "'":
                return self._special(text, at, top)
            case _:
                top.word += character
                top.plain += character
        return at + 1

    def _special(self, text: str, at: int, top: Frame) -> int:
        """What begins a quotation, an expansion or another command; or a character that is escaped."""
        character, after = text[at], text[at + 1 : at + 2]
        top.word += character
        opens = top.place is Mode.COMMAND and after in ("'", '"')  # $'...', $"..."
        self._said(after.rstrip("\n") if character == "\\" else "$" if character == "$" and not opens else "")
        if top.place is Mode.DOCUMENT:
            top.line += character
        if character in "\\$" and not after:
            self._loose = character
        match character + after:
            case "$(":
                arithmetic = text.startswith("$((", at)
                self._levels.append(Frame(Mode.ARITHMETIC) if arithmetic else Frame(Mode.COMMAND, nested=True))
                return at + (3 if arithmetic else 2)
            case "${":
                self._levels.append(Frame(Mode.PARAMETER))
                return at + 2
            case "$[":
                self._ambiguity = "$[...] is not understood; write $((...))"
            case "$'" | '$"' if top.place is Mode.COMMAND:
                self._levels.append(Frame(Mode.ANSI if after == "'" else Mode.DOUBLE))
                return at + 2
            case _ if character == "\\":
                if top.place is Mode.COMMAND and after == "\n":
                    top.word = top.word[:-1]
                elif top.place is Mode.DOCUMENT:
                    top.line = top.line[:-1] if after == "\n" else top.line + after
                return at + 1 + len(after)
            case _ if character == "`":
                self._levels.append(Frame(Mode.BACKQUOTE))
            case _ if character == '"':
                self._levels.append(Frame(Mode.DOUBLE))
            case _ if character == "'":
                self._levels.append(Frame(Mode.SINGLE))
        return at + 1

    def _inside(self, text: str, at: int, top: Frame) -> int:
        """Within quotations and expansions."""
        character = text[at]
        if character == _ENDS.get(top.place):
            self._levels.pop()
            return at + 1
        if top.place is Mode.ARITHMETIC and character in "()":
            top.depth += 1 if character == "(" else -1
            if top.depth >= 0:
                return at + 1
            self._levels.pop()
            if text[at + 1 : at + 2] != ")":
                self._ambiguity = "(( is not followed by )); put a blank between the parentheses of two commands"
            return at + 2
        if character == "\\" or (character in '$`"' and top.place not in (Mode.ANSI, Mode.BACKQUOTE)):
            return self._special(text, at, top)
        if character == "'" and top.place in (Mode.PARAMETER, Mode.ARITHMETIC):
            self._ambiguity = "single quotes within ${...} or ((...)) are not understood; use a variable"
        self._said(character)
        return at + 1

    def _in_document(self, text: str, at: int, top: Frame) -> int:
        character = text[at]
        if character == "\n":
            self._line_ends(top)
        elif character in "\\$`" and not top.here[0].quoted:
            return self._special(text, at, top)
        else:
            top.line += character
        return at + 1

    def _line_ends(self, top: Frame) -> None:
        here = top.here[0]
        line = top.line.lstrip("\t") if here.tabs else top.line
        if line == here.end:
            if top.valued:
                raise self._refusal(f"a value would end the here-document (a line with {here.end[:40]})")
            del top.here[0]
            if not top.here:
                self._levels.pop()
        elif line.startswith(here.end) and any(level.nested for level in self._levels):
            # Within $(...) such a line may end the document, and what is behind it is commands.
            if top.valued:
                raise self._refusal(f"a value would end the here-document (a line that begins with {here.end[:40]})")
            self._ambiguity = (
                f"a line that begins with {here.end[:40]} in a here-document within $(...) is not understood"
            )
        top.line, top.valued = "", False

    def _delimiter(self, text: str, at: int, top: Frame) -> int:
        if text[at] in " \t":
            return at + 1
        found = _DELIMITER.match(text, at)
        if found is None:
            self._ambiguity = "the word that ends a here-document is not understood"
            return at + 1
        if found.end() == len(text):
            self._loose = "<<"
        elif text[found.end()] not in _ENDS_A_WORD:
            self._ambiguity = "the word that ends a here-document is not understood"
        plain = "".join(shlex.split(found[0]))
        top.waiting.append(Here(plain, quoted=plain != found[0], tabs=top.delimiter == "<<-"))
        top.delimiter = ""
        return found.end()

    def _line_of_command_ends(self, top: Frame) -> None:
        self._newline_inside(top)
        if top.waiting:
            self._levels.append(Frame(Mode.DOCUMENT, here=list(top.waiting)))
            top.waiting.clear()

    def _newline_inside(self, top: Frame) -> None:
        """A line may not end within something that a here-document waits for, or that is in one."""
        for level in self._levels:
            if level is not top and (level.waiting or level.place is Mode.DOCUMENT):
                self._ambiguity = "a here-document together with commands or quotes of several lines is not understood"

    def _parenthesis(self, text: str, at: int, top: Frame) -> int:
        if text[at] == ")":
            self._word_ends(top)
            top.command.end()
            if top.depth == 0 and top.nested:
                if top.waiting:
                    self._ambiguity = (
                        "a here-document that begins within $(...) and goes on behind it is not understood"
                    )
                self._levels.pop()
            else:
                top.depth = max(0, top.depth - 1)
                top.array = top.array if top.depth >= top.array else 0
            return at + 1
        if top.word and top.word[-1] in "?*+@!":
            self._ambiguity = "extended patterns such as @(a|b) are not understood; use a variable"
        if text.startswith("((", at) and not top.word:
            self._levels.append(Frame(Mode.ARITHMETIC))
            return at + 2
        assigned = top.word.endswith("=")
        self._arrays = self._arrays or assigned
        self._word_ends(top)
        top.command.end()
        top.depth += 1
        top.array = top.depth if assigned else top.array
        return at + 1

    def _redirection(self, text: str, at: int, top: Frame) -> int:
        if text[at + 1 : at + 2] == "(":
            top.word += "<("
            top.plain += "<("
            self._levels.append(Frame(Mode.COMMAND, nested=True))
            return at + 2
        if _DESCRIPTOR.fullmatch(top.word):
            top.word = top.plain = ""
        self._word_ends(top)
        top.command.redirected = not top.command.condition and (text[at : at + 2] != "<<" or text[at : at + 3] == "<<<")
        if text.startswith("<<<", at):
            return at + 3
        if text.startswith("<<", at):
            top.delimiter = "<<-" if text.startswith("<<-", at) else "<<"
            return at + len(top.delimiter)
        return at + 1

    def _word_ends(self, top: Frame) -> None:
        word, plain, top.word, top.plain = top.word, top.plain, "", ""
        if word == "case" and any(level.nested for level in self._levels):
            self._ambiguity = "case within $(...) is not understood; use a function"
        trouble = top.command.word(word, plain) if word else None
        self._integers = self._integers or top.command.integers
        if trouble:
            raise self._refusal(trouble)

    def _refusal(self, sentence: str) -> Refused:
        return Refused(f"line {self._number} of the script: {sentence.rstrip('.')}.")


_QUOTATIONS = (Mode.SINGLE, Mode.DOUBLE, Mode.ANSI)
_ENDS = {Mode.DOUBLE: '"', Mode.PARAMETER: "}", Mode.BACKQUOTE: "`", Mode.ANSI: "'"}
NAMES = {
    Mode.COMMAND: "a command",
    Mode.COMMENT: "a comment",
    Mode.SINGLE: "single quotes",
    Mode.ANSI: "$'...'",
    Mode.DOUBLE: "double quotes",
    Mode.PARAMETER: "${...}",
    Mode.ARITHMETIC: "((...))",
    Mode.BACKQUOTE: "backquotes (write $(...) instead)",
    Mode.DOCUMENT: "a here-document",
}
