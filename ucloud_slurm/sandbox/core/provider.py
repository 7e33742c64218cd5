"""How Core calls the provider (contract: provider side; acting-user header; unknown user handshake)."""

import base64
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import requests

from ucloud_slurm.sandbox.core.era import CoreEra
from ucloud_slurm.sandbox.core.errors import CoreError, ProviderAwayError
from ucloud_slurm.sandbox.core.exchanges import Exchanges
from ucloud_slurm.sandbox.core.faults import Faults
from ucloud_slurm.sandbox.core.routes import outgoing
from ucloud_slurm.sandbox.core.tokens import Tokens

Json = dict[str, Any]
ATTEMPTS = 5
"""How often a user's request is sent in all while the provider says 449 or 503."""
ASK_AGAIN = frozenset({449, 503})


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back. ``data`` is None when the body is no JSON."""

    status: int
    data: Any

    @property
    def ok(self) -> bool:
        """Any 2xx is a success."""
        return 200 <= self.status < 300


class ProviderCalls:
    """Core's client of one provider. Safe for several threads; nothing is locked while it waits.

    :ivar url: base address of the provider
    """

    def __init__(
        self,
        provider: str,
        era: CoreEra,
        tokens: Tokens,
        *,
        exchanges: Exchanges,
        faults: Faults,
        complain: Callable[[str], None],
        timeout: float,
        retry_wait: float,
    ) -> None:
        self.url: str | None = None
        self._provider = provider
        self._routes = outgoing(provider)
        self._names = {route: name for name, route in self._routes.items()}
        self._era = era
        self._tokens = tokens
        self._exchanges = exchanges
        self._faults = faults
        self._complain = complain
        self._timeout = timeout
        self._retry_wait = retry_wait
        self._stopping = threading.Event()

    def bulk(self, name: str, items: list[Json], user: str) -> list[Json | None]:
        """A call with a BulkResponse, made for a user.

        A list that is too short leaves None for the rest, as at Core; it is a protocol error all the same.

        :param name: such as ``create``
        :raises CoreError: with the provider's status and sentence, or 500 after five times 449 or 503
        """
        call = f"jobs.provider.{self._provider}.{name}"
        responses = self.for_user(call, {"items": items}, user)
        found = responses.get("responses") if isinstance(responses, dict) else None
        if not isinstance(found, list) or not all(entry is None or isinstance(entry, dict) for entry in found):
            self._complain(f"{call}: the answer is no BulkResponse")
            raise CoreError(502, "Invalid response from provider")
        if len(found) != len(items):
            self._complain(f"{call}: {len(found)} responses came for {len(items)} items")
        return [*found, *[None] * len(items)][: len(items)]

    def for_user(self, call: str, body: Json | None, user: str, *, unit: bool = False) -> Any:
        """A call made for a user: 449 and 503 are met with integration.init and another try.

        :param unit: whether the answer has no meaning; Core does not look at it then
        :raises CoreError: see :meth:`bulk`
        """
        for attempt in range(ATTEMPTS):
            if attempt:
                self.introduce(user)
            reply = self._named(call, body, user)
            if reply.status not in ASK_AGAIN:
                return self._result(call, reply, unit=unit)
        raise CoreError(500, "Internal Server Error")

    def introduce(self, user: str) -> None:
        """Tell the provider about a user whom it does not know, and give it a moment.

        :raises CoreError: what the provider answered
        """
        self.plain(f"{self._provider}.im.init", {"username": user}, unit=True)
        self._stopping.wait(self._retry_wait)

    def plain(
        self, call: str, body: Json | None = None, *, query: Mapping[str, str] | None = None, unit: bool = False
    ) -> Any:
        """A call that Core makes for itself.

        :param query: of a GET
        :param unit: see :meth:`for_user`
        :raises CoreError: with the provider's status and sentence
        """
        return self._result(call, self._named(call, body, None, query), unit=unit)

    def raw(
        self, method: str, path: str, body: Json | str | bytes | None, user: str | None, token: str | None
    ) -> Reply:
        """Send anything.

        :raises ProviderAwayError: when there is no answer
        """
        call = self._names.get((method, path.rstrip("/")), f"{method} {path}")
        return self._send(call, method, path, body, user=user, token=token)

    def stop(self) -> None:
        """Wait no more between tries."""
        self._stopping.set()

    def resume(self) -> None:
        """Wait again."""
        self._stopping.clear()

    def _named(self, call: str, body: Json | None, user: str | None, query: Mapping[str, str] | None = None) -> Reply:
        verb, path = self._routes[call]
        return self._send(call, verb, path, body, user=user, token=self._tokens.core_token(), query=query)

    def _result(self, call: str, reply: Reply, *, unit: bool) -> Any:
        if reply.ok:
            if reply.data is None and not unit:
                self._complain(f"{call}: the answer {reply.status} has no JSON")
                raise CoreError(502, "Invalid response from provider")
            return reply.data
        data = reply.data if isinstance(reply.data, dict) else {}
        why, code = data.get("why"), data.get("errorCode")
        raise CoreError(
            reply.status,
            why if isinstance(why, str) else f"The provider answered {reply.status}",
            code if isinstance(code, str) else None,
        )

    def _send(
        self,
        call: str,
        verb: str,
        path: str,
        body: Json | str | bytes | None,
        *,
        user: str | None,
        token: str | None,
        query: Mapping[str, str] | None = None,
    ) -> Reply:
        if self.url is None:
            raise ProviderAwayError("No provider is connected")
        headers = self._headers(user, token)
        said = body if isinstance(body, dict) else query or {}
        exchange = self._exchanges.begin("core->provider", call, said, user)
        try:
            with requests.Session() as http:
                http.trust_env = False
                answer = http.request(
                    verb,
                    self.url + path,
                    params=query,
                    json=body if isinstance(body, dict) else None,
                    data=None if isinstance(body, dict) else body,
                    headers=headers,
                    timeout=self._timeout,
                    allow_redirects=False,
                )
        except requests.RequestException as error:
            self._exchanges.end(exchange, 0, None, delivered=False)
            raise ProviderAwayError(f"The provider could not be reached ({type(error).__name__})") from error
        reply = Reply(answer.status_code, _json(answer))
        lost = self._faults.take_drop(call)
        self._exchanges.end(exchange, reply.status, reply.data, delivered=not lost)
        if lost:
            raise ProviderAwayError("The connection to the provider was lost")
        return reply

    def _headers(self, user: str | None, token: str | None) -> Mapping[str, str | bytes]:
        headers: dict[str, str | bytes] = {
            "Content-Type": "application/json; charset=utf-8",
            "Job-Id": str(uuid.uuid4()),
        }
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        if user is not None:
            headers["UCloud-Username"] = encoded_username(user, self._era)
        return headers


def encoded_username(user: str, era: CoreEra) -> bytes:
    """The value of the header ``UCloud-Username``."""
    encoded = user.encode()
    return base64.b64encode(encoded) if era.username_header == "base64" else encoded


def _json(answer: requests.Response) -> Any:
    try:
        return answer.json()
    except requests.JSONDecodeError:
        return None
