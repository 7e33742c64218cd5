"""The browser's side of web sessions: a link that is exchanged for a cookie, and the subrequests of nginx.

nginx is the proxy before the nodes (etc/nginx-sessions.conf). For every request below a session's address it asks
``/_ucloud/authorize`` with the session's label. The answer names the only address and port to which nginx may pass the
request: 204 with ``X-UCloud-Upstream``; 401 while the application has not announced its port; 403 without access.
"""

import socket
from collections.abc import Mapping
from urllib.parse import parse_qs

from flask import Blueprint, Response, render_template, request

from ucloud_slurm.bridge import naming
from ucloud_slurm.errors import Problem
from ucloud_slurm.provider.context import Lazy, Provider
from ucloud_slurm.store.job_rows import JobRow
from ucloud_slurm.store.job_state import JobPhase
from ucloud_slurm.store.sessions import Kind, Session
from ucloud_slurm.system.bulkhead import Bulkhead
from ucloud_slurm.ucloud.reports import JobState
from ucloud_slurm.web.announcements import Announcement, Announcements
from ucloud_slurm.web.sessions import PLACE

REFRESH_SECONDS = 2  # after which a waiting browser loads the page again
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


class NoAccessError(Problem):
    """This browser may not use this session."""

    status = 403


class Pages:
    """The checks behind the routes."""

    def __init__(self, provider: Provider, files: Lazy[Bulkhead]) -> None:
        self._provider = provider
        url = provider.config.sessions.url or "https://*.invalid"
        self._shared = url.endswith("*")
        self.secure = url.startswith("https:")
        # The prefix __Host- makes browsers accept the cookie from this host only; it excludes other paths than "/".
        prefix = "" if not self.secure else "__Secure-" if self._shared else "__Host-"
        self.cookie = f"{prefix}ucloud-session"
        self._announcements = Announcements(provider, files)

    def base(self, session: Session) -> str:
        """The path of a session's address, with a slash at both ends."""
        return naming.base_path(self._provider.config.sessions.url, session.job_id, session.rank)

    def current(self, label: str) -> Session | None:
        """The session of the browser that sends this request; None when it has none at this address."""
        cookie = request.cookies.get(self.cookie, "")
        session = self._provider.sessions.by_cookie(cookie, self._provider.now()) if cookie else None
        return session if session is not None and session.label == label and session.kind is Kind.WEB else None

    def check(self, session: Session) -> JobRow:
        """The job of a session.

        :raises NoAccessError: the job has ended or runs anew, or the user has lost access to it
        """
        provider = self._provider
        row = provider.jobs.get(session.job_id)
        access = provider.sessions.access([session.job_id]).get(session.job_id)
        if row is None or access is None or row.phase is not JobPhase.LIVE or row.stop is not None:
            raise NoAccessError("The job has ended.")
        if access.lost(session.username, session.created_at):
            raise NoAccessError("You have no access to this job any more.")
        if row.run_submitted not in (None, session.run):
            raise NoAccessError("The job has begun anew. Please open the application again at UCloud.")
        return row

    def announced(self, session: Session, row: JobRow) -> Announcement | None:
        """What the job has announced; None while it has announced nothing."""
        if session.port is not None and row.state is JobState.RUNNING:
            return Announcement(session.port, "/")
        return self._announcements.of(session, row) if row.state is JobState.RUNNING else None


def blueprint(provider: Provider, files: Lazy[Bulkhead]) -> Blueprint:
    """The routes below ``/_ucloud``.

    :param files: the threads that call the file systems of users
    """
    pages, place = Pages(provider, files), Blueprint("pages", __name__, url_prefix=f"/{PLACE}")

    @place.get("/enter")
    def enter() -> Response:
        label = request.headers.get("X-UCloud-Session", "")
        session = provider.sessions.open(request.args.get("token", ""), Kind.WEB, provider.now())
        if session is None or session.label != label:
            current = pages.current(label)  # the browser has opened this link before
            if current is None:
                return _page(
                    403,
                    "This link does not work any more",
                    "A link works once, and soon after it was made. Please open the application again at UCloud.",
                )
            return see_other(f"{pages.base(current)}{PLACE}/go")
        pages.check(session)
        response = see_other(f"{pages.base(session)}{PLACE}/go")
        response.set_cookie(
            pages.cookie,
            provider.sessions.give_cookie(session),
            max_age=int(provider.config.sessions.life),
            path=pages.base(session),
            secure=pages.secure,
            httponly=True,
            samesite="Lax",
        )
        return response

    @place.get("/go")
    def go() -> Response:
        session = pages.current(request.headers.get("X-UCloud-Session", ""))
        if session is None:
            raise NoAccessError("Please open the application at UCloud.")
        announced = pages.announced(session, pages.check(session))
        if announced is None or (session.port is not None and not _listens(session.address or "", session.port)):
            return waiting()
        return see_other(pages.base(session).rstrip("/") + announced.path)

    @place.get("/authorize")
    def authorize() -> Response:
        label = request.headers.get("X-UCloud-Session", "")
        path, _, query = request.headers.get("X-Original-URI", "").partition("?")
        screen = path.endswith(f"/{PLACE}/vnc")
        token = parse_qs(query).get("token", [""])[0] if screen else ""
        session = provider.sessions.find(token, Kind.VNC, provider.now()) if screen else pages.current(label)
        if session is None or session.address is None or session.label != label:
            return Response(status=403)
        try:
            announced = pages.announced(session, pages.check(session))
        except NoAccessError:
            return Response(status=403)
        if announced is None or (screen and not _listens(session.address, announced.port)):
            return Response(status=401)
        # The link of a screen is used up only when there is a screen to show.
        if screen and provider.sessions.open(token, Kind.VNC, provider.now()) is None:
            return Response(status=403)
        return Response(status=204, headers={"X-UCloud-Upstream": _upstream(session.address, announced.port)})

    @place.get("/waiting")
    def waiting() -> Response:
        return _page(503, "The application is starting", "This page looks again every few seconds.", REFRESH_SECONDS)

    @place.get("/closed")
    def closed() -> Response:
        return _page(
            403,
            "This session is closed",
            "The job has ended, or the session is over. Please open the application again at UCloud.",
        )

    @place.errorhandler(Problem)
    def problem(raised: Problem) -> Response:
        return _page(raised.status, "This session is closed", raised.why)

    return place


def _listens(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=1):
            return True
    except OSError:
        return False


def _upstream(address: str, port: int) -> str:
    """The address of a node as nginx reads it, by number: nginx has no resolver."""
    number = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0][4][0]
    return f"[{number}]:{port}" if ":" in str(number) else f"{number}:{port}"


def see_other(path: str) -> Response:
    """Sends the browser to another path of this host."""
    response = Response(status=303, headers={"Location": path})
    response.autocorrect_location_header = False  # only nginx knows the name of the host
    return response


def _page(status: int, title: str, text: str, refresh_seconds: int | None = None) -> Response:
    headers = {} if refresh_seconds is None else {"Retry-After": str(refresh_seconds)}
    page = render_template("session.html", title=title, text=text, refresh_seconds=refresh_seconds)
    return html(page, status, POLICY, headers)


def html(page: str, status: int, policy: str, headers: Mapping[str, str] | None = None) -> Response:
    """A page that loads nothing and names no address of its own to others.

    :param policy: value of Content-Security-Policy
    """
    response = Response(page, status, headers, content_type="text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = policy
    response.headers["Referrer-Policy"] = "no-referrer"
    return response
