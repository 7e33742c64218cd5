"""Requests to UCloud/Core over HTTP, with an access token that is renewed before it expires.

Contract: provider to Core authentication.
"""

import base64
import json
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import requests
from requests.adapters import HTTPAdapter
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from ucloud_slurm.errors import CoreRefusedError, CoreUnavailableError, one_line
from ucloud_slurm.ucloud.gate import Call, Request, admit

RENEW_BEFORE_SECONDS = 180  # before the access token expires
CONNECT_TIMEOUT_SECONDS = 3.0
MAX_ANSWER_BYTES = 64 * 1024 * 1024

PROXY_REFUSES = "ucloud.proxy answered {}; does it need ucloud.proxy_credentials_file?"
STALE_TOKEN = ("forbidden", "bad token supplied")  # reasons of a 403


class TokenCache(Protocol):
    """Keeps the access token between passes of the worker, so that a pass does not begin with a refresh."""

    def load(self) -> str | None:
        """The token, if one is kept."""

    def keep(self, token: str) -> None:
        """Replaces the token."""


class TokenInMemory:
    """A token cache in the memory of this process."""

    def __init__(self) -> None:
        self._token: str | None = None

    def load(self) -> str | None:
        return self._token

    def keep(self, token: str) -> None:
        self._token = token


class Client:
    """Sends requests. Safe for several threads.

    An attempt takes at most ``timeout`` seconds. While UCloud is unavailable a call is attempted ``tries`` times, with
    exponential backoff and jitter; the worker retries in a later pass what still failed.

    :raises CoreUnavailableError: from every call that was not answered
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
        proxy: str | None = None,
    ) -> None:
        """Does not connect yet.

        :param proxy: URL of the proxy of all requests, with its credentials
        """
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
        if proxy is not None:
            self._http.proxies = {"http": proxy, "https": proxy}

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def check(self) -> None:
        """Checks that UCloud answers and accepts the refresh token."""
        self._renew(self._timeout)

    def access_token(self) -> str:
        """An access token that is valid for some minutes, for connections that this client does not make."""
        return self._access_token(self._timeout)

    def call(self, request: Request, *, timeout: float | None = None) -> Any:
        """Makes a call and returns the JSON of the answer.

        :param request: as the gate has admitted it
        :param timeout: seconds; with it the call is attempted once
        """
        tries = self._tries if timeout is None else 1
        for attempt in Retrying(
            retry=retry_if_exception_type(CoreUnavailableError),
            stop=stop_after_attempt(tries),
            wait=wait_random_exponential(multiplier=0.2, max=2),
            reraise=True,
        ):
            with attempt:
                return self._authorised(request, timeout or self._timeout)
        raise AssertionError("unreachable")

    def _authorised(self, request: Request, timeout: float) -> Any:
        token = self._access_token(timeout)
        try:
            return self._send(request, token, timeout)
        except CoreRefusedError as error:
            if not _is_about_the_token(error):
                raise
        token = self._renew(timeout, stale=token)
        try:
            return self._send(request, token, timeout)
        except CoreRefusedError as error:
            # Today's UCloud answers some invalid requests with the same 403.
            if error.status != 401:
                raise
            raise CoreUnavailableError("UCloud does not accept a fresh access token; is the refresh token right?") from None

    def _send(self, request: Request, token: str | None, timeout: float) -> Any:
        headers = {"Content-Type": "application/json; charset=utf-8", "Accept": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        try:
            response = self._http.request(
                request.verb,
                self._url + request.path,
                params=request.query,
                data=request.content,
                headers=headers,
                timeout=(min(CONNECT_TIMEOUT_SECONDS, timeout), timeout),
                allow_redirects=False,
                stream=True,
            )
            with response:
                content = _body(response, time.monotonic() + timeout)
        except (requests.RequestException, OSError, ValueError) as error:
            raise CoreUnavailableError(f"UCloud cannot be reached ({_reason(error)})") from None
        except Exception as error:  # urllib3's own errors while the body is read
            if type(error).__module__.startswith("urllib3"):
                raise CoreUnavailableError(f"UCloud's answer broke off ({type(error).__name__})") from None
            raise
        return _answer(response.status_code, content)

    def _access_token(self, timeout: float) -> str:
        token = self._tokens.load()
        if token is not None and _expiry(token) - self._now() > RENEW_BEFORE_SECONDS:
            return token
        return self._renew(timeout, stale=token)

    def _renew(self, timeout: float, stale: str | None = None) -> str:
        if not self._lock.acquire(timeout=timeout):
            raise CoreUnavailableError("UCloud gives no access token")
        try:
            kept = self._tokens.load()
            if stale is not None and kept is not None and kept != stale:
                return kept  # another thread has renewed it
            body = {"items": [{"refreshToken": self._refresh_token}]}
            try:
                data = self._send(admit(Call.REFRESH, body=body), None, timeout)
            except CoreRefusedError as error:
                raise CoreUnavailableError(
                    f"UCloud refused the refresh token ({error.status}); put the right one into ucloud.refresh_token_file"
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


def _reason(error: Exception) -> str:
    """Why there was no answer, in words without a secret: the text of an error may contain the proxy's credentials."""
    if not isinstance(error, requests.exceptions.ProxyError):
        return type(error).__name__
    status = re.search(r"Tunnel connection failed: ([0-9]{3})", str(error))
    return PROXY_REFUSES.format(status[1]) if status else "ucloud.proxy does not answer"


def _is_about_the_token(error: CoreRefusedError) -> bool:
    """Whether UCloud refused the access token. Today's UCloud answers 403 to one that has expired."""
    return error.status == 401 or (error.status == 403 and error.why.lower() in STALE_TOKEN)


def _body(response: requests.Response, deadline: float) -> bytes:
    """The body, read until the deadline (monotonic seconds)."""
    content = b""
    while len(content) <= MAX_ANSWER_BYTES:
        some = response.raw.read1(65536, decode_content=True)
        if not some:
            return content
        content += some
        if time.monotonic() > deadline:
            raise CoreUnavailableError("UCloud's answer takes too long")
    return content


def _answer(status: int, content: bytes) -> Any:
    if status == 407:
        raise CoreUnavailableError(PROXY_REFUSES.format(status))
    if status >= 500 or status in (408, 429) or 300 <= status < 400:
        raise CoreUnavailableError(f"UCloud answered {status}")
    if len(content) > MAX_ANSWER_BYTES:
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
    """When the access token expires, in seconds since the epoch. Its signature is UCloud's matter."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return float(claims["exp"])
    except (ValueError, KeyError, IndexError, TypeError):
        return 0.0
