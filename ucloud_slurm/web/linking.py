"""Connecting users: UCloud's calls about who is connected, and the page that says what to type on the cluster."""

import base64
from contextlib import suppress
from hashlib import sha256
from html import escape

from flask import Blueprint, Response

from ucloud_slurm.errors import Forbidden, NotFound, Refused, one_line
from ucloud_slurm.provider.context import Provider

LONGEST_NAME = 200  # characters


class Connecting:
    """What UCloud asks about one user at a time. Only with ``mapping = "table"`` does anybody have to connect."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    @property
    def wanted(self) -> bool:
        """Whether people have to connect."""
        return self._provider.config.users.mapping == "table"

    def begin(self, username: str) -> str:
        """Makes a code for a user.

        :returns: the address of the page that shows it; of one that says so when they are connected here already
        :raises Refused: nobody has to connect
        """
        config = self._provider.config
        if config.users.mapping == "service":
            raise Refused("There is no need to connect: all jobs of this provider run as one account.")
        if not self.wanted:
            raise Refused("There is no need to connect: this provider knows by itself who you are on its cluster.")
        if not username or one_line(username, LONGEST_NAME) != username:
            raise Refused("username: not the name of a user")
        page = f"{config.provider.url.rstrip('/')}/ucloud/{config.provider.id}/link"
        provider = self._provider
        provider.link_states.disconnected(username, provider.now())
        with suppress(Forbidden):
            provider.mapping.identity(username, None)
            return f"{page}/{CONNECTED}"
        return f"{page}/{provider.codes.new(username, provider.now())}"

    def check(self, username: str) -> None:
        """Whether a user is connected.

        :raises Refused: they would have to be
        """
        if self.wanted and self._provider.people.of(username) is None:
            raise Refused("Unknown user")

    def end(self, username: str) -> None:
        """A user gave the connection up at UCloud; whether there is one does not matter."""
        if self.wanted:
            provider = self._provider
            with provider.store.writing():
                provider.link_states.disconnected(username, provider.now())
                with suppress(NotFound):
                    provider.people.remove(username, "UCloud", provider.now())


_STYLE = (
    "body{font:18px/1.5 sans-serif;margin:15vh auto;max-width:34em;padding:0 1em;color:#222}"
    "pre{font-size:1.2em;padding:.6em;background:#eee;overflow-x:auto}"
)
_POLICY = (
    f"default-src 'none'; style-src 'sha256-{base64.b64encode(sha256(_STYLE.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width"><style>{style}</style>
</head><body><h1>{title}</h1>
{text}
</body></html>
"""
_TYPE = """<p>Log in to the cluster as you always do, and type this on its login node within ten minutes:</p>
<pre>ucloud-slurm link {code}</pre>
<p>The jobs that you start at UCloud then run as the account in which you type it. You are asked before anything is
changed. Never type a code that somebody else has given to you: their jobs would run as you.</p>
<p>When it is done, go back to UCloud. If you have connected another account before, type
<code>ucloud-slurm unlink</code> there first.</p>"""
_DONE = """<p>UCloud hears of it within a minute. Please go back to UCloud. If the cluster should use another account of
yours, type <code>ucloud-slurm unlink</code> in the old one first, and connect again.</p>"""
_AGAIN = """<p>A code works once, for ten minutes, and only the newest one does. Please go back to UCloud, and choose
Connect at this provider again.</p>"""


CONNECTED = "done"  # in the place of a code


def blueprint(provider: Provider) -> Blueprint:
    """``/ucloud/<provider id>/link/<code>``, for everybody who has the code."""
    place = Blueprint("link", __name__, url_prefix=f"/ucloud/{provider.config.provider.id}/link")

    @place.get("/<code>")
    def show(code: str) -> Response:
        if code == CONNECTED:
            return _page(200, "You are connected with an account on the cluster", _DONE)
        table = provider.config.users.mapping == "table"
        if not table or provider.codes.of(code, provider.now()) is None:
            return _page(404, "This code does not work any more", _AGAIN)
        return _page(200, "Connect your account on the cluster", _TYPE.format(code=escape(code)))

    return place


def _page(status: int, title: str, text: str) -> Response:
    response = Response(_PAGE.format(title=title, text=text, style=_STYLE), status, mimetype="text/html")
    response.headers["Content-Security-Policy"] = _POLICY
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
