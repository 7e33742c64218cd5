"""Requests to UCloud/Core over HTTP, with an access token that is kept fresh.

Contract: provider to Core authentication.
"""

import base64
import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import requests
from requests.adapters import HTTPAdapter
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from ucloud_slurm.errors import one_line
from ucloud_slurm.ucloud.errors import CoreRefusedError, CoreUnavailableError

RENEW_BEFORE = 180  # seconds of life left at which the access token is renewed
CONNECT_TIMEOUT = 3.0  # seconds

STALE = ("forbidden", "bad token supplied")  # of a 403
LARGEST_ANSWER = 64 * 1024 * 1024  # bytes


class TokenCache(Protocol):
    """Keeps the access token between passes, so that a pass does not begin with a refresh."""

    def load(self) -> str | None:
        """The token that was kept last."""

    def keep(self, token: str) -> None:
        """Keeps this one instead."""


class TokenInMemory:
    """A token cache that lives as long as the process."""

    def __init__(self) -> None:
        self._token: str | None = None

    def load(self) -> str | None:
        """See :class:`TokenCache`."""
        return self._token

    def keep(self, token: str) -> None:
        """See :class:`TokenCache`."""
        self._token = token


class Client:
    """Sends requests. Safe for several threads.

    Every call takes at most ``timeout`` seconds a try. Calls of the worker are tried ``tries`` times while
    UCloud is away; what stays undone is tried again at a later pass.

    :raises CoreUnavailableError: from every call that could not be answered
    :raises CoreRefusedError: from every call that was answered with a 4xx
    """

    def __init__(
        self,
        url: str,
        refresh_token: str,
        *,
        now: Callable[[], float],
        timeout: float = 10.0,
        tokens: TokenCache | None = None,
        tries: int = 3,
        ca_file: Path | None = None,
    ) -> None:
        self._url = url
        self._refresh_token = refresh_token
        self._now = now
        self._timeout = timeout
        self._tokens = tokens or TokenInMemory()
        self._tries = tries
        self._lock = threading.Lock()
        self._http = requests.Session()
        self._http.mount(url, HTTPAdapter(pool_connections=1, pool_maxsize=8))
        # No proxies, netrc or certificates from the environment: the configuration says everything.
        self._http.trust_env = False
        if ca_file is not None:
            self._http.verify = str(ca_file)

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def check(self) -> None:
        """Finds out whether UCloud answers and knows our refresh token."""
        self._renew(self._timeout)

    def access_token(self) -> str:
        """An access token that is good for some minutes, for what is not a call; the cache of tokens keeps it."""
        return self._access_token(self._timeout)

    def call(
        self,
        verb: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        timeout: float | None = None,
    ) -> Any:
        """Makes a call; gives the JSON of its answer.

        :param timeout: seconds, for one try only
        """
        # A caller that brings its own limit gets one try.
        tries = self._tries if timeout is None else 1
        for attempt in Retrying(
            retry=retry_if_exception_type(CoreUnavailableError),
            stop=stop_after_attempt(tries),
            wait=wait_random_exponential(multiplier=0.2, max=2),
            reraise=True,
        ):
            with attempt:
                return self._authorised(verb, path, query, body, timeout or self._timeout)
        raise AssertionError("unreachable")

    def _authorised(self, verb: str, path: str, query: Mapping[str, str] | None, body: object, timeout: float) -> Any:
        token = self._access_token(timeout)
        try:
            return self._send(verb, path, query, body, token, timeout)
        except CoreRefusedError as error:
            if not _is_about_the_token(error):
                raise
        token = self._renew(timeout, stale=token)
        try:
            return self._send(verb, path, query, body, token, timeout)
        except CoreRefusedError as error:
            # Today's UCloud says the same 403 to some requests that it does not want from anybody.
            if error.status != 401:
                raise
            raise CoreUnavailableError(
                "UCloud does not accept a fresh access token; is the refresh token right?"
            ) from None

    def _send(
        self, verb: str, path: str, query: Mapping[str, str] | None, body: object, token: str | None, timeout: float
    ) -> Any:
        headers = {"Content-Type": "application/json; charset=utf-8", "Accept": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        try:
            response = self._http.request(
                verb,
                self._url + path,
                params=query,
                data=None if body is None else json.dumps(body, separators=(",", ":")).encode(),
                headers=headers,
                timeout=(min(CONNECT_TIMEOUT, timeout), timeout),
                allow_redirects=False,
                stream=True,
            )
            with response:
                content = _body(response, time.monotonic() + timeout)
        except (requests.RequestException, OSError, ValueError) as error:
            raise CoreUnavailableError(f"UCloud cannot be reached ({type(error).__name__})") from None
        except Exception as error:  # urllib3's own errors while the body is read
            if type(error).__module__.startswith("urllib3"):
                raise CoreUnavailableError(f"UCloud's answer broke off ({type(error).__name__})") from None
            raise
        return _answer(response.status_code, content)

    def _access_token(self, timeout: float) -> str:
        token = self._tokens.load()
        if token is not None and _expiry(token) - self._now() > RENEW_BEFORE:
            return token
        return self._renew(timeout, stale=token)

    def _renew(self, timeout: float, stale: str | None = None) -> str:
        if not self._lock.acquire(timeout=timeout):
            raise CoreUnavailableError("UCloud gives no access token")
        try:
            kept = self._tokens.load()
            if stale is not None and kept is not None and kept != stale:
                return kept  # another thread was here first
            body = {"items": [{"refreshToken": self._refresh_token}]}
            try:
                data = self._send("POST", "/auth/providers/refresh", None, body, None, timeout)
            except CoreRefusedError as error:
                raise CoreUnavailableError(
                    f"UCloud refused our refresh token ({error.status}); put the right one into "
                    "ucloud.refresh_token_file"
                ) from None
            try:
                token = data["responses"][0]["accessToken"]
            except (KeyError, IndexError, TypeError):
                token = None
            if not isinstance(token, str) or not token:
                raise CoreUnavailableError("UCloud gave no access token")
            self._tokens.keep(token)
            return token
        finally:
            self._lock.release()


def _is_about_the_token(error: CoreRefusedError) -> bool:
    """Whether UCloud does not take our access token: today's says 403 to one that has ended."""
    return error.status == 401 or (error.status == 403 and error.why.lower() in STALE)


def _body(response: requests.Response, deadline: float) -> bytes:
    """The body, however slowly it comes, until the deadline (monotonic seconds)."""
    content = b""
    while len(content) <= LARGEST_ANSWER:
        some = response.raw.read1(65536, decode_content=True)
        if not some:
            return content
        content += some
        if time.monotonic() > deadline:
            raise CoreUnavailableError("UCloud's answer takes too long")
    return content


def _answer(status: int, content: bytes) -> Any:
    if status >= 500 or status in (408, 429) or 300 <= status < 400:
        raise CoreUnavailableError(f"UCloud answered {status}")
    if len(content) > LARGEST_ANSWER:
        raise CoreUnavailableError("UCloud's answer is too large")
    try:
        data = json.loads(content) if content.strip() else {}
    except ValueError:
        if 200 <= status < 300:
            raise CoreUnavailableError("UCloud's answer is not JSON; is ucloud.url right?") from None
        data = {}
    if 200 <= status < 300:
        return data
    why = data.get("why") if isinstance(data, dict) else None
    raise CoreRefusedError(status, one_line(str(why or "no reason given")), explained=isinstance(why, str))


def _expiry(token: str) -> float:
    """When our own token ends. It is UCloud that checks it; here only its age matters."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return float(claims["exp"])
    except (ValueError, KeyError, IndexError, TypeError):
        return 0.0
