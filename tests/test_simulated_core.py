"""The simulated Core, held against the contract: by a provider of a few lines, over real connections."""

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import jwt
import pytest
import requests
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from ucloud_slurm.sandbox.core import (
    CORE_2021,
    CORE_2022,
    CoreCrashError,
    CoreEra,
    CoreError,
    Exchange,
    SimulatedCore,
)

Json = dict[str, Any]
SLEEPER: Json = {"application": ("sleeper", "1.0.0"), "product": "example-compute-1"}
PRICE = 1_000_000
UPDATE = "jobs.control.update"
CHARGE = "jobs.control.chargeCredits"


@dataclass
class Seen:
    """A request that arrived at the fake provider."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


class FakeProvider:
    """Agrees to everything, unless a path has other answers waiting; keeps what it was sent."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.waiting: dict[str, list[tuple[int, Any]]] = {}
        self.during: Callable[[Seen], object] = lambda _: None
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=_Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
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

    def _answer(self, environ: Any, start_response: Any) -> Any:
        request = Request(environ)
        data = request.get_data()
        seen = Seen(request.method, request.path, dict(request.headers), json.loads(data) if data else None)
        self.seen.append(seen)
        self.during(seen)
        status: int = 200
        body: Any = {"responses": [None for _ in (seen.body or {}).get("items", [])]}
        if self.waiting.get(seen.path):
            status, body = self.waiting[seen.path].pop(0)
        text = body if isinstance(body, str) else json.dumps(body)
        return Response(text, status=status, content_type="application/json")(environ, start_response)


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002
        pass


class Clock:
    """Stands still until moved. Seconds since the epoch."""

    def __init__(self) -> None:
        self.time = 1_633_329_776.235

    def __call__(self) -> float:
        return self.time


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
    return Clock()


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    provider = FakeProvider()
    yield provider
    provider.close()


@pytest.fixture
def make_core(provider: FakeProvider, clock: Clock) -> Iterator[Callable[..., SimulatedCore]]:
    made: list[SimulatedCore] = []

    def make(era: CoreEra = CORE_2021, **more: Any) -> SimulatedCore:
        core = SimulatedCore("example", era, clock, retry_wait=0.01, **more)
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


def charge(job_id: str, number: int = 0, **more: Any) -> Json:
    return {"id": job_id, "chargeId": f"{job_id}-{number}"} | more


# -- create ------------------------------------------------------------------------------------------------


def test_a_job_has_every_key_that_ucloud_sends(core: SimulatedCore, provider: FakeProvider) -> None:
    values = {"seconds": {"type": "integer", "value": 3}}
    job_id = core.submit(**SLEEPER, parameters=values, name="my job", minutes=90)
    (request,) = provider.at("jobs")
    (job,) = request.body["items"]
    assert request.method == "POST"
    assert (job["id"], job["owner"]) == (job_id, {"createdBy": "user", "project": None})
    assert job["createdAt"] == 1_633_329_776_235
    assert job["specification"] == {
        "application": {"name": "sleeper", "version": "1.0.0"},
        "product": {"id": "example-compute-1", "category": "example-compute", "provider": "example"},
        "name": "my job",
        "replicas": 1,
        "allowDuplicateJob": True,
        "parameters": values,
        "resources": [],
        "timeAllocation": {"hours": 1, "minutes": 30, "seconds": 0},
    }
    status = job["status"]
    assert (status["state"], status["startedAt"], status["expiresAt"]) == ("IN_QUEUE", None, None)
    assert status["resolvedApplication"]["invocation"]["tool"]["tool"]["description"]["backend"] == "NATIVE"
    assert status["resolvedProduct"]["unitOfPrice"] == "CREDITS_PER_MINUTE"
    assert {"resolvedSupport", "jobParametersJson"} <= status.keys()
    # deprecated, and still sent
    assert {key: job[key] for key in ("updates", "output", "permissions", "acl", "billing")} == {
        "updates": [],
        "output": None,
        "permissions": None,
        "acl": None,
        "billing": {},
    }
    assert core.job(job_id).confirmed


def test_a_job_may_come_without_its_application(core: SimulatedCore, provider: FakeProvider) -> None:
    core.include_resolved = False
    core.submit(**SLEEPER)
    status = provider.at("jobs")[0].body["items"][0]["status"]
    assert status["resolvedApplication"] is None
    assert status["resolvedProduct"] is None


@pytest.mark.parametrize(("era", "told", "duration"), [
    (CORE_2021, 1, {"hours": None, "minutes": None, "seconds": None}),
    (CORE_2022, 3, None),
])  # fmt: skip
def test_core_of_2021_loses_replicas_and_empties_durations(
    make_core: Callable[..., SimulatedCore],
    provider: FakeProvider,
    era: CoreEra,
    told: int,
    duration: Json | None,
) -> None:
    make_core(era).submit(**SLEEPER, replicas=3, minutes=None)
    job = provider.at("jobs")[0].body["items"][0]
    assert job["specification"]["replicas"] == told
    assert job["specification"]["timeAllocation"] == duration
    assert job["status"]["jobParametersJson"]["request"]["replicas"] == 3


def test_submit_rolls_back_when_the_provider_refuses(
    core: SimulatedCore, client: Client, provider: FakeProvider
) -> None:
    kept = core.submit(**SLEEPER)
    provider.answer("jobs", (400, {"why": "Too many nodes", "errorCode": None}))
    with pytest.raises(CoreError, match="Too many nodes") as refused:
        core.submit(**SLEEPER)
    gone = provider.at("jobs")[1].body["items"][0]["id"]
    assert refused.value.status == 400
    assert [job.id for job in core.jobs] == [kept]
    assert client.retrieve(gone).status_code == 404
    assert client.update((gone, {"state": "RUNNING"})).status_code == 400
    assert core.submit(**SLEEPER) not in (kept, gone)


@pytest.mark.parametrize("answer", ["no JSON", {"responses": {}}, {"responses": [{"id": "a,b"}]},
                                    {"responses": [{}]}, {"responses": [{"id": 7}]}])  # fmt: skip
def test_nonsense_from_the_provider_is_a_502_and_leaves_no_job(
    core: SimulatedCore, provider: FakeProvider, answer: Any
) -> None:
    provider.answer("jobs", (200, answer))
    with pytest.raises(CoreError) as refused:
        core.submit(**SLEEPER)
    assert refused.value.status == 502
    assert core.jobs == []


def test_too_few_responses_are_taken_and_noted(core: SimulatedCore, provider: FakeProvider) -> None:
    provider.answer("jobs", (200, {"responses": [{"id": "slurm-1"}]}))
    first, second = core.submit_many([SLEEPER, SLEEPER])
    assert core.job(first).provider_generated_id == "slurm-1"
    assert core.job(second).provider_generated_id is None
    assert core.protocol_errors == ["jobs.provider.example.create: 1 responses came for 2 items"]


