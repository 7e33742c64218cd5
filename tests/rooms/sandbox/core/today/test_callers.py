"""Tokens, headers and answers of today."""

import base64
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest

from tests.conftest import Clock
from tests.rooms.sandbox.core.conftest import SLEEPER, FakeProvider
from tests.rooms.sandbox.core.today.conftest import Provider
from tests.sandbox.core import CORE_TODAY, CoreError, SimulatedCore


def test_the_claims_are_these_and_no_others(core: SimulatedCore) -> None:
    options: Any = {"verify_exp": False, "verify_iat": False}
    claims = jwt.decode(core.tokens.core_token(), core.public_key_pem, ["RS256"], options, audience="all:write")
    assert claims == {
        "role": "SERVICE",
        "principalType": "service",
        "sub": "_UCloud",
        "iss": "cloud.sdu.dk",
        "aud": ["all:write"],
        "iat": 1_633_329_776,
        "exp": 1_633_329_776 + 600,
    }


def test_a_stale_malformed_or_missing_token_is_a_403_before_the_body_is_read(
    core: SimulatedCore, client: Provider, clock: Clock
) -> None:
    good = core.tokens.provider_token()
    for token in (None, "nonsense", core.tokens.core_token()):
        answer = client.send("POST", "/api/jobs/control/update", token, data=b"{")
        assert answer.status_code == 403
        assert answer.json() == {"statusCode": 403, "why": "Forbidden", "errorCode": "", "detailedCode": 0}
    clock.time += 599
    assert client.send("GET", "/api/jobs/control/browse", good).status_code == 200
    clock.time += 1
    assert client.send("GET", "/api/jobs/control/browse", good).status_code == 403
    assert core.protocol_errors == []


def test_a_token_of_another_provider_is_bad_and_role_and_audience_do_not_matter(core: SimulatedCore, client: Provider) -> None:
    def answer(**claims: Any) -> Any:
        return client.send("GET", "/api/jobs/control/browse", core.tokens.provider_token(**claims))

    assert (answer(sub="#P_other").status_code, answer(sub="#P_other").json()["why"]) == (403, "Bad token supplied")
    assert (answer(sub="user").status_code, answer(sub="user").json()["why"]) == (403, "Forbidden")
    assert answer(role="USER", aud="other").status_code == 200


def test_an_unknown_refresh_token_is_a_401(core: SimulatedCore, client: Provider) -> None:
    def refresh(token: str) -> Any:
        return client.post("/auth/providers/refresh", {"items": [{"refreshToken": token}]}, None)

    (made,) = refresh(core.refresh_token).json()["responses"]
    assert made["csrfToken"] == ""
    assert client.send("GET", "/api/jobs/control/browse", made["accessToken"]).status_code == 200
    assert refresh("unknown").status_code == 401


def test_calls_have_no_content_type_and_always_a_body(core: SimulatedCore, provider: FakeProvider) -> None:
    job_id = core.submit(**SLEEPER, owner="Jørgen#1234")
    core.terminate(job_id)
    core.poll()
    for seen in provider.seen:
        assert "Content-Type" not in seen.headers
        assert "Job-Id" not in seen.headers
        assert seen.headers["Authorization"].startswith("Bearer ey")
    create, terminate, *polls = provider.seen
    name = base64.b64encode("Jørgen#1234".encode()).decode()
    assert [seen.headers["Ucloud-Username"] for seen in (create, terminate)] == [name, name]
    assert isinstance(create.body["items"], list)
    assert all("Ucloud-Username" not in seen.headers for seen in polls)
    assert all(seen.query == "" for seen in polls)


@pytest.mark.parametrize("status", [449, 503])
def test_an_unknown_user_is_introduced_five_times_and_then_told_the_last_answer(
    core: SimulatedCore, provider: FakeProvider, status: int
) -> None:
    provider.answer("jobs", *[(status, {"why": "not yet"})] * 7)
    provider.answer("integration/init", *[(500, "no JSON")] * 5)  # it does not matter
    with pytest.raises(CoreError, match="not yet") as refused:
        core.submit(**SLEEPER)
    assert refused.value.status == status
    assert (len(provider.at("jobs")), len(provider.at("integration/init"))) == (6, 5)
    assert core.jobs == []


def test_between_two_tries_there_is_half_a_second() -> None:
    assert CORE_TODAY.repeat_wait == 0.5


@pytest.mark.parametrize("said", ["", "fine", "[]", '"ok"', {"responses": {}}, {"responses": ["x"]}])
def test_a_success_that_is_not_json_of_its_type_is_a_502(core: SimulatedCore, provider: FakeProvider, said: Any) -> None:
    job_id = core.submit(**SLEEPER)
    provider.answer("jobs/terminate", (200, said))
    with pytest.raises(CoreError) as refused:
        core.terminate(job_id)
    assert refused.value.status == 502
    assert len(core.protocol_errors) == 1


@pytest.mark.parametrize("said", [{}, {"responses": [{}]}, {"responses": [None]}, {"responses": None}, "null"])
def test_a_bulk_of_nothing_may_be_empty(core: SimulatedCore, provider: FakeProvider, said: Any) -> None:
    job_id = core.submit(**SLEEPER)
    provider.answer("jobs/terminate", (200, said))
    core.terminate(job_id)
    assert core.protocol_errors == []


def test_who_takes_longer_than_the_limit_has_not_answered_and_is_not_asked_again(
    make_core: Callable[..., SimulatedCore], provider: FakeProvider
) -> None:
    core = make_core(CORE_TODAY, timeout=0.1)
    provider.during = lambda _: time.sleep(0.3)
    with pytest.raises(CoreError) as slow:
        core.submit(**SLEEPER)
    assert slow.value.status == 502
    assert core.jobs == []
    assert len(provider.at("jobs")) == 1


def test_jobs_are_created_one_at_a_time(core: SimulatedCore, provider: FakeProvider) -> None:
    kept, _ = core.submit_many([SLEEPER, SLEEPER])
    assert [len(seen.body["items"]) for seen in provider.at("jobs")] == [1, 1]
    provider.answer("jobs", (200, {"responses": [{"id": "a"}]}), (400, {"why": "no"}))
    with pytest.raises(CoreError, match="no"):
        core.submit_many([SLEEPER, SLEEPER])
    assert [job.provider_generated_id for job in core.jobs] == [None, None, "a"]
    core.terminate(kept, core.jobs[1].id)
    assert [len(seen.body["items"]) for seen in provider.at("jobs/terminate")] == [2]


def test_what_core_does_not_do_any_more_is_a_404(core: SimulatedCore, provider: FakeProvider) -> None:
    job_id = core.submit(**SLEEPER)
    before = len(provider.seen)
    for call in (
        lambda: core.verify(job_id),
        lambda: core.update_acl(job_id, added=[]),
        lambda: core.retrieve_utilization(job_id),
        lambda: core.init_resource("user"),
    ):
        with pytest.raises(CoreError) as missing:
            call()
        assert missing.value.status == 404
    assert len(provider.seen) == before
