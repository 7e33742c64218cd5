"""A lexer of bash: it tracks how bash interprets each place of a script, as a command, within quotes, ...

Where the text so far is ambiguous, the lexer remembers why, and a value after it is refused.
"""

import re
import shlex

from ucloud_slurm.bridge.template.frames import Frame, HereDocument, Mode
from ucloud_slurm.errors import Refused

_PLAIN = re.compile(r"[A-Za-z0-9_./:=@%+,^~*?!{}\]-]+")
_DESCRIPTOR = re.compile(r"[0-9]+|\{[A-Za-z_][A-Za-z0-9_]*\}")
_METACHARACTERS = " \t\n;&|<>()"
_DELIMITER = re.compile(r"""(?:'[^'\n]*'|"[^"\n$`\\]*"|\\[^\n]|[^ \t\n;&|<>()'"\\$`])+""")
_SKIPPED = {Mode.SINGLE: re.compile(r"[^']+"), Mode.DOUBLE: re.compile(r'[^"\\$`\n]+'), Mode.COMMENT: re.compile(r"[^\n]+")}
_QUOTES = (Mode.SINGLE, Mode.DOUBLE, Mode.ANSI)
_OPENS = {"`": Mode.BACKQUOTE, '"': Mode.DOUBLE, "'": Mode.SINGLE}
_CLOSES = {Mode.DOUBLE: '"', Mode.PARAMETER: "}", Mode.BACKQUOTE: "`", Mode.ANSI: "'"}


