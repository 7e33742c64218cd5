"""How Core calls the provider (contract: provider side; acting-user header; unknown user handshake)."""

import base64
import json
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import EllipsisType
from typing import Any, NoReturn

import requests

from tests.sandbox.core.era import CoreEra
from tests.sandbox.core.errors import CoreError, ProviderAwayError
from tests.sandbox.core.exchanges import Exchanges
from tests.sandbox.core.faults import Faults
from tests.sandbox.core.routes import outgoing
from tests.sandbox.core.tokens import Tokens

Json = dict[str, Any]
ASK_AGAIN = frozenset({449, 503})


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back. ``data`` is None when the body is no JSON."""

    status: int
    data: Any
    is_json: bool

    @property
    def ok(self) -> bool:
        """Any 2xx is a success."""
        return 200 <= self.status < 300


class ProviderCalls:
    """Core's client of one provider. Safe for several threads; nothing is locked while it waits.

    :ivar provider: the provider's id
    :ivar url: its base address
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
        self.provider = provider
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

    def connect(self, provider_url: str) -> None:
        """Say where the provider is, such as ``http://127.0.0.1:8080``."""
        self.url = provider_url.rstrip("/")

    def about_jobs(self, name: str) -> str:
        """The full name of a call.

        :param name: such as ``create``
        """
        return f"jobs.provider.{self.provider}.{name}"

    def bulk(self, name: str, items: list[Json], user: str, *, says_something: bool = False) -> list[Json | None]:
        """A call with a BulkResponse, made for a user.

        A list that is too short leaves None for the rest, as at Core; it is a protocol error all the same.

        :param name: such as ``create``
        :param says_something: whether a response has a meaning, so that each must be there
        :raises CoreError: with the provider's status and sentence, or 500 after five times 449 or 503
        """
        call = self.about_jobs(name)
        responses = self.for_user(call, {"items": items}, user)
        found = self.responses(call, responses)
        if not all(entry is None or isinstance(entry, dict) for entry in found):
            self._no_bulk(call)
        if len(found) != len(items) and (says_something or not self._era.needs_answers):
            self._complain(f"{call}: {len(found)} responses came for {len(items)} items")
        return [*found, *[None] * len(items)][: len(items)]

    def for_user(self, call: str, body: Json | None, user: str, *, unit: bool = False) -> Any:
        """A call made for a user: 449 and 503 are met with integration.init and another try.

        :param unit: whether the answer has no meaning; Core does not look at it then
        :raises CoreError: see :meth:`bulk`
        """
        reply = self._named(call, body, user)
        for _ in range(self._era.repeats):
            if reply.status not in ASK_AGAIN:
                break
            self.introduce(user)
            reply = self._named(call, body, user)
        if reply.status in ASK_AGAIN and self._era.needs_init:
            raise CoreError(500, "Internal Server Error")
        return self._result(call, reply, unit=unit)

    def responses(self, call: str, data: Any) -> list[Any]:
        """The list in a BulkResponse. Where answers are read by type, an empty one need not be there.

        :raises CoreError: 502 when there is none
        """
        found = data.get("responses") if isinstance(data, dict) else None
        if found is None and self._era.needs_answers:
            found = []
        return found if isinstance(found, list) else self._no_bulk(call)

    def _no_bulk(self, call: str) -> NoReturn:
        self._complain(f"{call}: the answer is no BulkResponse")
        raise CoreError(502, "Invalid response from provider")

    def introduce(self, user: str) -> None:
        """Tell the provider about a user whom it does not know, and give it a moment.

        :raises CoreError: what the provider answered, in an era that needs a success
        """
        try:
            self.plain(f"{self.provider}.im.init", {"username": user}, unit=True)
        except CoreError:
            if self._era.needs_init:
                raise
        self._stopping.wait(self._retry_wait)

    def plain(self, call: str, body: Json | None = None, *, query: Mapping[str, str] | None = None, unit: bool = False) -> Any:
        """A call that Core makes for itself.

        :param query: of a GET
        :param unit: see :meth:`for_user`
        :raises CoreError: with the provider's status and sentence; 404 for a call that the era does not make
        """
        return self._result(call, self._named(call, body, None, query), unit=unit)

    def call(
        self,
        method: str,
        path: str,
        body: Json | str | bytes | None = None,
        user: str | None = None,
        token: str | EllipsisType | None = ...,
        within: float | None = None,
    ) -> tuple[int, Any]:
        """Send anything to the provider.

        :param path: from the root, such as ``/ucloud/example/jobs/verify``
        :param body: JSON, or text or bytes as they are
        :param user: acting user
        :param token: bearer token; a right one unless given, and no header with None
        :param within: seconds for the answer, if not those that Core gives a provider
        :return: status, and the JSON of the answer or None
        :raises ProviderAwayError: when there is no answer
        """
        name = self._names.get((method, path.rstrip("/")), f"{method} {path}")
        bearer = self._tokens.core_token() if isinstance(token, EllipsisType) else token
        reply = self._send(name, method, path, body, user=user, token=bearer, within=within)
        return reply.status, reply.data

    def stop(self) -> None:
        """Wait no more between tries."""
        self._stopping.set()

    def resume(self) -> None:
        """Wait again."""
        self._stopping.clear()

    def _named(self, call: str, body: Json | None, user: str | None, query: Mapping[str, str] | None = None) -> Reply:
        verb, path = self._routes[call]
        if path.removeprefix(f"/ucloud/{self.provider}/") in self._era.not_made:
            raise CoreError(404, "Not found")
        return self._send(call, verb, path, body, user=user, token=self._tokens.core_token(), query=query)

    def _result(self, call: str, reply: Reply, *, unit: bool) -> Any:
        if reply.ok:
            if not reply.is_json and (self._era.needs_answers or not unit):
                self._complain(f"{call}: the answer {reply.status} has no JSON")
                raise CoreError(502, "Invalid response from provider")
            if self._era.needs_answers and not isinstance(reply.data, dict | None):
                self._complain(f"{call}: the answer is not a JSON object")
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
        within: float | None = None,
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
                    data=json.dumps(body) if isinstance(body, dict) else body,
                    headers=headers,
                    timeout=within or self._timeout,
                    allow_redirects=False,
                )
        except requests.RequestException as error:
            self._exchanges.end(exchange, 0, None, delivered=False)
            raise ProviderAwayError(f"The provider could not be reached ({type(error).__name__})") from error
        reply = _reply(answer)
        lost = self._faults.take_drop(call)
        self._exchanges.end(exchange, reply.status, reply.data, delivered=not lost)
        if lost:
            raise ProviderAwayError("The connection to the provider was lost")
        return reply

    def _headers(self, user: str | None, token: str | None) -> Mapping[str, str | bytes]:
        headers: dict[str, str | bytes] = {}
        if self._era.says_content:
            headers |= {"Content-Type": "application/json; charset=utf-8", "Job-Id": str(uuid.uuid4())}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        if user is not None:
            headers["UCloud-Username"] = encoded_username(user, self._era)
        return headers


def encoded_username(user: str, era: CoreEra) -> bytes:
    """The value of the header ``UCloud-Username``."""
    encoded = user.encode()
    return base64.b64encode(encoded) if era.username_header == "base64" else encoded


def _reply(answer: requests.Response) -> Reply:
    try:
        return Reply(answer.status_code, answer.json(), is_json=True)
    except requests.JSONDecodeError:
        return Reply(answer.status_code, None, is_json=False)
