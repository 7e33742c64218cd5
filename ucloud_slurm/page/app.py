"""The application of the operator's page: who is admitted, what every answer has, and how values are shown."""

import logging

from flask import Flask, Response, redirect, render_template, request
from markupsafe import Markup
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as AnyResponse

from ucloud_slurm import __version__
from ucloud_slurm.errors import Misconfigured, NotNow, Problem, place
from ucloud_slurm.page import acts, health, jobs, lists, shown, usage
from ucloud_slurm.page.access import Access, is_loopback
from ucloud_slurm.page.guard import Guard
from ucloud_slurm.page.shown import NOTHING, printable
from ucloud_slurm.provider.context import Provider

log = logging.getLogger(__name__)

LARGEST_REQUEST_BYTES = 64 * 1024
LONGEST_CHARACTERS = 2000  # of one value on a page
POLICY = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",  # without a referrer a browser sends no origin with a form (Fetch)
    "X-Content-Type-Options": "nosniff",
}
NOT_ADMITTED = (
    "This page opens only in the browser that has opened its link. A link works once, within ten minutes; "
    "type ucloud-slurm page on the login node for a new one."
)
WRONG_HOST = "Open this page as 127.0.0.1 or localhost, with the port that ucloud-slurm page has printed."


def create_page(provider: Provider, access: Access | None, port: int | None = None, guard: Guard | None = None) -> Flask:
    """Builds the application.

    :param access: who is admitted; None: everybody who reaches the socket
    :param port: of the loopback device, on which it is served; None: it is on a socket behind a proxy, any Host is good
    :param guard: who may change something; None: nobody, there is nothing but pages that show something
    """
    app = Flask("ucloud_slurm.page")
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_REQUEST_BYTES
    app.jinja_env.finalize = _plain
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.globals.update(provider_id=provider.config.provider.id, version=__version__)
    shown.register(app, provider.now)

    def session() -> str:
        return request.cookies.get(access.cookie_name, "") if access else ""

    @app.before_request
    def check() -> AnyResponse | None:
        if port is not None and not is_loopback(request.host, port):
            return _error(421, WRONG_HOST)
        if request.endpoint in ("static", "enter") or access is None or access.admits(session()):
            return None
        return _error(403, NOT_ADMITTED)

    @app.get("/enter")
    def enter() -> AnyResponse:
        cookie = access.enter(request.args.get("token", "")) if access else None
        if access is None or cookie is None:
            return _error(403, NOT_ADMITTED)
        response = redirect("/", 303)
        response.set_cookie(access.cookie_name, cookie, httponly=True, samesite="Strict")
        return response

    @app.after_request
    def finish(response: Response) -> Response:
        response.headers.update(HEADERS)
        return response

    @app.context_processor
    def changing() -> dict[str, object]:
        return {"acts": guard is not None, "notice": guard and guard.notice(request.args)}

    if guard is not None:
        app.register_blueprint(acts.blueprint(provider, guard, session))
    for pages in (health, jobs, lists, usage):
        app.register_blueprint(pages.blueprint(provider))
    _handle_errors(app)
    return app


def _handle_errors(app: Flask) -> None:
    @app.errorhandler(Problem)
    def problem(raised: Problem) -> AnyResponse:
        return _error(raised.status, raised.why)

    @app.errorhandler(NotNow)
    def not_now(raised: NotNow) -> AnyResponse:
        return _error(503, str(raised))

    @app.errorhandler(Misconfigured)
    def misconfigured(raised: Misconfigured) -> AnyResponse:
        return _error(400, " ".join(raised.sentences))

    @app.errorhandler(HTTPException)
    def http(raised: HTTPException) -> AnyResponse:
        return _error(raised.code or 500, f"{raised.name}.")

    @app.errorhandler(Exception)
    def unexpected(raised: Exception) -> AnyResponse:
        # The place only: the values may be secrets.
        log.error("unexpected %s at %s; please report it", type(raised).__name__, place(raised))
        return _error(500, "The page could not be made; the terminal in which ucloud-slurm page runs says where.")


def _error(status: int, why: str) -> AnyResponse:
    return Response(render_template("error.html", status=status, why=why), status)


def _plain(value: object) -> object:
    """Foreign text without what cannot be seen: control characters, and marks that reverse the direction of text."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return printable(value[:LONGEST_CHARACTERS])
    return NOTHING if value is None else value
