"""What can be made to go wrong at the simulated Core, and how often."""

import threading
from collections.abc import Container
from dataclasses import dataclass
from typing import Any, Literal

HTML = "<!DOCTYPE html><html><head><title>Sign in</title></head><body>Please sign in.</body></html>"


@dataclass(frozen=True, slots=True)
class CannedAnswer:
    """An answer that is given without doing the work.

    :ivar body: JSON, or text that is not; None: no body
    :ivar retry_after: the value of that header; None: there is none
    """

    status: int
    body: dict[str, Any] | str | None
    retry_after: str | None = None


class Faults:
    """The switches. Calls have their full names, such as ``jobs.control.update``; unknown ones are a
    ValueError.

    The calls that the provider makes are meant, except that :meth:`drop_answer` knows Core's own calls too.
    Where several apply, an outage comes first, then canned answers in the order in which they were asked for,
    then delays and dropped answers. Safe for several threads.
    """

    def __init__(self, changed: threading.Condition, incoming: Container[str], outgoing: Container[str]) -> None:
        self._changed = changed
        self._incoming = incoming
        self._outgoing = outgoing
        self._outage: Literal["503", "close"] | None = None
        self._drops: dict[str, int] = {}
        self._canned: dict[str, list[CannedAnswer]] = {}
        self._delays: dict[str, float] = {}
        self._lates: dict[str, int] = {}

    def late(self, call: str, times: int = 1) -> None:
        """Close the connection of the next ``times`` calls without an answer, and do their work only when
        :meth:`SimulatedCore.catch_up` is called: a Core whose database is slow."""
        self._known(call)
        with self._changed:
            self._lates[call] = self._lates.get(call, 0) + times

    def drop_answer(self, call: str, times: int = 1) -> None:
        """Do the work, then close the connection without an answer, for the next ``times`` calls.

        A call that is refused (a stale token, a malformed body) does no work and does not count. Of Core's
        own calls it is the provider's answer that is lost: Core takes the provider for unreachable.
        """
        if call not in self._outgoing:
            self._known(call)
        with self._changed:
            self._drops[call] = self._drops.get(call, 0) + times

    def outage(self, on: bool = True, how: Literal["503", "close"] = "503") -> None:
        """Refuse everything, with 503 and an empty body or by closing the connection, until switched off.

        A real refusal of connections is :meth:`SimulatedCore.stop`, and ``start`` on the same port ends it.
        """
        with self._changed:
            self._outage = how if on else None

    def answer(
        self, call: str, status: int, body: dict[str, Any] | str | None = None, times: int = 1, retry_after: str | None = None
    ) -> None:
        """Answer the next ``times`` calls so, without doing the work."""
        self._known(call)
        with self._changed:
            self._canned.setdefault(call, []).extend([CannedAnswer(status, body, retry_after)] * times)

    def html(self, call: str, times: int = 1) -> None:
        """Answer 200 with a page of HTML, as a portal in the way would, without doing the work."""
        self.answer(call, 200, HTML, times)

    def delay(self, call: str, seconds: float) -> None:
        """Do the work at once and hold every answer back for so long, until set to 0."""
        self._known(call)
        with self._changed:
            self._delays[call] = seconds

    def clear(self) -> None:
        """Switch everything off."""
        with self._changed:
            self._outage = None
            self._drops.clear()
            self._canned.clear()
            self._delays.clear()
            self._lates.clear()

    def current_outage(self) -> Literal["503", "close"] | None:
        """How everything is refused at the moment."""
        with self._changed:
            return self._outage

    def take_canned(self, call: str) -> CannedAnswer | None:
        """The next canned answer of that call, which is used up by this."""
        with self._changed:
            waiting = self._canned.get(call)
            return waiting.pop(0) if waiting else None

    def take_drop(self, call: str) -> bool:
        """Whether this answer is to be dropped; counts it."""
        return self._take(self._drops, call)

    def take_late(self, call: str) -> bool:
        """Whether this call is to be worked on later; counts it."""
        return self._take(self._lates, call)

    def seconds(self, call: str) -> float:
        """How long answers of that call are held back."""
        with self._changed:
            return self._delays.get(call, 0.0)

    def _take(self, counts: dict[str, int], call: str) -> bool:
        with self._changed:
            left = counts.get(call, 0)
            counts[call] = max(0, left - 1)
            return left > 0

    def _known(self, call: str) -> None:
        if call not in self._incoming:
            raise ValueError(f"The provider makes no call named {call!r}.")
