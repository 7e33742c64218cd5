"""A user's browser with a shell in it (contract: shell)."""

import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from tests.sandbox.core.channel import Channel
from tests.sandbox.core.checks import TEXT, Check, wrong_fields
from tests.sandbox.core.errors import CoreError
from tests.sandbox.core.frames import ResponseFrame, wrong_error

Json = dict[str, Any]
ANSWERS: Mapping[str, Mapping[str, Check]] = {
    "initialize": {"type": TEXT},
    "data": {"type": TEXT, "data": TEXT},
    "ack": {"type": TEXT},
}
"""Type of what a provider says -> its fields."""


class ShellClient:
    """A terminal on a job. Safe for several threads; made by :meth:`SimulatedCore.shell`."""

    def __init__(self, channel: Channel, call: str, complain: Callable[[str], None], timeout: float) -> None:
        """Nothing is sent before :meth:`begin`.

        :param channel: of its own
        :param call: full name of the shell's call
        :param timeout: seconds that the provider has for each response
        """
        self._channel = channel
        self._call = call
        self._noted = complain
        self._timeout = timeout
        self._changed = threading.Condition()
        self._chunks: list[str] = []
        self._ready = False
        self._ended: ResponseFrame | None = None
        self._closing = False

    def begin(self, session_identifier: str, cols: int, rows: int) -> None:
        """Open the session.

        :param cols: columns of the terminal
        :param rows: lines of it
        :raises CoreError: what the provider answered
        :raises TimeoutError: when it says nothing
        """
        payload = {"type": "initialize", "sessionIdentifier": session_identifier, "cols": cols, "rows": rows}
        try:
            self._channel.open(self._call, payload, self)
            with self._changed:
                if not self._changed.wait_for(lambda: self._ready or self._ended is not None, self._timeout):
                    raise TimeoutError(f"In {self._timeout} s the shell did not begin.")
                refused = None if self._ready else self._ended
            if refused is not None:
                why = refused.payload.get("why")
                raise CoreError(refused.status, why if isinstance(why, str) else "The shell did not begin")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    @property
    def output(self) -> str:
        """What the terminal has shown so far, with its control characters."""
        with self._changed:
            self._chunks[:] = ["".join(self._chunks)]
            return self._chunks[0]

    @property
    def closed(self) -> ResponseFrame | None:
        """With which the provider ended the session; None while it has not. 499 when the connection ended instead."""
        with self._changed:
            return self._ended

    def send(self, text: str) -> ResponseFrame:
        """Type something.

        :return: the response, normally 200 with an ack; 499 or 502 when the connection is over
        :raises TimeoutError: when there is none
        """
        return self._do({"type": "input", "data": text})

    def resize(self, cols: int, rows: int) -> ResponseFrame:
        """Change the size of the terminal. See :meth:`send`."""
        return self._do({"type": "resize", "cols": cols, "rows": rows})

    def wait_for(self, text: str, timeout: float = 10.0) -> None:
        """Wait until the terminal has shown a text.

        :param timeout: seconds
        :raises TimeoutError: with the last of what it has shown; at once when the session has ended without it
        """
        with self._changed:
            self._changed.wait_for(lambda: text in self.output or self._ended is not None, timeout)
            shown = self.output
        if text not in shown:
            raise TimeoutError(f"{text!r} did not come from the shell; it ends with {shown[-200:]!r}.")

    def wait_closed(self, timeout: float = 10.0) -> ResponseFrame:
        """Wait until the provider has ended the session.

        :param timeout: seconds
        :return: see :attr:`closed`
        :raises TimeoutError: when it has not
        """
        with self._changed:
            self._changed.wait_for(lambda: self._ended is not None, timeout)
            if self._ended is None:
                raise TimeoutError(f"In {timeout} s the shell did not end.")
            return self._ended

    def close(self) -> None:
        """Close the window: the connection ends, and nothing else is said."""
        with self._changed:
            self._closing = True
        self._channel.close()

    # -- the listener of the first stream -------------------------------------------------------------------

    def message(self, at: float, payload: Json) -> None:
        """See :class:`Listener`."""
        wrong = list(wrong_answer(payload))
        for sentence in wrong:
            self._complain(f"a message is wrong: {sentence}")
        if wrong:
            return
        with self._changed:
            kind, ready = payload["type"], self._ready
            self._ready = ready or kind == "initialize"
            if kind == "data":
                self._chunks.append(payload["data"])
            self._changed.notify_all()
        if kind == "ack":
            self._complain("an ack came as a message on the session's stream")
        elif ready == (kind == "initialize"):
            self._complain("initialize came twice" if ready else "data came before initialize")

    def response(self, frame: ResponseFrame) -> None:
        """See :class:`Listener`."""
        with self._changed:
            if not self._closing:
                self._ended = frame
                self._check(frame)
            self._changed.notify_all()

    def ping(self) -> None:
        """See :class:`Listener`."""

    def _do(self, payload: Json) -> ResponseFrame:
        frame = self._channel.call(self._call, payload, self._timeout)
        self._check(frame)
        if frame.ok and frame.payload.get("type") in ANSWERS and frame.payload["type"] != "ack":
            self._complain(f"{payload['type']} was answered with {frame.payload['type']} instead of ack")
        return frame

    def _complain(self, sentence: str) -> None:
        self._noted(f"{self._call}: {sentence}")

    def _check(self, frame: ResponseFrame) -> None:
        if frame.ok:
            wrong = list(wrong_answer(frame.payload))
        else:
            error = wrong_error(frame.payload)
            wrong = [] if error is None else [error]
        for sentence in wrong:
            self._complain(f"a response is wrong: {sentence}")


def wrong_answer(payload: Json) -> list[str]:
    """What is wrong with what a provider says in a shell."""
    kind = payload.get("type")
    if not isinstance(kind, str) or kind not in ANSWERS:
        return [f"{kind!r} is no type of what a shell says"]
    return list(wrong_fields(payload, ANSWERS[kind]))