class Lexer:
    """Reads a script piece by piece. A subclass adds values to ``_output``, where ``_frames`` says that it is."""

    def __init__(self) -> None:
        self._output: list[str] = []
        self._frames = [Frame(Mode.COMMAND)]
        self._ambiguity: str | None = None  # why the place is unknown
        self._unfinished = ""  # the end of the last piece, where it would swallow the beginning of a value
        self._has_arrays = False  # there may be arrays
        self._has_integers = False  # a variable was declared that evaluates what is assigned to it
        self._line_number = 1

    def read(self, text: str) -> None:
        """Reads code of the author, which is put out as it is."""
        self._unfinished = ""
        at = 0
        while at < len(text) and self._ambiguity is None:
            begin = at
            at = self._read_token(text, at)
            self._line_number += text.count("\n", begin, at)
        self._output.append(text)

    def end(self) -> str:
        """The whole script.

        :raises Refused: it ends within quotes or something else that is open
        """
        top = self._frames[-1]
        if top.mode is Mode.DOCUMENT and self._ambiguity is None:
            self._end_document_line(top)
        if self._ambiguity is None and self._frames[-1].mode not in (Mode.COMMAND, Mode.COMMENT):
            raise Refused(f"the script ends within {self._frames[-1].mode.value}.")
        return "".join(self._output)

    # ---- each method reads from a place of the text, and returns the place at which to read on

    def _read_token(self, text: str, at: int) -> int:
        top = self._frames[-1]
        skipped = _SKIPPED[top.mode].match(text, at) if top.mode in _SKIPPED else None
        if skipped:
            self._add_quoted(skipped[0])
            return skipped.end()
        if top.mode is Mode.COMMAND:
            return self._read_command(text, at, top)
        if text[at] == "\n":
            self._check_newline(top)
        match top.mode:
            case Mode.COMMENT:
                self._frames.pop()
                return at
            case Mode.SINGLE:
                self._frames.pop()
                return at + 1
            case Mode.DOCUMENT:
                return self._read_document(text, at, top)
            case _:
                return self._read_expansion(text, at, top)

    def _read_command(self, text: str, at: int, top: Frame) -> int:
        if top.operator:
            return self._read_delimiter(text, at, top)
        plain = _PLAIN.match(text, at)
        if plain:
            top.unquoted += plain[0]
            top.argument += plain[0]
            return plain.end()
        character = text[at]
        if character in _METACHARACTERS + "#" and top.in_subscript:
            self._ambiguity = "a subscript of several words is not understood; use a variable"
        if top.array_depth and character in ";&|<>(" and text[at : at + 2] not in ("<(", ">("):
            # Bash gives up such an array, and continues with the next line, which may be one of a value.
            self._ambiguity = f"an array a=(...) with {character} in it is not understood"
        match character:
            case " " | "\t" | "\n" | ";" | "&" | "|":
                # No end of a command: 2>&1, >|x, &>x
                redirects = top.command.redirected and not top.unquoted and text[at - 1 : at] in ("<", ">")
                self._end_word(top)
                if character not in " \t" and not (redirects and character in "&|") and text[at : at + 2] != "&>":
                    top.command.end()
                if character == "\n":
                    self._end_command_line(top)
            case "#" if not top.unquoted:
                self._frames.append(Frame(Mode.COMMENT))
            case "(" | ")":
                return self._read_parenthesis(text, at, top)
            case "<" | ">":
                return self._read_redirection(text, at, top)
            case "$" | "`" | "\\" | '"' | "'":
                return self._read_special(text, at, top)
            case _:
                top.unquoted += character
                top.argument += character
        return at + 1

    def _read_special(self, text: str, at: int, top: Frame) -> int:
        """Reads what begins a quotation, an expansion or a command substitution; or an escaped character."""
        character, after = text[at], text[at + 1 : at + 2]
        top.unquoted += character
        opens = top.mode is Mode.COMMAND and after in ("'", '"')  # $'...', $"..."
        self._add_quoted(after.rstrip("\n") if character == "\\" else "$" if character == "$" and not opens else "")
        if top.mode is Mode.DOCUMENT:
            top.line += character
        if character in "\\$" and not after:
            self._unfinished = character
        match character + after:
            case "$(":
                arithmetic = text.startswith("$((", at)
                self._frames.append(Frame(Mode.ARITHMETIC) if arithmetic else Frame(Mode.COMMAND, nested=True))
                return at + (3 if arithmetic else 2)
            case "${":
                self._frames.append(Frame(Mode.PARAMETER))
                return at + 2
            case "$[":
                self._ambiguity = "$[...] is not understood; write $((...))"
            case "$'" | '$"' if opens:
                self._frames.append(Frame(Mode.ANSI if after == "'" else Mode.DOUBLE))
                return at + 2
            case _ if character == "\\":
                if top.mode is Mode.COMMAND and after == "\n":
                    top.unquoted = top.unquoted[:-1]
                elif top.mode is Mode.DOCUMENT:
                    top.line = top.line[:-1] if after == "\n" else top.line + after
                return at + 1 + len(after)
            case _ if character in _OPENS:
                self._frames.append(Frame(_OPENS[character]))
        return at + 1

    def _read_expansion(self, text: str, at: int, top: Frame) -> int:
        """Reads within double quotes, $'...', backquotes and expansions."""
        character = text[at]
        if character == _CLOSES.get(top.mode):
            self._frames.pop()
            return at + 1
        if top.mode is Mode.ARITHMETIC and character in "()":
            top.depth += 1 if character == "(" else -1
            if top.depth >= 0:
                return at + 1
            self._frames.pop()
            if text[at + 1 : at + 2] != ")":
                self._ambiguity = "(( is not followed by )); put a blank between the parentheses of two commands"
            return at + 2
        if character == "\\" or (character in '$`"' and top.mode not in (Mode.ANSI, Mode.BACKQUOTE)):
            return self._read_special(text, at, top)
        if character == "'" and top.mode in (Mode.PARAMETER, Mode.ARITHMETIC):
            self._ambiguity = "single quotes within ${...} or ((...)) are not understood; use a variable"
        self._add_quoted(character)
        return at + 1

    def _read_document(self, text: str, at: int, top: Frame) -> int:
        character = text[at]
        if character in "\\$`" and not top.documents[0].quoted:
            return self._read_special(text, at, top)
        if character == "\n":
            self._end_document_line(top)
        else:
            top.line += character
        return at + 1

    def _read_delimiter(self, text: str, at: int, top: Frame) -> int:
        if text[at] in " \t":
            return at + 1
        found = _DELIMITER.match(text, at)
        if found is None:
            self._ambiguity = "the word that ends a here-document is not understood"
            return at + 1
        if found.end() == len(text):
            self._unfinished = "<<"
        elif text[found.end()] not in _METACHARACTERS:
            self._ambiguity = "the word that ends a here-document is not understood"
        end = "".join(shlex.split(found[0]))
        top.pending.append(HereDocument(end, quoted=end != found[0], strips_tabs=top.operator == "<<-"))
        top.operator = ""
        return found.end()

    def _read_parenthesis(self, text: str, at: int, top: Frame) -> int:
        if text[at] == ")":
            self._end_word(top)
            top.command.end()
            if top.depth == 0 and top.nested:
                if top.pending:
                    self._ambiguity = "a here-document that begins within $(...) and ends after it is not understood"
                self._frames.pop()
            else:
                top.depth = max(0, top.depth - 1)
                top.array_depth = top.array_depth if top.depth >= top.array_depth else 0
            return at + 1
        if top.unquoted and top.unquoted[-1] in "?*+@!":
            self._ambiguity = "extended patterns such as @(a|b) are not understood; use a variable"
        if text.startswith("((", at) and not top.unquoted:
            self._frames.append(Frame(Mode.ARITHMETIC))
            return at + 2
        assigned = top.unquoted.endswith("=")
        self._has_arrays = self._has_arrays or assigned
        self._end_word(top)
        top.command.end()
        top.depth += 1
        top.array_depth = top.depth if assigned else top.array_depth
        return at + 1

    def _read_redirection(self, text: str, at: int, top: Frame) -> int:
        if text[at + 1 : at + 2] == "(":
            top.unquoted += "<("
            top.argument += "<("
            self._frames.append(Frame(Mode.COMMAND, nested=True))
            return at + 2
        if _DESCRIPTOR.fullmatch(top.unquoted):
            top.unquoted = top.argument = ""
        self._end_word(top)
        top.command.redirected = not top.command.condition and (text[at : at + 2] != "<<" or text[at : at + 3] == "<<<")
        if text.startswith("<<<", at):
            return at + 3
        if text.startswith("<<", at):
            top.operator = "<<-" if text.startswith("<<-", at) else "<<"
            return at + len(top.operator)
        return at + 1

    # ---- what ends

    def _end_word(self, top: Frame) -> None:
        unquoted, argument, top.unquoted, top.argument = top.unquoted, top.argument, "", ""
        if unquoted == "case" and any(frame.nested for frame in self._frames):
            self._ambiguity = "case within $(...) is not understood; use a function"
        refusal = top.command.add_word(unquoted, argument) if unquoted else None
        self._has_integers = self._has_integers or top.command.integers
        if refusal:
            raise self._refused(refusal)

    def _end_command_line(self, top: Frame) -> None:
        self._check_newline(top)
        if top.pending:
            self._frames.append(Frame(Mode.DOCUMENT, documents=list(top.pending)))
            top.pending.clear()

    def _end_document_line(self, top: Frame) -> None:
        document = top.documents[0]
        line = top.line.lstrip("\t") if document.strips_tabs else top.line
        shown = document.end[:40]
        if line == document.end:
            if top.has_value:
                raise self._refused(f"a value would end the here-document (a line with {shown})")
            del top.documents[0]
            if not top.documents:
                self._frames.pop()
        elif line.startswith(document.end) and any(frame.nested for frame in self._frames):
            # Within $(...) such a line may end the document, and the rest of the line is commands.
            if top.has_value:
                raise self._refused(f"a value would end the here-document (a line that begins with {shown})")
            self._ambiguity = f"a line that begins with {shown} in a here-document within $(...) is not understood"
        top.line, top.has_value = "", False

    def _check_newline(self, top: Frame) -> None:
        """A line may not end within something that a here-document waits for, or that is in one."""
        for frame in self._frames:
            if frame is not top and (frame.pending or frame.mode is Mode.DOCUMENT):
                self._ambiguity = "a here-document together with commands or quotes of several lines is not understood"

    def _add_quoted(self, text: str) -> None:
        """Adds quoted text to the argument that it is a part of."""
        for frame in reversed(self._frames):
            if frame.mode is Mode.COMMAND:
                frame.argument += text
            if frame.mode not in _QUOTES:
                break

    def _refused(self, sentence: str) -> Refused:
        return Refused(f"line {self._line_number} of the script: {sentence.rstrip('.')}.")
