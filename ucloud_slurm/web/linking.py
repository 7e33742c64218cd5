"""Connecting users: UCloud's calls about the connection of a user, and the page with the command to type."""

import base64
from contextlib import suppress
from hashlib import sha256

from flask import Blueprint, Response, render_template

from ucloud_slurm.errors import Forbidden, NotFound, Refused, one_line
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.store.people import UNLINK_SECONDS
from ucloud_slurm.web.pages import html

LONGEST_NAME = 200  # characters
CONNECTED = "done"  # in the place of a code: the user is connected already


class Connecting:
    """UCloud's calls about one user. Users connect only where ``mapping = "table"``."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    @property
    def wanted(self) -> bool:
        """Whether users have to connect."""
        return self._provider.config.users.mapping == "table"

    def begin(self, username: str) -> str:
        """Makes a code for a user.

        :returns: the address of the page that shows the code; of another page when the user is connected already
        :raises Refused: this provider needs no connections, or the name cannot be one
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
        """Accepts a user who is connected, or who need not be.

        :raises Refused: the user has to connect first
        """
        if self.wanted and self._provider.people.of(username) is None:
            raise Refused("Unknown user")

    def end(self, username: str) -> None:
        """Removes the connection that a user has given up at UCloud. Idempotent."""
        if self.wanted:
            provider = self._provider
            with provider.store.writing():
                quiet = UNLINK_SECONDS if provider.era.ends_of_approval else 0.0
                provider.link_states.disconnected(username, provider.now(), quiet)
                with suppress(NotFound):
                    provider.people.remove(username, "UCloud", provider.now())


def blueprint(provider: Provider) -> Blueprint:
    """``/ucloud/<provider id>/link/<code>``, for everybody who has the code."""
    place = Blueprint("link", __name__, url_prefix=f"/ucloud/{provider.config.provider.id}/link")

    @place.get("/<code>")
    def show(code: str) -> Response:
        if code == CONNECTED:
            return _page(200, "link_done.html")
        table = provider.config.users.mapping == "table"
        if not table or provider.codes.of(code, provider.now()) is None:
            return _page(404, "link_expired.html")
        return _page(200, "link_code.html", code=code)

    return place


def _page(status: int, template: str, **values: str) -> Response:
    page = render_template(template, **values)
    style = page.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    return html(page, status, policy)
