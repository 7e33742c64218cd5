"""Connecting users: UCloud's calls about the connection of a user, and the page of the user who connects."""

import base64
import logging
import time
from contextlib import suppress
from hashlib import sha256

from flask import Blueprint, Response, render_template, request

from ucloud_slurm.errors import Conflict, Forbidden, NotFound, Refused, one_line
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.store.codes import Code, Outcome, code_text
from ucloud_slurm.store.people import UNLINK_SECONDS, UserLink
from ucloud_slurm.web.pages import html, see_other

log = logging.getLogger(__name__)

LONGEST_NAME = 200  # characters
CONNECTED = "done"  # in the place of a secret: the user is connected already
REFRESH_SECONDS = 3  # after which a browser that shows a code looks whether it was typed
TAKEN = "You or this account have been connected with somebody else meanwhile, so nothing was changed."


class Connecting:
    """UCloud's calls about one user. Users connect only where ``mapping = "table"``."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    @property
    def wanted(self) -> bool:
        """Whether users have to connect."""
        return self._provider.config.users.mapping == "table"

    def begin(self, username: str) -> str:
        """Makes a page with a code for a user.

        :returns: the address of the page; of another page when the user is connected already
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
            provider.mapping.identity(username, None, provider.deadline() - time.monotonic())
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


class LinkPage:
    """The page of a user who connects: the code, then the account that has claimed it, then what came of it."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def show(self, secret: str, notice: str = "", status: int = 200) -> Response:
        """The page as it is now; another one, always the same, where there is none with that secret."""
        if secret == CONNECTED:
            return _page(200, "link_done.html")
        provider, code = self._provider, self._code(secret)
        if code is None:
            return _page(404, "link_expired.html")
        if code.outcome == Outcome.CONNECTED:
            link = provider.people.of(code.username)
            there = link is not None and link.local_user == code.account
            return _page(200, "link_done.html", code=code) if there else _page(404, "link_expired.html")
        if code.outcome == Outcome.CONTESTED:
            return _page(status, "link_contested.html", code=code, notice=notice)
        if code.claim is not None:
            before = provider.people.former(code.username, code.claim.account)
            return _page(status, "link_confirm.html", code=code, before=before, notice=notice)
        text, refresh = code_text(secret, code.round), REFRESH_SECONDS
        return _page(status, "link_code.html", code=code, text=text, notice=notice, refresh_seconds=refresh)

    def answer(self, secret: str) -> Response:
        """Does what the form of the page says, and shows the page again. Its address is what proves who sends it."""
        provider, now = self._provider, self._provider.now()
        if self._code(secret) is None:
            return _page(404, "link_expired.html")
        shown = request.form.get("shown", "")
        try:
            match request.form.get("answer"):
                case "connect":
                    per_account = provider.config.users.connections_per_account
                    link = provider.codes.connect(secret, shown, provider.people, now, per_account)
                    self._report(link)
                case "reject":
                    code = provider.codes.reject(secret, shown, provider.people, now)
                    named = one_line(code.username, 60)
                    log.warning("%s has refused to be connected with %s (uid %s)", named, code.account, code.uid)
                case "renew":
                    provider.codes.renew(secret, now)
        except NotFound as error:
            return self.show(secret, error.why, 409)
        except Conflict:
            return self.show(secret, TAKEN, 409)
        return see_other(request.path)

    def _code(self, secret: str) -> Code | None:
        table = self._provider.config.users.mapping == "table"
        return self._provider.codes.page(secret, self._provider.now()) if table else None

    def _report(self, link: UserLink) -> None:
        before = self._provider.people.former(link.username, link.local_user)
        level = logging.WARNING if before else logging.INFO
        sentence = "".join(f"; {one_line(str(each))}" for each in before)
        log.log(level, "%s is connected with %s%s", one_line(link.username, 60), link.local_user, sentence)


def blueprint(provider: Provider) -> Blueprint:
    """``/ucloud/<provider id>/link/<secret>``, for the browser that UCloud has sent there."""
    place = Blueprint("link", __name__, url_prefix=f"/ucloud/{provider.config.provider.id}/link")
    page = LinkPage(provider)
    place.add_url_rule("/<secret>", "show", page.show)
    place.add_url_rule("/<secret>", "answer", page.answer, methods=["POST"])
    return place


def _page(status: int, template: str, **values: object) -> Response:
    page = render_template(template, **values)
    style = page.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    return html(page, status, policy)
