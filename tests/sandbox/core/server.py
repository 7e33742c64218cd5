"""Core's own HTTP server: where the provider's calls arrive (contract: HTTP conventions, errors)."""

import json
import re
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler
from werkzeug.wrappers import Request, Response

from tests.sandbox.core.call import Call
from tests.sandbox.core.complaints import Complaints
from tests.sandbox.core.era import CoreEra
from tests.sandbox.core.errors import CoreEndsError, CoreError, ProtocolError
from tests.sandbox.core.exchanges import Exchanges
from tests.sandbox.core.faults import CannedAnswer, Faults
from tests.sandbox.core.routes import NOTIFICATIONS, PUBLIC
from tests.sandbox.core.today.notifications import Notifications
from tests.sandbox.core.tokens import Tokens
from tests.sandbox.errors import SandboxError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

Json = dict[str, Any]
SLASHES = re.compile("//+")
SILENCE = 10.0
"""Seconds after which a connection on which nothing comes is closed."""


class HangUp(ConnectionError):
    """Closes the connection without an answer."""


class CoreServer:
    """Answers the provider on a loopback port, one thread to a request."""

    def __init__(
        self,
        era: CoreEra,
        tokens: Tokens,
        routes: Mapping[tuple[str, str], str],
        work: Mapping[str, Callable[[Call], Json]],
        *,
        exchanges: Exchanges,
        faults: Faults,
        complaints: Complaints,
        notifications: Notifications | None,
    ) -> None:
        """Nothing is served yet.

        :param routes: verb and path -> name of a call
        :param work: does the calls
        :param notifications: the channel to providers, in an era that has it
        """
        self._by_type = era.reading == "by type"
        self._tokens = tokens
        self._routes = routes
        self._work = work
        self._exchanges = exchanges
        self._faults = faults
        self._complaints = complaints
        self._complain = complaints.add
        self._notifications = notifications
        self._late: list[Callable[[], object]] = []
        self._stopping = threading.Event()
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def start(self, port: int) -> int:
        """Begin to serve.

        :param port: 0 for any
        :return: the port
        :raises SandboxError: when the port is taken
        """
        if self._server is not None:
            raise SandboxError("The simulated Core runs already.")
        self._stopping.clear()
        try:
            self._server = _Server("127.0.0.1", port, self._answer, _Handler)
        except SystemExit:  # werkzeug's way
            raise SandboxError(f"Port {port} is taken; choose another for the simulated Core.") from None
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.005}, name="simulated-core"
        )
        self._thread.start()
        return self._server.port

    def stop(self) -> None:
        """Refuse connections from now on. Returns when the requests under way are answered."""
        if self._server is None or self._thread is None:
            return
        self._stopping.set()
        self._server.shutdown()
        while self._thread.is_alive():
            # A channel that was being opened is there only now.
            if self._notifications is not None:
                self._notifications.close()
            self._thread.join(0.05)
        self._server.server_close()
        self._server = self._thread = None

    def catch_up(self) -> None:
        """Do what :meth:`Faults.late` has put off."""
        while self._late:
            self._late.pop(0)()

    def _answer(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        request = Request(environ)
        try:
            if self._notifications is not None and request.path == NOTIFICATIONS and "Upgrade" in request.headers:
                refusal = self._channel(self._notifications, request)
                return refusal(environ, start_response)
            response = self._respond(request)
        except HangUp:
            raise
        except BaseException:  # noqa: BLE001  a failure in here must reach the test, not only the provider
            self._complaints.crash(traceback.format_exc())
            response = _json(500, CoreError(500, "Internal Server Error").body(structured=self._by_type))
        return response(environ, start_response)

    def _channel(self, notifications: Notifications, request: Request) -> Response:
        """Serve a WebSocket to its end, and hang up.

        :return: the refusal, when nothing is served
        """
        if self._faults.current_outage() == "close" or self._complaints.ended:
            raise HangUp
        if self._faults.current_outage() is not None:
            return Response(status=503)
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc.lower() != request.host.lower():
            self._complain(f"the notification channel was opened with the Origin {origin}, which is not Core's host")
            return Response(status=403)
        notifications.serve(request.environ)
        raise HangUp

    def _respond(self, request: Request) -> Response:
        body = request.get_data()
        path = SLASHES.sub("/", request.path) if self._by_type else request.path.rstrip("/")
        query = request.args.to_dict()
        name = self._routes.get((request.method, path))
        exchange = self._exchanges.begin(
            "provider->core", name or f"{request.method} {path}", _shown(request.method, body, query)
        )
        outage = self._faults.current_outage()
        if outage == "close" or self._complaints.ended:
            self._exchanges.end(exchange, 0, None, delivered=False)
            raise HangUp
        if outage is not None:
            self._exchanges.end(exchange, 503, None, delivered=True)
            return Response(status=503)
        canned = self._faults.take_canned(exchange.call)
        if canned is not None:
            self._exchanges.end(exchange, canned.status, canned.body, delivered=True)
            return _canned(canned)
        work = partial(self._do, request, name, query, body)
        if self._faults.take_late(exchange.call):
            self._late.append(work)
            self._exchanges.end(exchange, 0, None, delivered=False)
            raise HangUp
        status, answer = work()
        if status == 0:
            self._exchanges.end(exchange, 0, None, delivered=False)
            raise HangUp
        # Work is done with 402 too: the wallet was asked.
        dropped = (status < 400 or status == 402) and self._faults.take_drop(exchange.call)
        self._exchanges.end(exchange, status, answer, delivered=not dropped)
        self._stopping.wait(self._faults.seconds(exchange.call))
        if dropped:
            raise HangUp
        return _json(status, answer)

    def end(self, why: str) -> None:
        """The process of Core ends: it answers nothing any more."""
        self._complaints.end(why)
        if self._notifications is not None:
            self._notifications.close()

    def _do(self, request: Request, name: str | None, query: Mapping[str, str], body: bytes) -> tuple[int, Json]:
        def complain(sentence: str) -> None:
            self._complain(f"{name}: {sentence}")

        try:
            if name is None:
                self._complain(f"{request.method} {request.path}: UCloud has no such call")
                raise CoreError(404, "Not found")
            if name not in PUBLIC:
                self._tokens.check_provider(request.headers.get("Authorization"))
            if self._by_type:
                check_texts(body, query)
            return 200, self._work[name](Call(name, query, body, complain))
        except CoreEndsError as error:
            complain(error.sentences[0])
            self.end(f"{name}: {error.why}")
            return 0, {}
        except ProtocolError as error:
            for sentence in error.sentences:
                complain(sentence)
            return error.status, error.body(structured=self._by_type)
        except CoreError as error:
            return error.status, error.body(structured=self._by_type)


def check_texts(body: bytes, query: Mapping[str, str]) -> None:
    """What no statement of a database can hold ends Core, wherever it is.

    :raises CoreEndsError: there is a NUL in a text
    """
    try:
        data = json.loads(body or b"null")
    except (ValueError, RecursionError):
        data = None
    for place, text in (*_texts(data, ""), *query.items()):
        if "\0" in text:
            raise CoreEndsError(f"a NUL in {place}")


def _texts(data: Any, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(data, str):
        yield place, data
    elif isinstance(data, list):
        for number, item in enumerate(data):
            yield from _texts(item, f"{place}[{number}]")
    elif isinstance(data, dict):
        for key, item in data.items():
            yield f"a key of {place or 'the body'}", key
            yield from _texts(item, f"{place}.{key}" if place else key)


class _Server(ThreadedWSGIServer):
    # So that server_close waits for them.
    daemon_threads = False


class _Handler(WSGIRequestHandler):
    timeout = SILENCE

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002
        """Says nothing: the exchanges are the record."""

    def connection_dropped(self, error: BaseException, environ: "WSGIEnvironment | None" = None) -> None:
        """Ends the connection, which would otherwise be kept for another request."""
        self.close_connection = True


def _shown(method: str, body: bytes, query: Mapping[str, str]) -> Mapping[str, Any]:
    if method == "GET":
        return query
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def _json(status: int, data: Json) -> Response:
    return Response(json.dumps(data), status=status, content_type="application/json; charset=utf-8")


def _canned(answer: CannedAnswer) -> Response:
    if isinstance(answer.body, dict):
        response = _json(answer.status, answer.body)
    else:
        kind = "text/html; charset=utf-8" if answer.body else None
        response = Response(answer.body, status=answer.status, content_type=kind)
    if answer.retry_after is not None:
        response.headers["Retry-After"] = answer.retry_after
    return response
