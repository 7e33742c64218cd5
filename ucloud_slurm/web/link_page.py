"""The page that a browser is sent to from UCloud: what to type on the cluster. Whose code it is it does not say."""

import base64
from hashlib import sha256
from html import escape

from flask import Blueprint, Response

from ucloud_slurm.provider import Provider

_STYLE = "body{font:18px/1.5 sans-serif;margin:15vh auto;max-width:34em;padding:0 1em;color:#222}" \
    "pre{font-size:1.2em;padding:.6em;background:#eee;overflow-x:auto}"  # fmt: skip
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