def test_a_provider_id_belongs_to_one_job(core: SimulatedCore, provider: FakeProvider) -> None:
    provider.answer("jobs", (200, {"responses": [{"id": "7"}]}), (200, {"responses": [{"id": "7"}]}))
    first = core.submit(**SLEEPER)
    with pytest.raises(CoreError) as refused:
        core.submit(**SLEEPER)
    assert refused.value.status == 502
    assert [job.id for job in core.jobs] == [first]


def test_a_provider_that_is_away_or_slow_is_a_502_and_leaves_no_job(
    make_core: Callable[..., SimulatedCore], provider: FakeProvider
) -> None:
    core = make_core(timeout=0.1)
    provider.during = lambda _: time.sleep(0.3)
    with pytest.raises(CoreError) as slow:
        core.submit(**SLEEPER)
    core.connect("http://127.0.0.1:1")
    with pytest.raises(CoreError) as away:
        core.submit(**SLEEPER)
    assert (slow.value.status, away.value.status) == (502, 502)
    assert core.jobs == []
    assert [(exchange.status, exchange.delivered) for exchange in core.exchanges] == [(0, False)] * 2


def test_nobody_without_credits_gets_a_job(core: SimulatedCore, provider: FakeProvider) -> None:
    core.wallets.set("poor", PRICE - 1)
    core.wallets.set("rich", PRICE)
    with pytest.raises(CoreError) as refused:
        core.submit(**SLEEPER, owner="poor")
    assert refused.value.status == 402
    with pytest.raises(CoreError):
        core.submit(**SLEEPER, owner="rich", project="poor")
    assert provider.seen == []
    core.submit(**SLEEPER, owner="poor", project="rich")


@pytest.mark.parametrize(("wrong", "why"), [
    ({"application": ("sleeper", "2")}, "Unknown application"),
    ({"product": "other"}, "Unknown product"),
    ({"parameters": {"seconds": {"type": "text", "value": "1"}}}, "Bad value for 'seconds'"),
    ({"parameters": {"x": {"type": "text", "value": "1"}}}, "no parameter 'x'"),
    ({"application": ("hello", "1.0.0")}, "Missing value for 'text'"),
    ({"name": "a/b"}, "name"),
    ({"replicas": 0}, "replicas"),
    ({"minutes": 0}, "too short"),
    ({"time_allocation": {"hours": 1, "minutes": 60}}, "time allocation"),
])  # fmt: skip
def test_core_refuses_what_a_provider_need_not_see(
    core: SimulatedCore, provider: FakeProvider, wrong: Json, why: str
) -> None:
    with pytest.raises(CoreError, match=why) as refused:
        core.submit(**(SLEEPER | wrong))
    assert refused.value.status == 400
    assert provider.seen == []


def test_a_bulk_is_one_request_and_all_or_nothing(core: SimulatedCore, provider: FakeProvider) -> None:
    ids = core.submit_many([SLEEPER, SLEEPER | {"minutes": 5}])
    assert [job["id"] for job in provider.at("jobs")[0].body["items"]] == ids
    provider.answer("jobs", (400, {"why": "no"}))
    with pytest.raises(CoreError):
        core.submit_many([SLEEPER, SLEEPER])
    assert [job.id for job in core.jobs] == ids


def test_a_job_can_be_told_about_inside_create_but_is_not_browsed(
    core: SimulatedCore, client: Client, provider: FakeProvider
) -> None:
    found: list[Any] = []

    def inside(seen: Seen) -> None:
        job_id = seen.body["items"][0]["id"]
        found.extend([
            client.update((job_id, {"state": "RUNNING"})).status_code,
            client.charge(charge(job_id)).status_code,
            client.retrieve(job_id).json()["status"]["state"],
            client.browse()["items"],
        ])  # fmt: skip

    provider.during = inside
    job_id = core.submit(**SLEEPER)
    assert found == [200, 200, "RUNNING", []]
    assert [job["id"] for job in client.browse()["items"]] == [job_id]


def test_support_is_asked_for_once_in_a_quarter_of_an_hour_and_decides(
    core: SimulatedCore, provider: FakeProvider, clock: Clock
) -> None:
    def supports(name: str, **docker: bool | None) -> Json:
        product = {"id": name, "category": "example-compute", "provider": "example"}
        return {"product": product, "docker": docker, "virtualMachine": {"enabled": None}}

    core.asks_support = True
    app = core.catalogue.application("sleeper", "1.0.0")
    assert app is not None
    container = json.loads(json.dumps(app))
    container["metadata"]["version"] = "docker"
    container["invocation"]["tool"]["tool"]["description"]["backend"] = "DOCKER"
    core.catalogue.add_application(container)
    docker = SLEEPER | {"application": ("sleeper", "docker")}
    said = (200, {"responses": [supports("example-compute-1", enabled=None), supports("not sold")]})
    provider.answer("jobs/retrieveProducts", said, (200, {"responses": [supports("example-compute-1", enabled=True)]}))

    core.submit(**SLEEPER)
    with pytest.raises(CoreError) as unsupported:
        core.submit(**docker)
    with pytest.raises(CoreError) as unheard:
        core.submit(**(SLEEPER | {"product": "example-compute-4"}))
    assert (unsupported.value.status, unsupported.value.error_code) == (
        400,
        "FEATURE_NOT_SUPPORTED_BY_PROVIDER",
    )
    assert unheard.value.status == 502
    assert len(provider.at("jobs/retrieveProducts")) == 1
    assert provider.at("jobs")[0].body["items"][0]["status"]["resolvedSupport"]["support"] == said[1]["responses"][0]
    clock.time += 15 * 60
    core.submit(**docker)
    assert len(provider.at("jobs/retrieveProducts")) == 2
    assert core.protocol_errors == []


# -- who calls ---------------------------------------------------------------------------------------------


def test_the_provider_can_tell_core_from_itself_by_the_claims(core: SimulatedCore) -> None:
    options: Any = {"verify_exp": False, "verify_iat": False}
    spki = base64.b64decode(core.public_key, validate=True)
    assert b"".join(core.public_key_pem.encode().splitlines()[1:-1]) == base64.b64encode(spki)
    claims = [
        jwt.decode(token, core.public_key_pem, ["RS256"], options, audience="all:write")
        for token in (core.tokens.core_token(), core.tokens.provider_token())
    ]
    assert [(each["sub"], each["role"], each["exp"] - each["iat"]) for each in claims] == [
        ("_UCloud", "SERVICE", 900),
        ("#P_example", "PROVIDER", 900),
    ]
    odd = jwt.decode(core.tokens.core_token(sub="x", aud=None), core.public_key_pem, ["RS256"], options)
    assert odd["sub"] == "x"
    assert "aud" not in odd


