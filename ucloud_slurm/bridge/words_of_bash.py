"""The words of a simple command, as far as a value among them may not be only text to bash.

Some of bash's own commands take a word for a name or for arithmetic, and a name may hold a subscript that is
evaluated, commands and all. A value is refused there, unless it is a number.
"""

import re
from dataclasses import dataclass, field

RESERVED = frozenset((
    "if", "then", "elif", "else", "fi", "time", "for", "in", "until", "while", "do", "done", "case", "esac", "coproc",
    "select", "function",
))  # fmt: skip
# After these a command begins.
_BEFORE_A_COMMAND = frozenset(("if", "then", "elif", "else", "time", "until", "while", "do", "coproc", "!", "{", "("))
_DECLARE = frozenset(("declare", "typeset", "local", "readonly", "export"))
_NAMES = _DECLARE | {"unset", "read", "mapfile", "readarray", "getopts"}
_ARITHMETIC = frozenset(("-eq", "-ne", "-lt", "-le", "-gt", "-ge", "-v", "-R"))
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\[[^\]]*\])?\+?=")


@dataclass(slots=True)
class Command:
    """What is known of the command so far.

    :ivar name: its first word
    :ivar options: those of its words that begin with a dash, behind each other
    :ivar condition: it is [[ ... ]]
    :ivar texts: a value that is no number stands in it
    :ivar arithmetic: it compares numbers or looks for variables
    :ivar integers: it declares a variable that evaluates what it gets
    """

    name: str = ""
    last: str = ""
    options: str = field(default="")
    condition: bool = False
    texts: bool = False
    arithmetic: bool = False
    integers: bool = False

    def end(self) -> None:
        """The command is over; a condition goes on."""
        if not self.condition:
            self.name = self.last = self.options = ""

    def word(self, word: str) -> str | None:
        """Takes a word that is complete.

        :returns: what is wrong with a value before it
        """
        trouble = None
        if word == "[[" and not self.condition:
            self.condition, self.texts, self.arithmetic = True, False, False
        elif word == "]]":
            self.condition = False
        elif self.condition and word in _ARITHMETIC:
            self.arithmetic = True
            trouble = _COMPARED if self.texts else None
        if not self.name and word not in _BEFORE_A_COMMAND and not _ASSIGNMENT.match(word):
            self.name = word
        elif word.startswith("-"):
            self.options += word
        self.integers = self.name in _DECLARE and "i" in self.options
        self.last = word
        return trouble

    def trouble(self, begun: str, *, integers: bool) -> str | None:
        """What is wrong with a value that is no number as the next part of this command.

        :param begun: the word that it is a part of, so far
        :param integers: there may be variables that evaluate what they get
        """
        assigned = _ASSIGNMENT.match(begun)
        if self.condition:
            self.texts = True
            return _COMPARED if self.arithmetic else None
        if assigned and (integers or (self.name in _DECLARE and re.search("[inaA]", self.options))):
            return "a value that is no number cannot be assigned where variables may be integers, arrays or references"
        if self.name == "let" or (self.name in _NAMES and not assigned):
            return f"a value that is no number cannot be an argument of {self.name}"
        if self.last == "-v" and self.name in ("[", "test", "printf"):
            return "a value cannot be the name of a variable"
        return None


_COMPARED = "a value that is no number cannot be compared as a number, or looked for with -v, within [[ ]]; use [ ]"
