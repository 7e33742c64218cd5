"""One stream of a job's log, and what is wrong with it (contract: follow)."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tests.sandbox.core.checks import MAYBE_TEXT, TEXT, WHOLE, Check, wrong_fields
from tests.sandbox.core.frames import ResponseFrame, wrong_error

Json = dict[str, Any]
LOG: Mapping[str, Check] = {"streamId": TEXT, "rank": WHOLE, "stdout": MAYBE_TEXT, "stderr": MAYBE_TEXT}
"""The fields of a piece of log."""
NO_RANK = -1
"""Of a message about the stream itself."""


class Subscription:
    """The listener of a stream. It checks to the end, also when nobody looks any more.

    :ivar session: the id that the provider announced, or None while it has not
    """

    def __init__(
        self,
        replicas: int,
        complain: Callable[[str], None],
        *,
        on_message: Callable[[float, Json], None],
        on_response: Callable[[ResponseFrame], None],
        on_ping: Callable[[], None],
    ) -> None:
        """Nothing is asked here.

        :param replicas: nodes of the job, as the user asked for them
        :param complain: takes a sentence about what the contract does not allow
        :param on_message: gets the time by the monotonic clock in seconds, and the payload, right or wrong
        """
        self.session: str | None = None
        self._began = False
        self._replicas = replicas
        self._complain = complain
        self._on_message = on_message
        self._on_response = on_response
        self._on_ping = on_ping

    def message(self, at: float, payload: Json) -> None:
        """See :class:`Listener`."""
        for sentence in self._wrong(payload):
            self._complain(sentence)
        if not self._began:
            self._began = True
            said = payload.get("streamId")
            self.session = said if isinstance(said, str) and said else None
        self._on_message(at, payload)

    def response(self, frame: ResponseFrame) -> None:
        """See :class:`Listener`."""
        for sentence in wrong_end(frame, self.session):
            self._complain(sentence)
        self._on_response(frame)

    def ping(self) -> None:
        """See :class:`Listener`."""
        self._on_ping()

    def _wrong(self, payload: Json) -> Iterator[str]:
        wrong = [f"a message is wrong: {sentence}" for sentence in wrong_fields(payload, LOG)]
        if wrong:
            yield from wrong
            return
        session, rank = payload["streamId"], payload["rank"]
        silent = payload["stdout"] is None and payload["stderr"] is None
        if not self._began:
            if not (session and rank == NO_RANK and silent):
                yield "the first message of a stream does not announce its session (a streamId, rank -1, no text)"
            return
        if session != self.session:
            yield f"a message of session {session!r} came in session {self.session!r}"
        if not 0 <= rank < self._replicas and not (rank == NO_RANK and silent):
            yield f"a message is of rank {rank}, but the job has {self._replicas} replicas"


def wrong_end(frame: ResponseFrame, session: str | None) -> Iterator[str]:
    """What is wrong with the response to an init or a cancel.

    :param session: that ends by it
    """
    payload = frame.payload
    if not frame.ok:
        sentence = wrong_error(payload)
        if sentence is not None:
            yield f"a response is wrong: {sentence}"
        return
    wrong = [f"a response is wrong: {sentence}" for sentence in wrong_fields(payload, LOG)]
    if wrong:
        yield from wrong
        return
    if payload["streamId"] not in ("", session or ""):
        yield f"a response of session {payload['streamId']!r} came in session {session!r}"
    if payload["rank"] != NO_RANK or payload["stdout"] is not None or payload["stderr"] is not None:
        yield "a response has a rank or text"
