"""Where in a script of bash the lexer is: a stack of frames, each with its mode."""

import re
from dataclasses import dataclass, field
from enum import Enum

from ucloud_slurm.bridge.template.shell_commands import ShellCommand

_SUBSCRIPT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\[")


class Mode(Enum):
    """How bash reads a part of a script; the value names it in error messages."""

    COMMAND = "a command"
    COMMENT = "a comment"
    SINGLE = "single quotes"
    ANSI = "$'...'"
    DOUBLE = "double quotes"
    PARAMETER = "${...}"
    ARITHMETIC = "((...))"
    BACKQUOTE = "backquotes (write $(...) instead)"
    DOCUMENT = "a here-document"


@dataclass(slots=True)
class HereDocument:
    """A here-document.

    :ivar end: the line that ends it
    :ivar quoted: bash expands nothing in it
    :ivar strips_tabs: bash removes tabs at the beginning of its lines (<<-)
    """

    end: str
    quoted: bool
    strips_tabs: bool


@dataclass(slots=True)
class Frame:
    """One of the parts of a script that enclose the place of the lexer.

    :ivar nested: a command that ends with ")": $(...), <(...)
    :ivar depth: open parentheses in it
    :ivar unquoted: of a command: the word so far, without what is quoted in it
    :ivar argument: of a command: the word so far, as the command will get it
    :ivar array_depth: of a command: the depth of a=(...)
    :ivar operator: of a command: << or <<-, whose delimiter is to come
    :ivar pending: of a command: here-documents that begin with the next line
    :ivar documents: of a here-document: those that are read, the present one first
    :ivar line: of a here-document: the line so far
    :ivar has_value: of a here-document: the line contains a value
    """

    mode: Mode
    nested: bool = False
    depth: int = 0
    unquoted: str = ""
    argument: str = ""
    array_depth: int = 0
    command: ShellCommand = field(default_factory=ShellCommand)
    operator: str = ""
    pending: list[HereDocument] = field(default_factory=list)
    documents: list[HereDocument] = field(default_factory=list)
    line: str = ""
    has_value: bool = False

    @property
    def in_brackets(self) -> bool:
        """Whether the word has an open bracket."""
        return self.unquoted.count("[") > self.unquoted.count("]")

    @property
    def in_subscript(self) -> bool:
        """Whether the word is within the brackets of a[...]= or a=([...]=)."""
        begun = _SUBSCRIPT.match(self.unquoted) or (self.array_depth and self.unquoted.startswith("["))
        return bool(begun) and not self.command.condition and self.in_brackets
