"""Requests to UCloud/Core over HTTP, with an access token that is renewed before it expires.

Contract: provider to Core authentication.
"""

import base64
import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import requests
from requests.adapters import HTTPAdapter
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential
from urllib3.util import Timeout

from ucloud_slurm.errors import CorePausedError, CoreRefusedError, CoreUnavailableError, Misconfigured, StorageError
from ucloud_slurm.ucloud import answers
from ucloud_slurm.ucloud.gate import Call, Request, admit
from ucloud_slurm.ucloud.pauses import ACCESS, Memory, OwnMemory, Pauses, is_unavailable

RENEW_BEFORE_SECONDS = 180  # before the access token expires
CONNECT_TIMEOUT_SECONDS = 3.0
PATIENCE_SECONDS = 5.0  # that a pass waits for the end of a pause, to attempt a call again
BACKOFF = wait_random_exponential(multiplier=0.2, max=2)

STALE_TOKEN = ("forbidden", "bad token supplied")  # reasons of a 403

T = TypeVar("T")


class Outcome(NamedTuple):
    """How the calls of a client have gone.

    :ivar answered: whether the last one was answered with what was asked for
    :ivar failure: of the last one that was not answered; None: all were
    """

    answered: bool = False
    failure: CoreUnavailableError | None = None

    @property
    def asked(self) -> bool:
        """Whether there was a call with an outcome."""
        return self.answered or self.failure is not None


