"""What goes wrong at the simulated Core, as an answer (contract: CommonErrorMessage)."""

from collections.abc import Sequence

NOT_SUPPORTED = "FEATURE_NOT_SUPPORTED_BY_PROVIDER"
"""The one error code of the contract."""


class CoreError(Exception):
    """A refusal: what the provider gets as an answer, or what a user of UCloud would see.

    :ivar status: HTTP status
    :ivar why: the sentence that people read
    :ivar error_code: stable name of the kind of error, or None
    """

    def __init__(self, status: int, why: str, error_code: str | None = None) -> None:
        super().__init__(f"{status}: {why}")
        self.status = status
        self.why = why
        self.error_code = error_code

    def body(self, *, structured: bool = False) -> dict[str, object]:
        """The answer's JSON.

        :param structured: as today: with the status, and with codes that are not null
        """
        if structured:
            why = self.why[:1].upper() + self.why[1:]
            return {"statusCode": self.status, "why": why, "errorCode": self.error_code or "", "detailedCode": 0}
        return {"why": self.why, "errorCode": self.error_code}


class ProtocolError(CoreError):
    """A message that the contract does not allow. It is a 400 and goes into ``protocol_errors``.

    :ivar sentences: each thing that is wrong, without the name of the call
    """

    def __init__(self, sentences: Sequence[str], status: int = 400, why: str | None = None) -> None:
        """Note what is wrong.

        :param why: what the answer says; all the sentences unless given
        """
        super().__init__(status, "; ".join(sentences) if why is None else why)
        self.sentences = tuple(sentences)


class CoreEndsError(ProtocolError):
    """A message that today's Core cannot store: it tries for twenty seconds, and then its process ends, without an answer.

    :ivar why: what its database refuses
    """

    def __init__(self, why: str) -> None:
        super().__init__([f"Core has ended: {why}"], 500, why)


class ProviderAwayError(CoreError):
    """The provider could not be asked, or did not answer in time. Users see a 502."""

    def __init__(self, why: str) -> None:
        super().__init__(502, why)


class CoreCrashError(Exception):
    """Something failed inside the simulated Core or in a function it was given. Not the provider's fault."""
