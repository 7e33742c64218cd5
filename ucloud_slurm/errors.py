"""What can go wrong, one class for each thing the caller may do differently about it.

``Problem`` and its children are answers to UCloud: they carry the HTTP status and the sentence (``why``) that
the person in front of UCloud reads. ``NotNow`` says that Slurm or UCloud could not be asked: ignorance, never
an event. ``Misconfigured`` is for the administrator.
"""

from collections.abc import Sequence


class Problem(Exception):
    """A request that gets an error as its answer (contract: CommonErrorMessage ``{why, errorCode}``)."""

    status = 500

    def __init__(self, why: str, *, error_code: str | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.error_code = error_code


class Refused(Problem):
    """The request cannot be done as it stands; ``why`` names the field or the limit."""

    status = 400


class Unauthenticated(Problem):
    """No valid token of UCloud came with the request. Says no more than that."""

    status = 401

    def __init__(self) -> None:
        super().__init__("Unauthenticated")


class PaymentRequired(Problem):
    """Whoever would pay for the job has nothing left."""

    status = 402


class Forbidden(Problem):
    """The caller is known but may not do this."""

    status = 403


class NotFound(Problem):
    """There is no such job or session here."""

    status = 404


class Conflict(Problem):
    """The job is not in a state for that, or its id came before with other contents."""

    status = 409


class TooMany(Problem):
    """A limit on how much one person or one job may have at a time."""

    status = 429


class StorageError(Problem):
    """A disk or the database could not take something. It says nothing about the job that it was for."""


class StorageFullError(StorageError):
    """A disk of the provider is full. Nothing was begun that is not written down."""

    status = 507


class NotNow(Exception):
    """Slurm or UCloud could not be asked, or did not give a whole answer. Nothing follows from it."""


class Misconfigured(Exception):
    """The configuration cannot be used; ``sentences`` lists everything that is wrong with it, at once."""

    def __init__(self, sentences: Sequence[str]) -> None:
        super().__init__("\n".join(sentences))
        self.sentences = tuple(sentences)


def place(error: BaseException) -> str:
    """Where an error was raised, as file and line. Enough to find it; the values there may be secrets."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "an unknown place"


def one_line(text: str, limit: int = 500) -> str:
    """Foreign text as one printable line of at most ``limit`` characters, for a journal or a terminal."""
    line = "".join(character if character.isprintable() else " " for character in text)
    line = " ".join(line.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
