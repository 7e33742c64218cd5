"""Answers: the bodies of success and of errors. No stack trace leaves the process."""

import logging
from typing import Any

from flask import Flask, Response, jsonify
from werkzeug.exceptions import HTTPException

from ucloud_slurm.errors import NotNow, Problem, one_line, place

log = logging.getLogger(__name__)


def responses(items: list[Any]) -> dict[str, list[Any]]:
    """A BulkResponse: as many elements as the request had, in the same order."""
    return {"responses": items}


def error(status: int, why: str, error_code: str | None = None) -> Response:
    """A CommonErrorMessage."""
    response = jsonify({"why": why, "errorCode": error_code})
    response.status_code = status
    return response


def handle_errors(app: Flask) -> None:
    """FairExecutor everything that is raised in a request into an answer."""

    @app.errorhandler(Problem)
    def problem(raised: Problem) -> Response:
        if raised.status >= 500:
            log.error("%s", one_line(raised.why))
        return error(raised.status, raised.why, raised.error_code)

    @app.errorhandler(NotNow)
    def not_now(raised: NotNow) -> Response:
        # Never 503 or 449: UCloud answers both with init and five repeats.
        log.warning("%s", one_line(str(raised)))
        return error(500, "The provider cannot do this at the moment; please try again in a minute.")

    @app.errorhandler(HTTPException)
    def http(raised: HTTPException) -> Response:
        return error(raised.code or 500, raised.name)

    @app.errorhandler(Exception)
    def unexpected(raised: Exception) -> Response:
        # One line in the journal; the place is enough to find it, the values may be secrets.
        log.error("unexpected %s at %s; please report it", type(raised).__name__, place(raised))
        return error(500, "Internal error of the provider")
