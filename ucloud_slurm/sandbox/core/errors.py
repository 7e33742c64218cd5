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

    def body(self) -> dict[str, object]:
        """The answer's JSON."""
        return {"why": self.why, "errorCode": self.error_code}


class ProtocolError(CoreError):
    """A message that the contract does not allow. It is a 400 and goes into ``protocol_errors``.

    :ivar sentences: each thing that is wrong, without the name of the call
    """

    def __init__(self, sentences: Sequence[str]) -> None:
        super().__init__(400, "; ".join(sentences))
        self.sentences = tuple(sentences)


class ProviderAwayError(CoreError):
    """The provider could not be asked, or did not answer in time. Users see a 502."""

    def __init__(self, why: str) -> None:
        super().__init__(502, why)


class CoreCrashError(Exception):
    """Something failed inside the simulated Core or in a function it was given. Not the provider's fault."""
