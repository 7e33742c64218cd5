"""Who may see the page on a port of this host, to which every local user can connect: the browser that opens the link first.

The link has a token, which the first browser that brings it exchanges for a cookie. Nothing else opens the page.
"""

import hmac
import secrets
import threading
from collections.abc import Callable

LINK_SECONDS = 600.0  # in which the link must be opened
TRIES = 10  # wrong tokens, after which the link is void


class Access:
    """The link and the cookie of one page. Safe for several threads.

    :ivar cookie_name: of this port's: the ports of a host share their cookies (RFC 6265, 8.5)
    """

    def __init__(self, now: Callable[[], float], port: int) -> None:
        """Makes a token.

        :param now: the time in seconds, on any clock that does not stop
        """
        self.cookie_name = f"ucloud-slurm-page-{port}"
        self.token = secrets.token_urlsafe(32)
        self._cookie = secrets.token_urlsafe(32)
        self._now = now
        self._until = now() + LINK_SECONDS
        self.used_at = now()  # when somebody who is admitted asked last
        self._tries_left = TRIES
        self._lock = threading.Lock()

    def enter(self, token: str) -> str | None:
        """Exchanges the token of the link for the value of the cookie, once.

        :returns: None where the token is wrong, used or too old, or too many wrong ones came before
        """
        with self._lock:
            if self._tries_left <= 0 or self._now() > self._until:
                return None
            if not equal(token, self.token):
                self._tries_left -= 1
                return None
            self._tries_left = 0
            return self._cookie

    def admits(self, cookie: str) -> bool:
        """Whether a browser has the cookie."""
        if not equal(cookie, self._cookie):
            return False
        self.used_at = self._now()
        return True

    def idle_seconds(self) -> float:
        """How long nobody who is admitted has asked for anything."""
        return self._now() - self.used_at


def is_loopback(host: str, port: int) -> bool:
    """Whether the header Host names this port of the loopback device.

    Another name may be that of a foreign page, which had its own name resolved to this host (DNS rebinding).
    """
    return host in (f"127.0.0.1:{port}", f"localhost:{port}")


def equal(one: str, other: str) -> bool:
    """Whether two texts are the same, in the same time wherever they differ."""
    return hmac.compare_digest(one.encode(errors="replace"), other.encode())
