"""Who may call Core, and how Core says who it is."""

import base64
from collections.abc import Callable
from typing import Any

import jwt
import pytest
import requests

from tests.conftest import Clock
from tests.rooms.sandbox.core.conftest import SLEEPER, Client, FakeProvider
from tests.sandbox.core import CORE_2021, CORE_2022, CoreEra, CoreError, SimulatedCore


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


@pytest.mark.parametrize(
    ("era", "header"), [(CORE_2021, "Jørgen#1234"), (CORE_2022, base64.b64encode("Jørgen#1234".encode()).decode())]
)
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
def test_an_unknown_user_is_introduced_and_the_call_repeated(core: SimulatedCore, provider: FakeProvider, status: int) -> None:
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