@pytest.mark.parametrize(("era", "header"), [
    (CORE_2021, "Jørgen#1234"),
    (CORE_2022, base64.b64encode("Jørgen#1234".encode()).decode()),
])  # fmt: skip
def test_the_acting_user_stands_in_the_header_of_the_era(
    make_core: Callable[..., SimulatedCore], provider: FakeProvider, era: CoreEra, header: str
) -> None:
    core = make_core(era)
    job_id = core.submit(**SLEEPER, owner="Jørgen#1234")
    core.terminate(job_id, user="admin")
    core.verify(job_id)
    names = [seen.headers.get("Ucloud-Username") for seen in provider.seen]
    assert names[0] is not None
    assert names[0].encode("latin-1").decode() == header
    assert names[1] in ("admin", base64.b64encode(b"admin").decode())
    assert names[2] is None
    for seen in provider.seen:
        token = seen.headers["Authorization"].removeprefix("Bearer ")
        assert jwt.decode(token, options={"verify_signature": False})["sub"] == "_UCloud"


@pytest.mark.parametrize("status", [449, 503])
def test_an_unknown_user_is_introduced_and_the_call_repeated(
    core: SimulatedCore, provider: FakeProvider, status: int
) -> None:
    again = (status, {"why": "who is that?"})
    provider.answer("jobs", again, again, again, again)
    job_id = core.submit(**SLEEPER, owner="new#1")
    assert [seen.path.removeprefix("/ucloud/example/") for seen in provider.seen] == (
        ["jobs"] + ["integration/init", "jobs"] * 4
    )
    assert provider.at("integration/init")[0].body == {"username": "new#1"}
    assert core.job(job_id).confirmed


def test_five_tries_are_all(core: SimulatedCore, provider: FakeProvider) -> None:
    provider.answer("jobs", *[(449, {})] * 6)
    with pytest.raises(CoreError) as refused:
        core.submit(**SLEEPER)
    assert refused.value.status == 500
    assert len(provider.at("jobs")) == 5
    assert core.jobs == []


def test_an_init_that_fails_fails_the_call(core: SimulatedCore, provider: FakeProvider) -> None:
    provider.answer("jobs", (449, {}))
    provider.answer("integration/init", (400, {"why": "Unknown user"}))
    with pytest.raises(CoreError, match="Unknown user"):
        core.submit(**SLEEPER)
    assert core.jobs == []


def test_cores_own_calls_are_not_repeated(core: SimulatedCore, provider: FakeProvider, job_id: str) -> None:
    provider.answer("jobs/verify", (503, {"why": "later"}))
    with pytest.raises(CoreError, match="later"):
        core.verify(job_id)
    assert provider.at("integration/init") == []


def test_only_a_live_token_of_the_provider_is_let_in(core: SimulatedCore, client: Client, clock: Clock) -> None:
    def status(token: str | None) -> int:
        return client.send("GET", "/api/jobs/control/browse", token).status_code

    good = core.tokens.provider_token()
    assert status(good) == 200
    assert [status(token) for token in (None, "nonsense", core.tokens.core_token())] == [401, 401, 401]
    assert status(core.tokens.provider_token(role="USER")) == 401
    assert status(core.tokens.provider_token(sub="#P_other")) == 401
    assert status(core.tokens.provider_token(aud="nothing:read")) == 401
    clock.time += 15 * 60
    assert status(good) == 401
    fresh = core.tokens.provider_token()
    core.tokens.revoke_access()
    assert status(fresh) == 401
    fresh = core.tokens.provider_token()
    core.tokens.rotate()
    assert status(fresh) == 401
    assert status(core.tokens.provider_token()) == 200


def test_an_unknown_refresh_token_refuses_the_whole_bulk(core: SimulatedCore, client: Client) -> None:
    def refresh(*tokens: str) -> requests.Response:
        items = [{"refreshToken": token} for token in tokens]
        return client.send("POST", "/auth/providers/refresh", None, json={"items": items})

    old = core.refresh_token
    access = refresh(old).json()["responses"][0]["accessToken"]
    assert client.send("GET", "/api/jobs/control/browse", access).status_code == 200
    assert refresh(old, "unknown").status_code == 403
    core.tokens.rotate()
    assert refresh(old).status_code == 403
    assert old not in repr(core.exchanges)
    assert access not in repr(core.exchanges)


# -- updates -----------------------------------------------------------------------------------------------


def test_an_update_moves_the_job_and_is_stamped_by_core(
    core: SimulatedCore, client: Client, job_id: str, clock: Clock
) -> None:
    clock.time += 10
    update = {"state": "RUNNING", "outputFolder": "/1/jobs", "status": "It runs", "timestamp": 5}
    answer = client.update((job_id, update))
    assert (answer.status_code, answer.json()) == (200, {})
    job = core.job(job_id)
    assert (job.state, job.output_folder) == ("RUNNING", "/1/jobs")
    assert job.started_at == 1_633_329_786_235
    assert job.updates == [
        update | {"timestamp": 1_633_329_786_235, "expectedState": None, "expectedDifferentState": None}
    ]
    body = client.retrieve(job_id, includeUpdates="true").json()
    assert body["updates"] == job.updates
    assert body["output"] == {"outputFolder": "/1/jobs"}
    assert body["status"]["expiresAt"] == job.started_at + 600_000


@pytest.mark.parametrize("final", ["SUCCESS", "FAILURE", "EXPIRED"])
def test_a_final_state_is_sticky(core: SimulatedCore, client: Client, job_id: str, final: str) -> None:
    client.update((job_id, {"state": final}))
    for state in ("RUNNING", "SUCCESS", "FAILURE", "EXPIRED"):
        assert client.update((job_id, {"state": state, "outputFolder": "/x"})).status_code == 200
    job = core.job(job_id)
    assert (job.state, job.output_folder, job.started_at) == (final, None, None)
    assert len(job.updates) == 5
    assert [change.state for change in job.states] == ["IN_QUEUE", final]


def test_the_first_running_starts_the_job_and_no_other(
    core: SimulatedCore, client: Client, job_id: str, clock: Clock
) -> None:
    client.update((job_id, {"state": "RUNNING"}))
    started = core.job(job_id).started_at
    clock.time += 60
    client.update((job_id, {"state": "IN_QUEUE"}))
    client.update((job_id, {"state": "RUNNING"}))
    client.update((job_id, {"state": "RUNNING"}))
    job = core.job(job_id)
    assert job.started_at == started
    assert [change.state for change in job.states] == ["IN_QUEUE", "RUNNING", "IN_QUEUE", "RUNNING"]