class Client:
    """Sends requests. Safe for several threads.

    An attempt takes at most ``timeout`` seconds, with the renewal of the access token that it may need. While UCloud is
    unavailable a call is attempted ``tries`` times, with exponential backoff and jitter; the worker retries in a later
    pass what still failed. In a pause that UCloud has asked for nothing is sent (:mod:`.pauses`); only the end of a short
    one is waited for.

    :raises CoreUnavailableError: from every call that was not answered
    :raises CoreRefusedError: from every call that was answered with a 4xx
    """

    def __init__(
        self,
        url: str,
        refresh_token: Callable[[], str],
        *,
        now: Callable[[], float],
        timeout: float = 10.0,
        memory: Memory | None = None,
        tries: int = 3,
        ca_file: Path | None = None,
        proxy: str | None = None,
        where: str = "ucloud.refresh_token_file",
    ) -> None:
        """Does not connect yet.

        :param refresh_token: reads the refresh token, which may have changed
        :param memory: what other processes know too
        :param proxy: URL of the proxy of all requests, with its credentials
        :param where: where the refresh token is, as an administrator finds it
        """
        self._url = url
        self._refresh_token = refresh_token
        self._where = where
        self._now = now
        self._timeout = timeout
        self._memory = memory or OwnMemory()
        self._pauses = Pauses(self._memory, now)
        self._outcome = Outcome()
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

    def outcome(self) -> Outcome:
        """How the calls since the last question have gone."""
        outcome, self._outcome = self._outcome, Outcome()
        return outcome

    def check(self) -> None:
        """Checks that UCloud answers and accepts the refresh token."""
        self._observed(lambda: self._renew(self._until(self._timeout)))
        self._pauses.accept()

    def ready(self) -> None:
        """Checks that a call would be sent: there is no pause, and an access token."""
        self._observed(self._pauses.check)
        self.access_token()

    def access_token(self) -> str:
        """An access token that is valid for some minutes, for connections that this client does not make."""
        return self._observed(lambda: self._access_token(self._until(self._timeout)))

    def call(self, request: Request, *, timeout: float | None = None) -> Any:
        """Makes a call and returns the JSON of the answer.

        :param request: as the gate has admitted it
        :param timeout: seconds; with it the call is attempted once
        """
        attempts = Retrying(
            retry=retry_if_exception(_is_worth_another_attempt),
            stop=stop_after_attempt(self._tries if timeout is None else 1),
            wait=_pause,
            reraise=True,
        )
        within = self._timeout if timeout is None else timeout
        return self._observed(lambda: attempts(lambda: self._authorised(request, self._until(within))))

    def _observed(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except CoreUnavailableError as error:
            self._outcome = Outcome(failure=error)
            raise

    @staticmethod
    def _until(within: float) -> float:
        """The end of all steps of an attempt, in monotonic seconds."""
        return time.monotonic() + within

    def _authorised(self, request: Request, until: float) -> Any:
        token = self._access_token(until)
        try:
            return self._accepted(self._send(request, token, until))
        except CoreRefusedError as error:
            if not _is_about_the_token(error):
                raise
        token = self._renew(until, stale=token)
        try:
            return self._accepted(self._send(request, token, until))
        except CoreRefusedError as error:
            # Today's UCloud answers some invalid requests with the same 403.
            if error.status != 401:
                raise
            why = f"UCloud does not accept a fresh access token; is the refresh token in {self._where} right?"
            self._pauses.refuse(self._read_refresh_token(), why)

    def _accepted(self, answer: Any) -> Any:
        self._pauses.accept()
        return answer

    def _send(self, request: Request, token: str | None, until: float) -> Any:
        self._pauses.check()
        left = until - time.monotonic()
        if left <= 0:
            raise CoreUnavailableError("UCloud did not answer in time")
        limit: Any = Timeout(total=left, connect=min(CONNECT_TIMEOUT_SECONDS, left))  # requests.adapters passes it on
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
                timeout=limit,
                allow_redirects=False,
                stream=True,
            )
            with response:
                content = answers.body(response, until)
        except (requests.RequestException, OSError, ValueError) as error:
            raise CoreUnavailableError(f"UCloud cannot be reached at {self._url} ({answers.reason(error)})") from None
        except Exception as error:  # urllib3's own errors while the body is read
            if type(error).__module__.startswith("urllib3"):
                raise CoreUnavailableError(f"UCloud's answer broke off ({type(error).__name__})") from None
            raise
        if is_unavailable(response.status_code):
            self._pauses.ask(response.headers.get("Retry-After"), f"UCloud answered {response.status_code}")
        answer = answers.read(response.status_code, content)
        self._outcome = self._outcome._replace(answered=True)
        return answer

    def _access_token(self, until: float) -> str:
        token = self._memory.load(ACCESS)
        if token is not None and _expiry(token) - self._now() > RENEW_BEFORE_SECONDS:
            return token
        return self._renew(until, stale=token)

    def _renew(self, until: float, stale: str | None = None) -> str:
        if not self._lock.acquire(timeout=max(until - time.monotonic(), 0.0)):
            raise CoreUnavailableError("UCloud gives no access token")
        try:
            kept = self._memory.load(ACCESS)
            if stale is not None and kept is not None and kept != stale:
                return kept  # another thread has renewed it
            refresh_token = self._read_refresh_token()
            self._pauses.check_token(refresh_token)
            try:
                data = self._send(admit(Call.REFRESH, body={"items": [{"refreshToken": refresh_token}]}), None, until)
            except CoreRefusedError as error:
                # Without the form of UCloud's errors it may be the answer of a proxy.
                if error.explained or error.status in (401, 403):
                    why = f"UCloud refused the refresh token ({error.status}); put the right one into {self._where}"
                    self._pauses.refuse(refresh_token, why)
                raise CoreUnavailableError(f"UCloud answered {error.status}") from None
            try:
                token = data["responses"][0]["accessToken"]
            except (KeyError, IndexError, TypeError):
                token = None
            if not isinstance(token, str) or not token:
                raise CoreUnavailableError("UCloud gave no access token")
            with suppress(StorageError):  # it is as good for this call; the next one asks for another
                self._memory.keep(ACCESS, token)
            return token
        finally:
            self._lock.release()

    def _read_refresh_token(self) -> str:
        try:
            return self._refresh_token()
        except Misconfigured as error:
            raise CoreUnavailableError(error.sentences[0]) from None


def _is_worth_another_attempt(error: BaseException) -> bool:
    if isinstance(error, CorePausedError):
        return error.seconds <= PATIENCE_SECONDS
    return isinstance(error, CoreUnavailableError)


def _pause(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome is not None else None
    return max(BACKOFF(state), error.seconds if isinstance(error, CorePausedError) else 0.0)


def _is_about_the_token(error: CoreRefusedError) -> bool:
    """Whether UCloud refused the access token. Today's UCloud answers 403 to one that has expired."""
    return error.status == 401 or (error.status == 403 and error.why.lower() in STALE_TOKEN)


def _expiry(token: str) -> float:
    """When the access token expires, in seconds since the epoch. Its signature is UCloud's matter."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return float(claims["exp"])
    except (ValueError, KeyError, IndexError, TypeError, OverflowError, RecursionError):
        return 0.0
