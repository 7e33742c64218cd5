"""The pages that lead somebody from UCloud to their account here. They are for browsers, and need no token."""

from html import escape

from flask import Blueprint, Response

from ucloud_slurm.provider import Provider
from ucloud_slurm.web.pages import page

AGAIN = "Go to Providers at UCloud, choose this provider and press Connect."


def address(provider: Provider, code: str) -> str:
    """Where the browser of somebody with a code is sent to, a whole URL."""
    return f"{provider.config.provider.url}/ucloud/{provider.config.provider.id}/link/{code}"


def blueprint(provider: Provider) -> Blueprint:
    """The routes below ``/ucloud/{id}/link``."""
    place = Blueprint("link", __name__, url_prefix=f"/ucloud/{provider.config.provider.id}/link")

    @place.get("")
    def help_() -> Response:
        if provider.config.users.mapping != "table":
            return page(404, "There is no need to connect", "This provider knows by itself who you are.")
        return page(200, "Connect your account", f"{AGAIN} You are shown a code, which you type on the login node "
                    "of the cluster, as yourself.")  # fmt: skip

    @place.get("/connected")
    def connected() -> Response:
        return page(200, "Your account is connected", "You can close this page. UCloud knows it in a moment.")

    @place.get("/<code>")
    def show(code: str) -> Response:
        if provider.codes.owner(code, provider.now()) is None:
            return page(404, "This code does not work any more", f"A code works once and for ten minutes. {AGAIN}")
        command = (
            f"<pre>ucloud-slurm link {escape(code)}</pre><p>It works once, and for ten minutes. Show it to nobody.</p>"
        )
        return page(200, "Connect your account", "Log in to the cluster as yourself, and type there:", more=command)

    return place