@pytest.mark.parametrize("condition", [{"expectedState": "RUNNING"}, {"expectedDifferentState": True}])
def test_an_update_that_does_not_suit_is_skipped_silently_and_stays_in_the_history(
    core: SimulatedCore, client: Client, job_id: str, condition: Json
) -> None:
    update = {"state": "IN_QUEUE", "outputFolder": "/x", "status": "again"} | condition
    answer = client.update((job_id, update))
    assert (answer.status_code, answer.json()) == (200, {})
    assert core.job(job_id).output_folder is None
    assert [entry["status"] for entry in core.job(job_id).updates] == ["again"]


def test_an_update_that_suits_its_condition_is_taken(core: SimulatedCore, client: Client, job_id: str) -> None:
    client.update((job_id, {"state": "RUNNING", "expectedDifferentState": True, "expectedState": "IN_QUEUE"}))
    assert core.job(job_id).state == "RUNNING"
    client.update((job_id, {"status": "a word", "outputFolder": "/y", "expectedDifferentState": True}))
    assert (core.job(job_id).state, core.job(job_id).output_folder) == ("RUNNING", "/y")


def test_two_updates_of_a_bulk_are_both_compared_with_the_state_before_it(
    core: SimulatedCore, client: Client, job_id: str
) -> None:
    client.update(
        (job_id, {"state": "RUNNING", "expectedState": "IN_QUEUE"}),
        (job_id, {"state": "SUCCESS", "expectedState": "IN_QUEUE"}),
    )
    assert core.job(job_id).state == "SUCCESS"


def test_one_bad_id_refuses_the_whole_bulk(core: SimulatedCore, client: Client, job_id: str) -> None:
    for bad in ("99999999", "no number"):
        answer = client.update((job_id, {"state": "RUNNING"}), (bad, {"state": "RUNNING"}))
        assert answer.status_code == 400
        assert answer.json() == {"why": "Unable to use all requested resources", "errorCode": None}
        assert client.charge(charge(job_id), charge(bad)).status_code == 400
    job = core.job(job_id)
    assert (job.state, job.updates, job.charges) == ("IN_QUEUE", [], [])
    assert core.protocol_errors == []


def test_a_new_time_allocation_counts_from_the_start_since_2022(
    make_core: Callable[..., SimulatedCore],
) -> None:
    for era, minutes in ((CORE_2022, 30), (CORE_2021, 10)):
        core = make_core(era)
        job_id = core.submit(**SLEEPER)
        Client(core).update((job_id, {"state": "RUNNING", "newTimeAllocation": 30 * 60_000}))
        job = core.job(job_id)
        assert job.started_at is not None
        assert job.expires_at == job.started_at + minutes * 60_000


def test_a_lost_job_is_unknown(core: SimulatedCore, client: Client, job_id: str) -> None:
    core.lose(job_id)
    assert client.retrieve(job_id).status_code == 404
    assert client.update((job_id, {"state": "RUNNING"})).status_code == 400


# -- strictness --------------------------------------------------------------------------------------------

UPDATES = "/api/jobs/control/update"
CHARGES = "/api/jobs/control/chargeCredits"
ONE = {"id": "54112", "chargeId": "x", "units": 1}


@pytest.fixture(scope="module")
def strict() -> Iterator[SimulatedCore]:
    """A Core with one job, 54112, that no test changes."""
    provider, core = FakeProvider(), SimulatedCore()
    core.start()
    core.connect(provider.url)
    assert core.submit(**SLEEPER) == "54112"
    provider.close()
    yield core
    core.stop()


@pytest.mark.parametrize(("path", "body", "named"), [
    (UPDATES, "{", "not JSON"),
    (UPDATES, "[]", "not a JSON object"),
    (UPDATES, '{"items": [], "items": []}', "twice"),
    (UPDATES, '{"items": [{"id": "54112", "update": {"timestamp": NaN}}]}', "NaN"),
    (UPDATES, {}, "items"),
    (UPDATES, {"items": []}, "items"),
    (UPDATES, {"items": [{"id": "54112", "update": {}}] * 1001}, "items"),
    (UPDATES, {"items": [{"id": 54112, "update": {}}]}, "items[0].id"),
    (UPDATES, {"items": [{"id": "54112"}]}, "items[0].update"),
    (UPDATES, {"items": [{"id": "54112", "update": {"timestamp": 1.5}}]}, "timestamp"),
    (UPDATES, {"items": [{"id": "54112", "update": {"timestamp": "1"}}]}, "timestamp"),
    (UPDATES, {"items": [{"id": "54112", "update": {"timestamp": True}}]}, "timestamp"),
    (UPDATES, {"items": [{"id": "54112", "update": {"status": 1}}]}, "status"),
    (UPDATES, {"items": [{"id": "54112", "update": {"expectedDifferentState": 1}}]}, "DifferentState"),
    (UPDATES, {"items": [{"id": "54112", "update": {"state": "CANCELING"}}]}, "CANCELING"),
    (UPDATES, {"items": [{"id": "54112", "update": {"state": "SUSPENDED"}}]}, "SUSPENDED"),
    (UPDATES, {"items": [{"id": "54112", "update": {"state": "running"}}]}, "running"),
    (UPDATES, {"items": [{"id": "54112", "update": {"expectedState": "LATER"}}]}, "LATER"),
    (CHARGES, {"items": []}, "items"),
    (CHARGES, {"items": [ONE] * 1001}, "items"),
    (CHARGES, {"items": [ONE | {"units": 1.0}]}, "units"),
    (CHARGES, {"items": [ONE | {"units": -1}]}, "units"),
    (CHARGES, {"items": [ONE | {"units": True}]}, "units"),
    (CHARGES, {"items": [ONE | {"units": None}]}, "units"),
    (CHARGES, {"items": [ONE | {"units": 2**63}]}, "units"),
    (CHARGES, {"items": [ONE | {"chargeId": ""}]}, "chargeId"),
    (CHARGES, {"items": [{"id": "54112", "units": 1}]}, "chargeId"),
    (CHARGES, {"items": [ONE | {"numberOfProducts": 1, "periods": 2}]}, "periods"),
    (CHARGES, {"items": [ONE | {"performedBy": 1}]}, "performedBy"),
    ("/auth/providers/refresh", {"items": [{"refreshToken": 1}]}, "refreshToken"),
    ("/api/jobs/control/register", {"items": [{"spec": {}}]}, "parameters"),
    ("/api/providers/integration/control/approveConnection", {}, "username"),
])  # fmt: skip
def test_what_the_contract_does_not_allow_is_a_400_and_noted(
    strict: SimulatedCore, path: str, body: Any, named: str
) -> None:
    before = len(strict.protocol_errors)
    answer = Client(strict).send("POST", path, data=body if isinstance(body, str) else json.dumps(body))
    assert answer.status_code == 400
    assert named in answer.json()["why"]
    assert any(named in sentence for sentence in strict.protocol_errors[before:])
    (job,) = strict.jobs
    assert (job.state, job.updates, job.charges) == ("IN_QUEUE", [], [])


