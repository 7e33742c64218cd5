"""Exceptions as answers to UCloud (contract: CommonErrorMessage). No stack trace leaves the process."""

import logging

from flask import Flask, Response, jsonify
from werkzeug.exceptions import HTTPException

from ucloud_slurm.errors import NotNow, Problem, one_line, place

log = logging.getLogger(__name__)


def error(status: int, why: str, error_code: str | None = None) -> Response:
    """A CommonErrorMessage."""
    response = jsonify({"why": why, "errorCode": error_code})
    response.status_code = status
    return response


def handle_errors(app: Flask) -> None:
    """Makes an answer of every exception that a request raises."""

    @app.errorhandler(Problem)
    def problem(raised: Problem) -> Response:
        if raised.status >= 500:
            log.error("%s", one_line(raised.why))
        return error(raised.status, raised.why, raised.error_code)

    @app.errorhandler(NotNow)
    def not_now(raised: NotNow) -> Response:
        # Never 503 or 449: UCloud reacts to both with init and five retries.
        log.warning("%s", one_line(str(raised)))
        return error(500, "The provider cannot do this at the moment; please try again in a minute.")

    @app.errorhandler(HTTPException)
    def http(raised: HTTPException) -> Response:
        return error(raised.code or 500, raised.name)

    @app.errorhandler(Exception)
    def unexpected(raised: Exception) -> Response:
        # The journal gets the place only: the values may be secrets.
        log.error("unexpected %s at %s; please report it", type(raised).__name__, place(raised))
        return error(500, "Internal error of the provider")
