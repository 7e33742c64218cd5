"""The request that this thread serves: its id and its user, for the journal, the database, the runner and the answer.

A request keeps the id that it comes with. What a request queues for another thread belongs to it too
(:class:`.executor.FairExecutor`).
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

HEADER = "X-Request-ID"  # of the answer
VARIABLES = ("HTTP_X_REQUEST_ID", "HTTP_JOB_ID")  # PEP 3333: the proxy's; UCloud's own, of 2021 and 2022
_FORM = re.compile(r"[A-Za-z0-9._-]{8,64}", re.ASCII)

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Served(NamedTuple):
    """A request.

    :ivar id: letters, digits, dots, hyphens and underscores, at most 64
    :ivar user: of UCloud, for whom it is made; None where that is not known
    """

    id: str
    user: str | None = None


_served: ContextVar[Served | None] = ContextVar("served", default=None)


def served() -> Served | None:
    """The request that this thread serves; None outside requests."""
    return _served.get()


def current() -> str | None:
    """The id of that request."""
    request = _served.get()
    return None if request is None else request.id


def well_formed(value: object) -> str | None:
    """The value, where it can be an id; else None."""
    return value if isinstance(value, str) and _FORM.fullmatch(value) else None


def identify(environ: Mapping[str, Any]) -> str:
    """The id of a request: the first well-formed one that it comes with, or a new one.

    :param environ: of the WSGI server
    """
    found = (well_formed(environ.get(variable)) for variable in VARIABLES)
    return next(filter(None, found), None) or os.urandom(16).hex()


@contextmanager
def serving(request: Served | None) -> Iterator[None]:
    """What this thread does here is for that request."""
    token = _served.set(request)
    try:
        yield
    finally:
        _served.reset(token)


def name_user(user: str | None) -> None:
    """The request that this thread serves is for that user of UCloud's."""
    request = _served.get()
    if request is not None:
        _served.set(request._replace(user=user))


def identified(application: Application) -> Application:
    """A WSGI application that does the same, each request under its id, which is in the head of the answer."""

    def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        request = Served(identify(environ))

        def start(status: str, headers: Sequence[tuple[str, str]], *more: Any) -> Any:
            return start_response(status, [*headers, (HEADER, request.id)], *more)

        with serving(request):
            return application(environ, start)

    return serve
