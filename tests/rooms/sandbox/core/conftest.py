"""A small provider for the simulated Core to talk to, and a client that talks to Core as a provider does."""

import json
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from tests.conftest import Clock
from tests.rooms.sandbox.core.peer import Peer, accept
from tests.sandbox.core import CORE_2021, CoreEra, Followed, SimulatedCore
from tests.support.keys import next_key

Json = dict[str, Any]
SLEEPER: Json = {"application": ("sleeper", "1.0.0"), "product": "example-compute-1"}
PRICE = 1_000_000
UPDATE = "jobs.control.update"
CHARGE = "jobs.control.chargeCredits"
FOLLOW = "jobs.provider.example.follow"
UPDATES = "/api/jobs/control/update"
CHARGES = "/api/jobs/control/chargeCredits"


@dataclass
class Seen:
    """A request that arrived at the fake provider."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    query: str = ""


class FakeProvider:
    """Agrees to everything, unless a path has other answers waiting; keeps what it was sent."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.waiting: dict[str, list[tuple[int, Any]]] = {}
        self.during: Callable[[Seen], object] = lambda _: None
        self._peers: queue.Queue[Peer] = queue.Queue()
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=_Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.005,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.port}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def at(self, path: str) -> list[Seen]:
        return [seen for seen in self.seen if seen.path == f"/ucloud/example/{path}"]

    def answer(self, path: str, *answers: tuple[int, Any]) -> None:
        self.waiting[f"/ucloud/example/{path}"] = list(answers)

    def peer(self) -> Peer:
        """The next WebSocket that was opened."""
        return self._peers.get(timeout=5)

    def alone(self) -> bool:
        """Whether no WebSocket was opened that the test does not know."""
        return self._peers.empty()

    def _answer(self, environ: Any, start_response: Any) -> Any:
        request = Request(environ)
        if "Upgrade" in request.headers and not self.waiting.get(request.path):
            accept(request.path, dict(request.headers), environ, self._peers.put)
        data = request.get_data()
        body = json.loads(data) if data else None
        seen = Seen(request.method, request.path, dict(request.headers), body, request.query_string.decode())
        self.seen.append(seen)
        self.during(seen)
        # It has no branding: UCloud shows its own.
        status: int = 404 if seen.path.endswith("/provider/branding/retrieveInfo") else 200
        body = {"responses": [None for _ in (seen.body or {}).get("items", [])]}
        if self.waiting.get(seen.path):
            status, body = self.waiting[seen.path].pop(0)
        text = body if isinstance(body, str) else json.dumps(body)
        return Response(text, status=status, content_type="application/json")(environ, start_response)


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002
        pass

    def connection_dropped(self, error: BaseException, environ: Any = None) -> None:
        self.close_connection = True


class Client:
    """The provider's side of the control calls."""

    def __init__(self, core: SimulatedCore) -> None:
        self._core = core

    def send(self, method: str, path: str, token: str | None = "", **more: Any) -> requests.Response:
        token = self._core.tokens.provider_token() if token == "" else token
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return requests.request(method, self._core.url + path, headers=headers, timeout=5, **more)

    def update(self, *changes: tuple[str, Json]) -> requests.Response:
        items = [{"id": job_id, "update": update} for job_id, update in changes]
        return self.send("POST", "/api/jobs/control/update", json={"items": items})

    def charge(self, *charges: Json, call: str = "chargeCredits") -> requests.Response:
        items = [{"units": 1, "numberOfProducts": 1, "periods": 1} | charge for charge in charges]
        return self.send("POST", f"/api/jobs/control/{call}", json={"items": items})

    def retrieve(self, job_id: str, **flags: str) -> requests.Response:
        return self.send("GET", "/api/jobs/control/retrieve", params={"id": job_id} | flags)

    def browse(self, **query: Any) -> Json:
        answer = self.send("GET", "/api/jobs/control/browse", params=query)
        assert answer.status_code == 200, answer.text
        page: Json = answer.json()
        return page


@pytest.fixture
def clock() -> Clock:
    return Clock(1_633_329_776.235)


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    provider = FakeProvider()
    yield provider
    provider.close()


@pytest.fixture
def make_core(provider: FakeProvider, clock: Clock) -> Iterator[Callable[..., SimulatedCore]]:
    made: list[SimulatedCore] = []

    def make(era: CoreEra = CORE_2021, **more: Any) -> SimulatedCore:
        core = SimulatedCore("example", era, clock, retry_wait=0.01, new_key=next_key, **more)
        made.append(core)
        core.start()
        core.connect(provider.url)
        return core

    yield make
    for core in made:
        core.stop()


@pytest.fixture
def core(make_core: Callable[..., SimulatedCore]) -> SimulatedCore:
    return make_core()


@pytest.fixture
def client(core: SimulatedCore) -> Client:
    return Client(core)


@pytest.fixture
def job_id(core: SimulatedCore) -> str:
    return core.submit(**SLEEPER)


@pytest.fixture
def once(core: SimulatedCore, provider: FakeProvider, job_id: str) -> tuple[Followed, Peer, str]:
    """A log that is followed once, with its session announced as s1; the last is its stream."""
    followed = core.follow(job_id, while_running=False)
    peer = provider.peer()
    stream = peer.announce()
    followed.wait_for(lambda: followed.session is not None)
    return followed, peer, stream


def charge(job_id: str, number: int = 0, **more: Any) -> Json:
    return {"id": job_id, "chargeId": f"{job_id}-{number}"} | more