def test_what_core_would_ignore_is_taken_and_noted(core: SimulatedCore, client: Client, job_id: str) -> None:
    assert client.update((job_id, {"state": "RUNNING", "sate": "x"})).status_code == 200
    assert client.charge(charge(job_id, note="x")).status_code == 200
    assert client.send("POST", "/api/nothing").status_code == 404
    assert core.protocol_errors == [
        "jobs.control.update: items[0].update.sate is a key that UCloud does not know",
        "jobs.control.chargeCredits: items[0].note is a key that UCloud does not know",
        "POST /api/nothing: UCloud has no such call",
    ]


def test_nulls_are_defaults(core: SimulatedCore, client: Client, job_id: str) -> None:
    nulls = dict.fromkeys(("outputFolder", "status", "expectedState", "expectedDifferentState", "timestamp"))
    assert client.update((job_id, {"state": "RUNNING"} | nulls)).status_code == 200
    optional: Json = dict.fromkeys(("performedBy", "description", "numberOfProducts", "periods"))
    assert client.charge(charge(job_id, **optional)).status_code == 200
    (booked,) = core.job(job_id).charges
    assert (booked.multiplier, booked.performed_by, booked.description) == (1, "user", "Payment")
    assert core.protocol_errors == []


# -- charges -----------------------------------------------------------------------------------------------

BEHAVIOURS = pytest.mark.parametrize("behaviour", ["as-documented", "as-coded"])


@BEHAVIOURS
def test_a_charge_costs_units_times_nodes_times_price(core: SimulatedCore, client: Client, behaviour: Any) -> None:
    core.charging = behaviour
    core.catalogue.add_product({"name": "example-compute-4", "cpu": 4, "pricePerUnit": 7})
    core.wallets.set("lab", 10_000)
    core.wallets.set("user", 10_000)
    job_id = core.submit(("sleeper", "1.0.0"), "example-compute-4", project="lab")
    client.update((job_id, {"state": "SUCCESS"}))
    answer = client.charge(charge(job_id, units=15, numberOfProducts=3, periods=3))
    assert answer.json() == {"insufficientFunds": [], "duplicateCharges": []}
    assert (core.wallets.balance("lab"), core.wallets.balance("user")) == (10_000 - 15 * 3 * 7, 10_000)
    (booked,) = core.job(job_id).charges
    assert (booked.units, booked.multiplier, booked.cost, booked.taken) == (15, 3, 315, 315)


@pytest.mark.parametrize(("behaviour", "place"), [
    ("as-documented", "duplicateCharges"),
    ("as-coded", "insufficientFunds"),
])  # fmt: skip
def test_a_repeated_charge_is_booked_once_in_both_behaviours(
    core: SimulatedCore, client: Client, job_id: str, behaviour: Any, place: str
) -> None:
    core.charging = behaviour
    core.wallets.set("user", 100 * PRICE)
    client.charge(charge(job_id, 1), charge(job_id, 2))
    again = client.charge(charge(job_id, 1), charge(job_id, 3))
    nothing: Json = {"insufficientFunds": [], "duplicateCharges": []}
    assert (again.status_code, again.json()) == (200, nothing | {place: [{"id": job_id}]})
    assert core.wallets.balance("user") == 97 * PRICE
    assert [booked.charge_id[-1] for booked in core.job(job_id).charges] == ["1", "2", "3"]
    assert core.protocol_errors == []


def test_a_charge_id_counts_for_its_job_as_documented_and_for_all_as_coded(core: SimulatedCore, client: Client) -> None:
    first, second, third = (core.submit(**SLEEPER) for _ in range(3))
    client.charge({"id": first, "chargeId": "noon"}, {"id": second, "chargeId": "noon"})
    assert len(core.job(first).charges) == len(core.job(second).charges) == 1
    assert core.protocol_errors == []
    core.charging = "as-coded"
    assert client.charge({"id": third, "chargeId": "noon"}).json()["insufficientFunds"] == [{"id": third}]
    assert core.job(third).charges == []
    assert "noon" in core.protocol_errors[0]


def test_as_documented_one_item_that_cannot_be_paid_is_a_402_for_the_whole_bulk(
    core: SimulatedCore, client: Client
) -> None:
    rich, poor = core.submit(**SLEEPER, owner="rich"), core.submit(**SLEEPER, owner="poor")
    core.wallets.set("rich", 100 * PRICE)
    core.wallets.set("poor", 3 * PRICE)
    answer = client.charge(charge(rich), charge(poor, 1, units=2), charge(poor, 2, units=2))
    assert (answer.status_code, answer.json()["errorCode"]) == (402, None)
    assert (core.wallets.balance("rich"), core.wallets.balance("poor")) == (100 * PRICE, 3 * PRICE)
    assert core.job(rich).charges == core.job(poor).charges == []
    assert client.charge(charge(rich), charge(poor, 1, units=2)).status_code == 200
    assert core.protocol_errors == []


