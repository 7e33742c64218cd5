"""The words of a simple command, as far as a value among them may not be only text to bash.

Some of bash's own commands take a word for a name or for arithmetic, and a name may hold a subscript that is
evaluated, commands and all. A value is refused there, unless it is a number.
"""

import re
from dataclasses import dataclass, field

RESERVED = frozenset(
    (
        "if",
        "then",
        "elif",
        "else",
        "fi",
        "time",
        "for",
        "in",
        "until",
        "while",
        "do",
        "done",
        "case",
        "esac",
        "coproc",
        "select",
        "function",
    )
)
# After these a command begins.
_BEFORE_A_COMMAND = frozenset(("if", "then", "elif", "else", "time", "until", "while", "do", "coproc", "!", "{", "("))
_DECLARE = frozenset(("declare", "typeset", "local", "readonly", "export"))
_NAMES = _DECLARE | {"unset", "read", "mapfile", "readarray", "getopts"}
_ARITHMETIC = frozenset(("-eq", "-ne", "-lt", "-le", "-gt", "-ge", "-v", "-R"))
# Before the name of a builtin.
_PREFIXES = frozenset(("command", "builtin"))
# What these get they run, or hand to a shell that reads it again.
_RUNS = frozenset(("eval", "trap", "alias", "compgen", "ssh"))
_SHELLS = frozenset(("sh", "bash", "dash", "ksh", "zsh", "su", "sg", "script", "flock", "sbatch"))
_SCRIPT_FOLLOWS = re.compile(r"-[A-Za-z]*c[A-Za-z]*|--command|--wrap")
_SPECIAL = re.compile(r"(?:BASH_\w*|ENV|PS[0-4]|PROMPT_COMMAND|S?RANDOM|SECONDS|OPTIND|HISTCMD|LINENO)\+?=")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\[[^\]]*\])?\+?=")


@dataclass(slots=True)
class Command:
    """What is known of the command so far.

    :ivar name: its first word
    :ivar shell: it starts another shell
    :ivar redirected: the next word is a file
    :ivar options: those of its words that begin with a dash, behind each other
    :ivar condition: it is [[ ... ]]
    :ivar texts: a value that is no number stands in it
    :ivar arithmetic: it compares numbers or looks for variables
    :ivar integers: it declares a variable that evaluates what it gets
    """

    name: str = ""
    shell: bool = False
    redirected: bool = False
    last: str = ""
    options: str = field(default="")
    condition: bool = False
    texts: bool = False
    arithmetic: bool = False
    integers: bool = False

    @property
    def declares(self) -> bool:
        """Whether it declares variables."""
        return self.name in _DECLARE

    def end(self) -> None:
        """The command is over; a condition goes on."""
        self.name = self.last = self.options = ""
        self.shell = self.redirected = False

    def word(self, word: str, plain: str) -> str | None:
        """Takes a word that is complete.

        :param word: without what is quoted in it
        :param plain: as the command gets it
        :returns: what is wrong with a value before it
        """
        if self.redirected:
            self.redirected = False
            return None
        trouble = None
        if word == "[[" and not self.condition:
            self.condition, self.texts, self.arithmetic = True, False, False
        elif word == "]]":
            self.condition = False
        elif self.condition and word in _ARITHMETIC:
            self.arithmetic = True
            trouble = _COMPARED if self.texts else None
        if plain.startswith("-"):
            self.options += plain
        elif word == "{" and self.name == "function":
            self.end()
        elif not self.name and not (word in _BEFORE_A_COMMAND or plain in _PREFIXES or _ASSIGNMENT.match(word)):
            self.name = plain
        self.shell = self.shell or plain.rpartition("/")[2] in _SHELLS
        self.integers = self.name in _DECLARE and "i" in self.options
        self.last = plain if plain != "--" else self.last
        return trouble

    def trouble(self, begun: str, *, integers: bool, harmless: bool) -> str | None:
        """What is wrong with a value that is no number as the next part of this command.

        :param begun: the word that it is a part of, so far
        :param integers: there may be variables that evaluate what they get
        :param harmless: to a shell that read the value again, it would be the same text
        """
        if self.condition:
            self.texts = True
            if self.arithmetic:
                return _COMPARED
        if self.redirected:
            return None
        assigned = _ASSIGNMENT.match(begun)
        if assigned and (integers or (self.name in _DECLARE and re.search("[inaA]", self.options))):
            return "a value that is no number cannot be assigned where variables may be integers, arrays or references"
        if self.name == "let" or (self.name in _NAMES and not assigned):
            return f"a value that is no number cannot be an argument of {self.name}"
        if (("-v" in (self.last, begun) or self.last == "-R") and self.name in ("[", "test", "printf")) or (
            self.name == "wait" and "p" in self.options
        ):
            return "a value cannot be the name of a variable"
        if _SPECIAL.match(begun) and (not self.name or self.name in _DECLARE):
            return (
                f"a value that is no number cannot be assigned to {begun.partition('=')[0]}, a variable of bash itself"
            )
        follows = _SCRIPT_FOLLOWS.fullmatch(self.last) or begun.startswith("--wrap=")
        if not harmless and (self.name in _RUNS or (self.shell and follows)):
            return (
                "a value cannot be a part of a script that is run by eval, trap, ssh or another shell; "
                "hand it over, as in bash -c '... \"$1\"' bash VALUE"
            )
        return None


_COMPARED = "a value that is no number cannot be compared as a number, or looked for with -v, within [[ ]]; use [ ]"
