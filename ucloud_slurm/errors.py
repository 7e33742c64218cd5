"""The exceptions that several rooms share: one class for each reaction of a caller.

:class:`Problem` and its children are answers to UCloud: they carry the HTTP status and the sentence (``why``) that the
user reads. :class:`NotNow` says that Slurm or UCloud could not be asked, so that no state may change.
:class:`Misconfigured` is for the administrator.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing loads slowly, and the program that acts as a user starts often
if TYPE_CHECKING:
    from collections.abc import Sequence


class Problem(Exception):
    """A request that is answered with an error (contract: CommonErrorMessage ``{why, errorCode}``)."""

    status = 500

    def __init__(self, why: str, *, error_code: str | None = None, status: int | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.error_code = error_code
        self.status = status or self.status


class Refused(Problem):
    """The request cannot be carried out; ``why`` names the field or the limit."""

    status = 400


class Unauthenticated(Problem):
    """The request has no valid token of UCloud. The answer does not say why."""

    status = 401

    def __init__(self) -> None:
        super().__init__("Unauthenticated")


class PaymentRequired(Problem):
    """The wallet that would pay for the job is empty."""

    status = 402


class Forbidden(Problem):
    """The caller is authenticated but may not do this."""

    status = 403


class NotFound(Problem):
    """There is no such job or session."""

    status = 404


class Conflict(Problem):
    """The state of the job does not allow it, or the job's id was used before with other contents."""

    status = 409


class UnderMaintenance(Problem):
    """The machine is under maintenance, and takes no new jobs; ``errorCode`` is ``MAINTENANCE``."""

    status = 423

    def __init__(self, why: str) -> None:
        super().__init__(why, error_code="MAINTENANCE")


class TooMany(Problem):
    """A limit on how much one user or one job may have at a time."""

    status = 429


class StorageError(Problem):
    """A disk or the database failed to store something. The job that it was for is not at fault."""


class StorageFullError(StorageError):
    """A disk is full or cannot be written: the provider's, or that of the job's user. Nothing was begun that is not stored."""

    status = 507


class NotNow(Exception):
    """Slurm or UCloud could not be asked, or did not answer in full. No state may change because of it.

    :cvar severity: of its line in the journal (logging: levels)
    """

    severity = 30


class CoreUnavailableError(NotNow):
    """UCloud/Core could not be asked: no connection, no answer in time, a server error, or no JSON."""


class CorePausedError(CoreUnavailableError):
    """UCloud/Core is not asked for a while: it has asked for that, or has refused the refresh token.

    It concerns all calls alike, so that a pass says it once and not at each of them.

    :ivar seconds: until it is asked again
    """

    severity = 10

    def __init__(self, why: str, seconds: float) -> None:
        super().__init__(why)
        self.seconds = seconds


class CoreRefusedError(Exception):
    """UCloud/Core refused a request, so that the same request again is of no use.

    :ivar explained: the answer had the form of UCloud's errors; another one may come from a proxy
    """

    severity = NotNow.severity

    def __init__(self, status: int, why: str, *, explained: bool = True) -> None:
        super().__init__(f"UCloud answered {status}: {why}")
        self.status = status
        self.why = why
        self.explained = explained


class InvalidRequestError(Exception):
    """A request to a program of this product that is not in the one form that is accepted. Nothing was done."""


class Misconfigured(Exception):
    """The configuration cannot be used; ``sentences`` lists everything that is wrong with it."""

    def __init__(self, sentences: Sequence[str]) -> None:
        super().__init__("\n".join(sentences))
        self.sentences = tuple(sentences)


def place(error: BaseException) -> str:
    """File and line where an error was raised, for logs that must not contain its text, which may be a secret."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "an unknown place"


def one_line(text: str, limit: int = 500) -> str:
    """Foreign text as one printable line of at most ``limit`` characters, for the journal or a terminal."""
    line = "".join(character if character.isprintable() else " " for character in text)
    line = " ".join(line.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