def test_as_coded_a_wallet_gives_what_it_has_and_says_so_one_charge_early(
    core: SimulatedCore, client: Client, job_id: str
) -> None:
    core.charging = "as-coded"
    core.wallets.set("user", 35 * PRICE)
    short = [client.charge(charge(job_id, number, units=10)).json()["insufficientFunds"] for number in range(5)]
    assert [bool(jobs) for jobs in short] == [False, False, True, True, True]
    assert [booked.taken // PRICE for booked in core.job(job_id).charges] == [10, 10, 10, 5]
    assert core.wallets.balance("user") == 0
    core.wallets.set("user", 100 * PRICE)
    assert client.charge(charge(job_id, 4, units=10)).json()["insufficientFunds"] == []


def test_the_early_warning_was_repaired(make_core: Callable[..., SimulatedCore]) -> None:
    core = make_core(CORE_2022)
    core.charging = "as-coded"
    core.wallets.set("user", 20 * PRICE)
    client, job_id = Client(core), core.submit(**SLEEPER)
    short = [client.charge(charge(job_id, number, units=10)).json()["insufficientFunds"] for number in range(3)]
    assert [bool(jobs) for jobs in short] == [False, False, True]


@BEHAVIOURS
def test_a_free_product_costs_nothing(core: SimulatedCore, client: Client, behaviour: Any) -> None:
    core.charging = behaviour
    core.catalogue.add_product({"name": "example-compute-1", "freeToUse": True})
    core.wallets.set("user", 0)
    job_id = core.submit(**SLEEPER)
    assert client.charge(charge(job_id)).json() == {"insufficientFunds": [], "duplicateCharges": []}
    assert [booked.taken for booked in core.job(job_id).charges] == [0]


@pytest.mark.parametrize(("era", "key", "other"), [
    (CORE_2021, "numberOfProducts", "periods"),
    (CORE_2022, "periods", "numberOfProducts"),
])  # fmt: skip
def test_the_multiplier_goes_by_the_name_of_the_era(
    make_core: Callable[..., SimulatedCore], era: CoreEra, key: str, other: str
) -> None:
    core = make_core(era)
    job_id = core.submit(**SLEEPER)
    send = Client(core).send
    for number, sent in enumerate(({key: 4}, {other: 4})):
        item = {"id": job_id, "chargeId": str(number), "units": 1} | sent
        assert send("POST", CHARGES, json={"items": [item]}).status_code == 200
    assert [booked.multiplier for booked in core.job(job_id).charges] == [4, 1]
    assert len(core.protocol_errors) == 1
    assert f"{key} is missing" in core.protocol_errors[0]


def test_a_charge_id_with_other_contents_is_noted(core: SimulatedCore, client: Client, job_id: str) -> None:
    client.charge(charge(job_id, units=1))
    client.charge(charge(job_id, units=2))
    client.charge(charge(job_id, 9), charge(job_id, 9))
    assert len(core.protocol_errors) == 2
    assert core.wallets.balance("user") == 10**15 - 2 * PRICE


def test_check_credits_takes_nothing_and_came_in_2022(make_core: Callable[..., SimulatedCore]) -> None:
    core = make_core(CORE_2022)
    job_id = core.submit(**SLEEPER)
    core.wallets.set("user", PRICE)
    client = Client(core)
    assert client.charge(charge(job_id), call="checkCredits").json()["insufficientFunds"] == []
    assert client.charge(charge(job_id, units=2), call="checkCredits").json()["insufficientFunds"] == [{"id": job_id}]
    assert (core.wallets.balance("user"), core.job(job_id).charges) == (PRICE, [])
    old = make_core(CORE_2021)
    assert Client(old).charge(charge(old.submit(**SLEEPER)), call="checkCredits").status_code == 404


# -- reading -----------------------------------------------------------------------------------------------


def test_retrieve_sends_what_was_asked_for(core: SimulatedCore, client: Client, job_id: str) -> None:
    plain = client.retrieve(job_id, includeProduct="yes").json()
    assert plain["status"]["resolvedProduct"] is None
    assert plain["status"]["resolvedApplication"]["metadata"]["name"] == "sleeper"
    assert plain["permissions"] == {"myself": ["PROVIDER"], "others": None}
    full = client.retrieve(job_id, includeProduct="true", includeOthers="true", unknown="x").json()
    assert full["status"]["resolvedProduct"]["name"] == "example-compute-1"
    assert "type" not in full["status"]["resolvedProduct"]
    assert full["permissions"]["others"] == []
    assert client.send("GET", "/api/jobs/control/retrieve/", params={"id": job_id}).status_code == 200
    assert client.retrieve("1").status_code == 404


def test_browse_comes_in_pages_until_next_is_null(core: SimulatedCore, client: Client) -> None:
    ids = core.submit_many([SLEEPER] * 20)
    page = client.browse(itemsPerPage=10, sortDirection="ascending")
    found = [job["id"] for job in page["items"]]
    assert (page["itemsPerPage"], len(found)) == (10, 10)
    page = client.browse(itemsPerPage=10, sortDirection="ascending", next=page["next"])
    assert found + [job["id"] for job in page["items"]] == ids
    assert page["next"] is None
    assert client.browse(itemsPerPage=7)["itemsPerPage"] == 50
    assert [job["id"] for job in client.browse()["items"]] == ids[::-1]
    assert client.send("GET", "/api/jobs/control/browse?next=abc").status_code == 400
    assert client.send("GET", "/api/jobs/control/browse?itemsToSkip=-1").status_code == 400


def test_browse_filters(core: SimulatedCore, client: Client, provider: FakeProvider, clock: Clock) -> None:
    provider.answer("jobs", (200, {"responses": [{"id": "s1"}]}))
    first = core.submit(**SLEEPER)
    clock.time += 100
    second = core.submit(("sleeper", "1.0.0"), "example-compute-4", owner="other")
    client.update((second, {"state": "RUNNING"}))
    later = core.job(second).created_at
    for query, expected in (
        ({"filterState": "running"}, [second]),
        ({"filterState": "IN_QUEUE"}, [first]),
        ({"filterCreatedBy": "other"}, [second]),
        ({"filterProductId": "example-compute-1"}, [first]),
        ({"filterProvider": "nobody"}, []),
        ({"filterIds": f"{first},1"}, [first]),
        ({"filterProviderIds": "s1,s2"}, [first]),
        ({"filterCreatedAfter": later}, [second]),
        ({"filterCreatedBefore": later - 1}, [first]),
        ({"filterApplication": "hello"}, [second, first]),
        ({"sortBy": "state", "sortDirection": "ascending"}, [first, second]),
    ):
        assert [job["id"] for job in client.browse(**query)["items"]] == expected, query


def test_products_are_found_by_name_and_priced_by_their_latest_version(core: SimulatedCore, client: Client) -> None:
    core.catalogue.add_product({"name": "example-compute-1", "pricePerUnit": 5})
    query = {
        "filterName": "example-compute-1",
        "filterCategory": "example-compute",
        "filterProvider": "example",
    }
    found = client.send("GET", "/api/products/retrieve", params=query).json()
    assert (found["type"], found["version"], found["pricePerUnit"], found["memoryInGigs"]) == (
        "compute",
        2,
        5,
        1,
    )
    missing = client.send("GET", "/api/products/retrieve", params=query | {"filterProvider": "other"})
    assert missing.status_code == 404
    assert client.send("GET", "/api/products/retrieve", None, params=query).status_code == 401
    public = client.send("GET", "/api/products/browse", None, params={"filterArea": "COMPUTE"}).json()
    assert [product["name"] for product in public["items"]] == ["example-compute-1", "example-compute-4"]
    assert public["items"][1]["cpu"] == 4


def test_jobs_of_the_provider_are_registered_once(core: SimulatedCore, client: Client) -> None:
    spec = {
        "application": {"name": "unknown", "version": "unknown"},
        "product": {"id": "example-compute-1", "category": "example-compute", "provider": "example"},
        "parameters": {},
        "resources": [],
    }

    def register(spec: Json, generated: str | None = "slurm/1") -> requests.Response:
        item = {"spec": spec, "providerGeneratedId": generated, "createdBy": "user", "project": None}
        return client.send("POST", "/api/jobs/control/register", json={"items": [item]})

    answers = [register(spec).json() for _ in range(2)]
    assert answers[0] == answers[1] == {"responses": [{"id": core.jobs[0].id}]}
    assert client.browse()["items"][0]["owner"]["createdBy"] == "user"
    other = spec | {"product": {"id": "example-compute-1", "category": "example-compute", "provider": "other"}}
    assert (register(other).status_code, register(other).json()["why"]) == (
        400,
        "Unable to use all requested resources",
    )
    assert register(spec, "a,b").status_code == 400
    assert register(spec | {"application": {"name": "x", "version": "1"}}).status_code == 400
    assert len(core.jobs) == 1


def test_a_connection_is_approved_as_often_as_you_like(core: SimulatedCore, client: Client) -> None:
    for _ in range(2):
        path = "/api/providers/integration/control/approveConnection"
        assert client.send("POST", path, json={"username": "user#1"}).json() == {}
    assert core.connected == {"user#1"}


# -- the other provider calls ------------------------------------------------------------------------------


def test_terminate_is_asked_for_and_changes_nothing_at_core(
    core: SimulatedCore, provider: FakeProvider, job_id: str
) -> None:
    core.terminate(job_id)
    assert [item["id"] for item in provider.at("jobs/terminate")[0].body["items"]] == [job_id]
    assert core.job(job_id).state == "IN_QUEUE"
    with pytest.raises(CoreError) as unknown:
        core.terminate("1")
    assert unknown.value.status == 404


def test_an_acl_changes_only_when_the_provider_agrees(
    core: SimulatedCore, client: Client, provider: FakeProvider, job_id: str
) -> None:
    friend = {"type": "user", "username": "friend#1"}
    entry = {"entity": friend, "permissions": ["READ"]}
    provider.answer("jobs/updateAcl", (400, {"why": "no"}))
    with pytest.raises(CoreError):
        core.update_acl(job_id, added=[entry])
    assert core.job(job_id).acl == []
    core.update_acl(job_id, added=[entry])
    item = provider.at("jobs/updateAcl")[1].body["items"][0]
    assert (item["resource"]["id"], item["added"], item["deleted"]) == (job_id, [entry], [])
    assert client.retrieve(job_id, includeOthers="true").json()["permissions"]["others"] == [entry]
    core.update_acl(job_id, deleted=[friend])
    assert core.job(job_id).acl == []


def test_verify_asks_for_each_living_job_once_in_five_minutes(
    core: SimulatedCore, client: Client, provider: FakeProvider, clock: Clock
) -> None:
    ids = core.submit_many([SLEEPER] * 3)
    client.update((ids[0], {"state": "SUCCESS"}))
    provider.answer("jobs/verify", (200, ""))
    assert core.verify() == ids[1:]
    assert core.verify() == []
    assert len(provider.at("jobs/verify")) == 1
    clock.time += 5 * 60
    assert core.verify() == ids[1:]
    assert core.verify(ids[0]) == [ids[0]]
    core.submit_many([SLEEPER] * 150)
    assert len(core.verify()) == 100
    assert core.protocol_errors == []


@pytest.mark.parametrize("era", [CORE_2021, CORE_2022])
def test_suspend_has_the_shape_of_the_era(
    make_core: Callable[..., SimulatedCore], provider: FakeProvider, era: CoreEra
) -> None:
    core = make_core(era)
    job_id = core.submit(**SLEEPER)
    core.suspend(job_id)
    (item,) = provider.at("jobs/suspend")[0].body["items"]
    assert (item["job"] if era is CORE_2022 else item)["id"] == job_id
    client = Client(core)
    assert client.update((job_id, {"state": "SUSPENDED"})).status_code == (200 if era is CORE_2022 else 400)


def test_more_time_and_sessions_are_asked_for(core: SimulatedCore, provider: FakeProvider, job_id: str) -> None:
    core.extend(job_id, 90)
    item = provider.at("jobs/extend")[0].body["items"][0]
    assert (item["job"]["id"], item["requestedTime"]) == (job_id, {"hours": 1, "minutes": 30, "seconds": 0})
    session = {"type": "shell", "jobId": job_id, "rank": 0, "sessionIdentifier": "x"}
    provider.answer("jobs/interactiveSession", (200, {"responses": [session]}))
    assert core.open_session(job_id) == session
    item = provider.at("jobs/interactiveSession")[0].body["items"][0]
    assert (item["job"]["id"], item["rank"], item["sessionType"]) == (job_id, 0, "SHELL")


def test_support_that_is_no_support_is_noted(core: SimulatedCore, provider: FakeProvider) -> None:
    product = {"id": "example-compute-1", "category": "example-compute", "provider": "example"}
    wrong = [{}, {"product": product}, {"product": product, "docker": {"enabled": 1}, "virtualMachine": {}}]
    provider.answer("jobs/retrieveProducts", (200, {"responses": wrong}), (200, []))
    assert core.retrieve_products() == wrong
    assert len(core.protocol_errors) == 4
    with pytest.raises(CoreError):
        core.retrieve_products()


def test_anything_can_be_sent_to_the_provider(core: SimulatedCore, provider: FakeProvider) -> None:
    provider.answer("jobs/verify", (400, {"why": "what?"}))
    assert core.call("POST", "/ucloud/example/jobs/verify", {"items": []}) == (400, {"why": "what?"})
    core.call("GET", "/elsewhere", token=None)
    core.call("POST", "/ucloud/example/jobs", b"[1]", user="u", token="mine")
    first, second, third = provider.seen
    assert first.headers["Authorization"].startswith("Bearer ey")
    assert "Authorization" not in second.headers
    assert (third.headers["Authorization"], third.headers["Ucloud-Username"], third.body) == (
        "Bearer mine",
        "u",
        [1],
    )
    assert [exchange.call for exchange in core.exchanges] == [
        "jobs.provider.example.verify", "GET /elsewhere", "jobs.provider.example.create",
    ]  # fmt: skip


# -- faults ------------------------------------------------------------------------------------------------


def test_a_dropped_answer_leaves_the_work_done(core: SimulatedCore, client: Client, job_id: str) -> None:
    core.faults.drop_answer(CHARGE)
    stale = client.send("POST", CHARGES, None, json={"items": [charge(job_id)]})
    assert stale.status_code == 401
    with pytest.raises(requests.ConnectionError):
        client.charge(charge(job_id))
    assert len(core.job(job_id).charges) == 1
    last = core.exchanges[-1]
    assert (last.call, last.status, last.delivered) == (CHARGE, 200, False)
    assert client.charge(charge(job_id)).json()["duplicateCharges"] == [{"id": job_id}]


def test_the_providers_answer_can_be_lost(core: SimulatedCore, provider: FakeProvider) -> None:
    core.faults.drop_answer("jobs.provider.example.create")
    with pytest.raises(CoreError) as lost:
        core.submit(**SLEEPER)
    assert lost.value.status == 502
    assert core.jobs == []
    assert len(provider.at("jobs")) == 1
    core.submit(**SLEEPER)


def test_an_outage_refuses_everything(core: SimulatedCore, client: Client, job_id: str) -> None:
    core.faults.outage(True)
    assert client.update((job_id, {"state": "RUNNING"})).status_code == 503
    core.faults.outage(True, how="close")
    with pytest.raises(requests.ConnectionError):
        client.update((job_id, {"state": "RUNNING"}))
    assert core.job(job_id).state == "IN_QUEUE"
    core.faults.outage(False)
    assert client.update((job_id, {"state": "RUNNING"})).status_code == 200


def test_canned_answers_do_no_work_and_run_out(core: SimulatedCore, client: Client, job_id: str) -> None:
    core.faults.answer(UPDATE, 429, times=2)
    core.faults.html(UPDATE)
    core.faults.answer(UPDATE, 402, {"why": "x"})
    answers = [client.update((job_id, {"state": "RUNNING"})) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [429, 429, 200, 402]
    assert answers[2].text.startswith("<!DOCTYPE html>")
    assert core.job(job_id).updates == []
    assert client.update((job_id, {"state": "RUNNING"})).json() == {}
    core.faults.answer(UPDATE, 500)
    core.faults.clear()
    assert client.update((job_id, {"status": "x"})).status_code == 200


def test_a_delayed_answer_comes_after_the_work(core: SimulatedCore, client: Client, job_id: str) -> None:
    core.faults.delay(UPDATE, 0.3)
    began = time.monotonic()
    thread = threading.Thread(target=client.update, args=((job_id, {"state": "RUNNING"}),))
    thread.start()
    core.wait(job_id, "RUNNING", 5)
    assert thread.is_alive()
    thread.join()
    assert time.monotonic() - began >= 0.3


def test_a_fault_for_an_unknown_call_is_a_mistake_of_the_test(core: SimulatedCore) -> None:
    for switch in (core.faults.drop_answer, core.faults.html):
        with pytest.raises(ValueError, match=r"jobs\.control\.udpate"):
            switch("jobs.control.udpate")
    with pytest.raises(ValueError, match="update"):
        core.before_answer("update", lambda _: None)
    with pytest.raises(ValueError, match="as-documented"):
        core.charging = "often"  # type: ignore[assignment]


def test_core_comes_back_at_its_old_address(core: SimulatedCore, client: Client, job_id: str) -> None:
    address = core.url
    port = int(address.rsplit(":", 1)[1])
    core.stop()
    with pytest.raises(requests.ConnectionError):
        client.retrieve(job_id)
    core.start(port)
    assert core.url == address
    assert client.retrieve(job_id).status_code == 200


# -- looking on --------------------------------------------------------------------------------------------


def test_request_and_answer_are_two_moments(core: SimulatedCore, client: Client, provider: FakeProvider) -> None:
    moments: list[tuple[str, str, str, int, tuple[str, ...]]] = []

    def watch(phase: str, exchange: Exchange) -> None:
        moments.append((phase, exchange.direction, exchange.call, exchange.status, exchange.job_ids))

    def inside(seen: Seen) -> None:
        client.update((seen.body["items"][0]["id"], {"state": "RUNNING"}))

    stop = core.on_exchange(watch)
    provider.during = inside
    job_id = core.submit(**SLEEPER)
    stop()
    client.retrieve(job_id)
    create, update = "jobs.provider.example.create", UPDATE
    assert moments == [
        ("request", "core->provider", create, 0, (job_id,)),
        ("request", "provider->core", update, 0, (job_id,)),
        ("response", "provider->core", update, 200, (job_id,)),
        ("response", "core->provider", create, 200, (job_id,)),
    ]
    assert [exchange.call for exchange in core.exchanges] == [create, update, "jobs.control.retrieve"]
    first = core.exchanges[0]
    assert (first.response, first.delivered, first.username) == ({"responses": [None]}, True, "user")
    assert core.exchanges[2].request == {"id": job_id}


def test_a_hook_runs_before_the_provider_hears_the_answer(core: SimulatedCore, client: Client, job_id: str) -> None:
    heard = threading.Event()
    before: list[tuple[int, bool]] = []
    core.wallets.set("user", 0)
    remove = core.before_answer(CHARGE, lambda exchange: before.append((exchange.status, heard.is_set())))
    client.charge(charge(job_id))
    heard.set()
    client.update((job_id, {"status": "x"}))
    remove()
    client.charge(charge(job_id))
    assert before == [(402, False)]


def test_a_failure_in_a_hook_is_not_silent(make_core: Callable[..., SimulatedCore]) -> None:
    core = make_core()
    core.before_answer(UPDATE, lambda _: pytest.fail("seen"))
    job_id = core.submit(**SLEEPER)
    assert Client(core).update((job_id, {"status": "x"})).status_code == 500
    with pytest.raises(CoreCrashError, match="seen"):
        core.stop()


def test_waiting_ends_with_the_change_and_names_the_state(core: SimulatedCore, client: Client, job_id: str) -> None:
    with pytest.raises(TimeoutError, match="IN_QUEUE"):
        core.wait(job_id, "RUNNING", 0.01)
    thread = threading.Thread(target=client.update, args=((job_id, {"state": "RUNNING"}),))
    thread.start()
    core.wait(job_id, "RUNNING", 5)
    thread.join()
    client.update((job_id, {"state": "FAILURE"}))
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="FAILURE"):
        core.wait(job_id, "SUCCESS", 5)
    assert time.monotonic() - began < 1
    core.wait_until(lambda: core.job(job_id).final, 0.1)
    with pytest.raises(TimeoutError, match="a charge"):
        core.wait_until(lambda: bool(core.job(job_id).charges), 0.01, "a charge")


def test_a_job_that_was_looked_at_does_not_change(core: SimulatedCore, client: Client, job_id: str) -> None:
    before = core.job(job_id)
    client.update((job_id, {"state": "RUNNING"}))
    client.charge(charge(job_id))
    assert (before.state, before.updates, before.charges) == ("IN_QUEUE", [], [])
    after = core.job(job_id)
    after.updates.clear()
    after.charges.clear()
    assert len(core.job(job_id).updates) == len(core.job(job_id).charges) == 1


def test_many_at_once_lose_nothing(core: SimulatedCore, client: Client) -> None:
    ids = core.submit_many([SLEEPER] * 8)
    core.wallets.set("user", 8 * 10 * PRICE)

    def work(job_id: str) -> None:
        for number in range(10):
            client.update((job_id, {"status": str(number)}))
            client.charge(charge(job_id, number))

    threads = [threading.Thread(target=work, args=(job_id,)) for job_id in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(job.updates) for job in core.jobs] == [10] * 8
    assert core.wallets.balance("user") == 0
    assert [exchange.number for exchange in core.exchanges] == list(range(161))
    assert core.protocol_errors == []


def test_an_era_can_be_varied(make_core: Callable[..., SimulatedCore], provider: FakeProvider) -> None:
    make_core(replace(CORE_2021, loses_replicas=False)).submit(**SLEEPER, replicas=2)
    assert provider.at("jobs")[0].body["items"][0]["specification"]["replicas"] == 2
