"""Who may change something on the operator's page: a person with a name, who sends a form of this page from this page."""

import hmac
import json
import secrets
from collections.abc import Mapping

from werkzeug.datastructures import Headers

from ucloud_slurm.errors import Forbidden, one_line
from ucloud_slurm.page.access import equal

LONGEST_NAME = 100  # characters
NOT_OURS = "This form was not sent from this page ({}), and nothing was done. Behind a proxy, it passes the header Host on."
STALE = (
    "This form is too old or of another login, and nothing was done. Open the page of the act again, and send it from there."
)


class Guard:
    """The acts of one page. Safe for several threads."""

    def __init__(self, person: str, header: str | None = None) -> None:
        """Makes a key, with which forms and notices are sealed until the page ends.

        :param person: who has started the page
        :param header: of the requests, in which a proxy says who asks; None: each who is admitted is that person
        """
        self._person = person
        self._header = header
        self._key = secrets.token_bytes(32)

    def who(self, headers: Headers) -> str:
        """The person who asks.

        :raises Forbidden: the proxy does not say it
        """
        if self._header is None:
            return self._person
        name = one_line(headers.get(self._header, ""), LONGEST_NAME)
        if not name or "," in name:  # two headers of that name are joined so
            raise Forbidden(f"The proxy should name one person in the header {self._header}; without that nothing can be done.")
        return name

    def own_origin(self, host: str) -> str:
        """The origin of this page in the browser: that of a proxy is behind TLS.

        :param host: as the header Host says
        """
        return f"{'http' if self._header is None else 'https'}://{host}"

    def token(self, who: str, session: str, form: str) -> str:
        """What one form has, for one session of one person."""
        return self._seal("form", who, session, form)

    def check(self, token: str, who: str, session: str, form: str) -> None:
        """Refuses a form of another page, person or session.

        :param session: the cookie; empty where there is none
        :raises Forbidden: it is one
        """
        if not equal(token, self.token(who, session, form)):
            raise Forbidden(STALE)

    def check_origin(self, headers: Headers, host: str) -> None:
        """Refuses what another page has sent (Fetch: Origin; Fetch Metadata: Sec-Fetch-Site).

        :raises Forbidden: another one has, or the browser does not say which
        """
        origin, site, own = headers.get("Origin"), headers.get("Sec-Fetch-Site"), self.own_origin(host)
        if site not in (None, "same-origin") or (origin != own and not (origin is None and site == "same-origin")):
            raise Forbidden(NOT_OURS.format(f"it is {one_line(own, 100)}"))

    def sealed(self, notice: str) -> dict[str, str]:
        """A sentence as parameters of an address: :meth:`notice` gives it back."""
        return {"done": notice, "seal": self._seal("notice", notice)}

    def notice(self, parameters: Mapping[str, str]) -> str | None:
        """The sentence of an address; None where it has none of ours."""
        notice = parameters.get("done", "")
        return notice if notice and equal(parameters.get("seal", ""), self._seal("notice", notice)) else None

    def _seal(self, *parts: str) -> str:
        return hmac.digest(self._key, json.dumps(parts).encode(), "sha256").hex()
