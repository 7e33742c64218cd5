"""Text and data without secrets and without names of people, for those who send it elsewhere."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

CUT = "[secret]"  # what stands in the place of one
E_MAIL = "[e-mail]"
SHORTEST = 4  # characters of a known secret: shorter ones would be found in every word
_NAMES_A_SECRET = re.compile(r"secret|token|passw|passphrase|pass$|credential|(?<!wc)key$", re.IGNORECASE)
# None of them reads a part of the text again and again, however long a word in it is.
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"-----BEGIN [A-Z0-9 ]+-----.*?(-----END [A-Z0-9 ]+-----|\Z)", re.DOTALL), CUT),
    (re.compile(r"\b(Bearer|Basic)\s+[\w.~+/=-]{6,}", re.IGNORECASE), rf"\1 {CUT}"),
    (re.compile(r"\beyJ[\w-]{1,4096}(\.[\w-]{0,4096}){1,4}"), CUT),  # a JSON Web Token
    (re.compile(r"(?<=://)[^\s/@:]*:[^\s/@]*@"), f"{CUT}@"),
    (
        re.compile(
            r"((?:token|secret|passwd|password|passphrase|credentials?|api_?key|private_?key|authorization|cookie)"
            r"[\"']?\s*[=:]\s*)[\"']?[^\s\"',;]+",
            re.IGNORECASE,
        ),
        rf"\1{CUT}",
    ),
    (re.compile(r"(--export(?:-file)?[=\s])\S+"), rf"\1{CUT}"),  # sbatch(1): values of the environment
    (re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(\.[\w-]{1,63})+"), E_MAIL),
    (re.compile(r"\b[0-9a-fA-F]{32,}\b"), CUT),
    # What is long and of all kinds of characters is a key or a token; absolute paths and words are not.
    (re.compile(r"(?<![\w+/-])(?=[\w+])(?=[\w+/-]*[0-9])(?=[\w+/-]*[A-Z])(?=[\w+/-]*[a-z])[\w+/-]{32,}={0,2}"), CUT),
)
_CHUNK = re.compile(r"[^\s/:;,\"'()\[\]{}<>=|]+")
_WORD = re.compile(r"\w+")


class Redactor:
    """Takes secrets out, and gives every name of somebody another one, the same as long as this object lives."""

    def __init__(self, secrets: Iterable[str] = (), names: Mapping[str, str] | None = None) -> None:
        """Knows some secrets and names.

        :param names: each with its kind, such as ``user``
        """
        lines = {line.strip() for secret in secrets for line in (secret, *secret.splitlines())}
        self._secrets = sorted((line for line in lines if len(line) >= SHORTEST), key=len, reverse=True)
        self._names: dict[str, str] = {}
        counts: dict[str, int] = {}
        for name, kind in (names or {}).items():
            counts[kind] = counts.get(kind, 0) + 1
            self._names[name] = f"{kind}-{counts[kind]}"
        # A name with blanks is no word of a text.
        self._phrases = sorted((name for name in self._names if not _CHUNK.fullmatch(name)), key=len, reverse=True)

    def name(self, name: str | None) -> str | None:
        """The other name of somebody; of one who is not known it says nothing."""
        return None if name is None else self._names.get(name, "somebody")

    def text(self, text: str) -> str:
        """The text without them."""
        for secret in self._secrets:
            text = text.replace(secret, CUT)
        for phrase in self._phrases:
            text = text.replace(phrase, self._names[phrase])
        text = _WORD.sub(self._renamed, _CHUNK.sub(self._renamed, text))
        for pattern, instead in _PATTERNS:
            text = pattern.sub(instead, text)
        return text

    def data(self, data: Any, key: str = "") -> Any:
        """Data of JSON without them: also without the texts behind keys that say that they are secret."""
        match data:
            case Mapping():
                return {self.text(str(name)): self.data(value, str(name)) for name, value in data.items()}
            case list() | tuple():
                return [self.data(value, key) for value in data]
            case None | bool() | int() | float():
                return data
        return CUT if names_a_secret(key) else self.text(str(data))

    def _renamed(self, found: re.Match[str]) -> str:
        word = found[0]
        bare = word.rstrip(".!?")
        return self._names[bare] + word[len(bare) :] if bare in self._names else self._names.get(word, word)


def names_a_secret(key: str) -> bool:
    """Whether a key says that its value is a secret. One that names a file does not: the path is none."""
    return not key.endswith("_file") and _NAMES_A_SECRET.search(key) is not None


def without_secret_lines(text: str) -> str:
    """Lines of ``Key = value``, as scontrol(1) prints a configuration, without the values of keys that say so."""

    def cut(line: str) -> str:
        key, equals, _ = line.partition("=")
        return f"{key}{equals} {CUT}" if equals and names_a_secret(key.strip()) else line

    return "\n".join(map(cut, text.splitlines()))
