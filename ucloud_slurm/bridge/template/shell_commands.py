"""Simple commands of bash, as far as a value among their words may be more than text to bash.

Some builtins take a word for a variable's name or for arithmetic, and a name may hold a subscript that bash evaluates,
command substitutions included. There a value is refused, unless it is a number.
"""

import re
from dataclasses import dataclass

RESERVED = frozenset(("if", "then", "elif", "else", "fi", "time", "for", "in", "until", "while", "do", "done"))
RESERVED |= frozenset(("case", "esac", "coproc", "select", "function"))
# A command begins after these.
_BEFORE_COMMAND = frozenset(("if", "then", "elif", "else", "time", "until", "while", "do", "coproc", "!", "{", "("))
_DECLARE = frozenset(("declare", "typeset", "local", "readonly", "export"))
_TAKE_NAMES = _DECLARE | {"unset", "read", "mapfile", "readarray", "getopts"}
_ARITHMETIC = frozenset(("-eq", "-ne", "-lt", "-le", "-gt", "-ge", "-v", "-R"))
_BEFORE_BUILTIN = frozenset(("command", "builtin"))
# Commands that run their arguments, or hand them to a shell that reads them again.
_RUN_ARGUMENTS = frozenset(("eval", "trap", "alias", "compgen", "ssh"))
_SHELLS = frozenset(("sh", "bash", "dash", "ksh", "zsh", "su", "sg", "script", "flock", "sbatch"))
_SCRIPT_FOLLOWS = re.compile(r"-[A-Za-z]*c[A-Za-z]*|--command|--wrap")
_SPECIAL = re.compile(r"(?:BASH_\w*|ENV|PS[0-4]|PROMPT_COMMAND|S?RANDOM|SECONDS|OPTIND|HISTCMD|LINENO)\+?=")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\[[^\]]*\])?\+?=")
_COMPARED = "a value that is no number cannot be compared as a number, or looked for with -v, within [[ ]]; use [ ]"


@dataclass(slots=True)
class ShellCommand:
    """What is known of the command so far.

    :ivar name: its first word
    :ivar starts_shell: it starts another shell
    :ivar redirected: the next word is a file
    :ivar last: its last argument
    :ivar options: those of its words that begin with a dash, joined
    :ivar condition: it is [[ ... ]]
    :ivar has_text: the condition contains a value that is no number
    :ivar arithmetic: the condition compares numbers or looks for variables
    :ivar integers: it declares a variable that evaluates what is assigned to it
    """

    name: str = ""
    starts_shell: bool = False
    redirected: bool = False
    last: str = ""
    options: str = ""
    condition: bool = False
    has_text: bool = False
    arithmetic: bool = False
    integers: bool = False

    @property
    def declares(self) -> bool:
        """Whether it declares variables."""
        return self.name in _DECLARE

    def end(self) -> None:
        """Ends the command; a condition continues."""
        self.name = self.last = self.options = ""
        self.starts_shell = self.redirected = False

    def add_word(self, unquoted: str, argument: str) -> str | None:
        """Adds a word that is complete.

        :param unquoted: without what is quoted in it
        :param argument: as the command gets it
        :returns: why a value before it is refused
        """
        if self.redirected:
            self.redirected = False
            return None
        refusal = None
        if unquoted == "[[" and not self.condition:
            self.condition, self.has_text, self.arithmetic = True, False, False
        elif unquoted == "]]":
            self.condition = False
        elif self.condition and unquoted in _ARITHMETIC:
            self.arithmetic = True
            refusal = _COMPARED if self.has_text else None
        if argument.startswith("-"):
            self.options += argument
        elif unquoted == "{" and self.name == "function":
            self.end()
        elif not self.name and not (unquoted in _BEFORE_COMMAND or argument in _BEFORE_BUILTIN or _ASSIGNMENT.match(unquoted)):
            self.name = argument
        self.starts_shell = self.starts_shell or argument.rpartition("/")[2] in _SHELLS
        self.integers = self.declares and "i" in self.options
        self.last = argument if argument != "--" else self.last
        return refusal

    def refusal(self, begun: str, *, integers: bool, harmless: bool) -> str | None:
        """Why a value that is no number is refused as the next part of this command, or None.

        :param begun: the word that it is a part of, so far
        :param integers: there may be variables that evaluate what is assigned to them
        :param harmless: a shell that reads the value again finds the same text
        """
        if self.condition:
            self.has_text = True
            if self.arithmetic:
                return _COMPARED
        if self.redirected:
            return None
        assigned = _ASSIGNMENT.match(begun)
        if assigned and (integers or (self.declares and re.search("[inaA]", self.options))):
            return "a value that is no number cannot be assigned where variables may be integers, arrays or references"
        if self.name == "let" or (self.name in _TAKE_NAMES and not assigned):
            return f"a value that is no number cannot be an argument of {self.name}"
        if (("-v" in (self.last, begun) or self.last == "-R") and self.name in ("[", "test", "printf")) or (
            self.name == "wait" and "p" in self.options
        ):
            return "a value cannot be the name of a variable"
        if _SPECIAL.match(begun) and (not self.name or self.declares):
            return f"a value that is no number cannot be assigned to {begun.partition('=')[0]}, a variable of bash itself"
        follows = _SCRIPT_FOLLOWS.fullmatch(self.last) or begun.startswith("--wrap=")
        if not harmless and (self.name in _RUN_ARGUMENTS or (self.starts_shell and follows)):
            return (
                "a value cannot be a part of a script that is run by eval, trap, ssh or another shell; "
                "pass it as an argument, as in bash -c '... \"$1\"' bash VALUE"
            )
        return None
