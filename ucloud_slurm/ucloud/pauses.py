"""Until when UCloud is not asked: it asks for a pause (RFC 9110, Retry-After), or it has refused the refresh token.

Both are kept where every process reads them, so that none of them asks meanwhile.
"""

import hashlib
import json
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn, Protocol

from ucloud_slurm.errors import CorePausedError, StorageError

ACCESS, PAUSE, REFUSAL = "access-token", "retry-after", "refused-token"  # what is kept
LONGEST_PAUSE_SECONDS = 300.0  # whatever UCloud, or a proxy before it, asks for
FIRST_REFUSAL_SECONDS, LONGEST_REFUSAL_SECONDS = 30.0, 600.0  # between two attempts with a refused refresh token
NO_PAUSE = '{"until": 0}'


class Memory(Protocol):
    """Keeps texts between processes: the access token, so that a pass does not begin with a refresh, and the pauses."""

    def load(self, key: str) -> str | None:
        """The text, if one is kept."""

    def keep(self, key: str, text: str) -> None:
        """Replaces the text."""


class OwnMemory:
    """A memory of this process alone."""

    def __init__(self) -> None:
        """Knows nothing yet."""
        self._texts: dict[str, str] = {}

    def load(self, key: str) -> str | None:
        return self._texts.get(key)

    def keep(self, key: str, text: str) -> None:
        self._texts[key] = text


class Pauses:
    """The pauses of all processes that have this memory."""

    def __init__(self, memory: Memory, now: Callable[[], float]) -> None:
        """Reads nothing yet.

        :param now: gives seconds since the epoch
        """
        self._memory = memory
        self._now = now

    def check(self) -> None:
        """Checks that UCloud may be asked.

        :raises CorePausedError: it has asked for a pause that is not over
        """
        kept = self._kept(PAUSE)
        self._wait(kept, LONGEST_PAUSE_SECONDS, "{why} and wants no call for {left:.0f} s")

    def ask(self, header: str | None, why: str) -> None:
        """Keeps the pause that UCloud asks for in an answer, if it does.

        :param header: the value of Retry-After; garbage is no wish, and a long time is bounded
        :param why: the answer, as the beginning of a sentence
        :raises CorePausedError: it does
        """
        now = self._now()
        if seconds := retry_after(header, now):
            self._keep(PAUSE, {"until": now + seconds, "why": why})
            self.check()

    def check_token(self, token: str) -> None:
        """Checks that UCloud may be asked with this refresh token.

        :raises CorePausedError: it has refused this one lately
        """
        kept = self._kept(REFUSAL)
        if kept.get("token") == _digest(token):
            self._wait(kept, LONGEST_REFUSAL_SECONDS, "{why}; the next attempt is in {left:.0f} s")

    def refuse(self, token: str, why: str) -> NoReturn:
        """Keeps that UCloud refuses a refresh token. Each further refusal of the same one doubles the time.

        :raises CorePausedError: always
        """
        before = self._kept(REFUSAL)
        number = before["number"] + 1 if before.get("token") == _digest(token) else 0
        seconds = min(FIRST_REFUSAL_SECONDS * 2.0 ** min(number, 10), LONGEST_REFUSAL_SECONDS)
        kept = {"until": self._now() + seconds, "why": why, "token": _digest(token), "number": number}
        self._keep(REFUSAL, kept)
        raise CorePausedError(f"{why}; the next attempt is in {seconds:.0f} s", seconds)

    def accept(self) -> None:
        """UCloud accepts our tokens."""
        if self._kept(REFUSAL)["until"]:
            self._keep(REFUSAL, json.loads(NO_PAUSE))

    def refuses_token(self) -> bool:
        """Whether UCloud has refused the refresh token, and has accepted none since then."""
        return bool(self._kept(REFUSAL)["until"])

    def _wait(self, kept: dict[str, Any], longest: float, sentence: str) -> None:
        left = kept["until"] - self._now()
        if 0 < left <= longest:  # a clock that was set back must not make it longer
            raise CorePausedError(sentence.format(why=kept["why"], left=max(left, 1.0)), left)

    def _kept(self, key: str) -> dict[str, Any]:
        kept: dict[str, Any] = json.loads(self._memory.load(key) or NO_PAUSE)
        return kept

    def _keep(self, key: str, kept: dict[str, Any]) -> None:
        with suppress(StorageError):  # the call itself has failed all the same
            self._memory.keep(key, json.dumps(kept))


def is_unavailable(status: int) -> bool:
    """Whether the status says nothing about the request. Only such an answer asks for a pause."""
    return status >= 500 or status in (408, 429) or 300 <= status < 400


def retry_after(header: str | None, now: float) -> float:
    """The pause in a Retry-After header, a number of seconds or a date.

    :param now: seconds since the epoch
    :returns: seconds, from 0 to ``LONGEST_PAUSE_SECONDS``; 0 where there is none, or it is garbage
    """
    text = (header or "").strip()
    if re.fullmatch(r"[0-9]+", text, re.ASCII):
        return min(float(text[:300]), LONGEST_PAUSE_SECONDS)
    from email.utils import parsedate_to_datetime  # only an answer with a date needs it

    try:
        until = parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return 0.0
    return min(max(until - now, 0.0), LONGEST_PAUSE_SECONDS)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
