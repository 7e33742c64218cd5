"""The calls of UCloud: who gets in, what is answered, and that a bulk is all or nothing."""

import copy
import json
import logging
import re
import socket
import threading
import time
from typing import Any

import pytest
import requests
from pytest_mock import MockerFixture

from tests.conftest import World
from tests.support.factories import application, job_data, parameter, text, var, word
from ucloud_slurm.app import create_app
from ucloud_slurm.slurm.errors import SubmissionRefusedError
from ucloud_slurm.store.job_state import JobPhase
from ucloud_slurm.store.sqlite import StorageBusyError

BASE = "/ucloud/example"
ROUTES = [
    ("POST", "jobs"),
    ("POST", "jobs/terminate"),
    ("POST", "jobs/verify"),
    ("POST", "jobs/updateAcl"),
    ("GET", "jobs/retrieveProducts"),
    ("GET", "integration/retrieveManifest"),
    ("POST", "integration/init"),
    ("DELETE", "jobs"),
    ("POST", "jobs/extend"),
    ("POST", "jobs/suspend"),
    ("POST", "jobs/unsuspend"),
    ("POST", "jobs/interactiveSession"),
    ("GET", "jobs/retrieveUtilization"),
    ("POST", "jobs/init"),
    ("POST", "integration/connect"),
    ("POST", "integration/unlinked"),
    ("GET", "integration/retrieveStatus"),
    ("POST", "jobs/requestDynamicParameters"),
    ("POST", "jobs/onUpdatedLabels"),
    ("POST", "ssh/keyUploaded"),
    ("POST", "jobs/attachResource"),
    ("POST", "jobs/detachResource"),
    ("POST", "jobs/openTerminalInFolder"),
    ("GET", "files/collections/retrieveProducts"),
    ("GET", "ingresses/retrieveProducts"),
    ("GET", "networkips/retrieveProducts"),
    ("GET", "licenses/retrieveProducts"),
    ("GET", "private-networks/retrieveProducts"),
]


def post(world: World, path: str, *items: Any) -> tuple[int, Any]:
    return world.core.call("POST", f"{BASE}/{path}", {"items": list(items)})


@pytest.mark.parametrize(("verb", "path"), ROUTES)
@pytest.mark.parametrize("token", ["", "x", "provider"])
def test_no_route_answers_without_a_token_of_ucloud(world: World, verb: str, path: str, token: str) -> None:
    if token == "provider":
        token = world.core.tokens.provider_token()
    status, body = world.core.call(verb, f"{BASE}/{path}", {"items": [job_data()]}, token=token)
    assert (status, body) == (401, {"why": "Unauthenticated", "errorCode": None})
    assert world.model.counts == {}


def test_what_is_not_offered_is_refused_with_the_contracts_own_code(world: World) -> None:
    status, body = world.core.call("DELETE", f"{BASE}/jobs", {"items": [job_data()]})
    assert status == 400
    assert body["errorCode"] == "FEATURE_NOT_SUPPORTED_BY_PROVIDER"
    assert body["why"]


def test_a_trailing_slash_and_any_content_type_are_accepted(world: World) -> None:
    token = world.core.tokens.core_token()
    for path, kind in (("jobs/", "text/plain"), ("jobs", ""), ("jobs", "content-type: application/json")):
        headers = {"Authorization": f"Bearer {token}", "Content-Type": kind}
        answer = requests.post(f"{world.url}{BASE}/{path}", json.dumps({"items": [job_data()]}), headers=headers, timeout=5)
        assert answer.json() == {"responses": [{"id": "ucloud-54112"}]}


def test_welcome_is_public_and_never_takes_a_key_that_was_not_asked_for(world: World) -> None:
    message = {"token": "t", "createdProvider": {"refreshToken": "r", "publicKey": "k"}}
    status, body = world.core.call("POST", f"{BASE}/integration/welcome", message, token="")
    assert status == 400
    assert "has not asked" in body["why"]


def test_products_are_what_is_configured_and_what_is_possible(world: World) -> None:
    status, body = world.core.call("GET", f"{BASE}/jobs/retrieveProducts")
    assert status == 200
    assert [element["product"]["id"] for element in body["responses"]] == ["example-compute-1", "example-compute-4"]
    first = body["responses"][0]
    offered = {"enabled", "logs", "terminal", "timeExtension", "utilization"}
    assert not any(first["docker"].values()), "there is no runtime for images"
    assert {flag for flag, there in first["native"].items() if there} == offered
    assert not any(first["virtualMachine"].values())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"product": {"id": "none", "category": "example-compute", "provider": "example"}}, "specification.product"),
        (
            {"product": {"id": "example-compute-1", "category": "example-compute", "provider": "another"}},
            "specification.product",
        ),
        ({"timeAllocation": {"hours": 11, "minutes": 0, "seconds": 0}}, "run at most 10 hours"),
        ({"timeAllocation": {"hours": 10**9, "minutes": 0, "seconds": 0}}, "timeAllocation"),
        ({"timeAllocation": {"hours": 0, "minutes": 0, "seconds": 0}}, "timeAllocation"),
        ({"replicas": 5}, "at most 4 nodes"),
        ({"replicas": 2**40}, "at most 4 nodes"),
    ],
)
def test_what_the_cluster_cannot_give_is_refused_with_the_limit(world: World, change: dict[str, Any], words: str) -> None:
    status, body = post(world, "jobs", job_data(**change))
    assert status == 400
    assert words in body["why"]
    assert world.model.jobs == []


def test_one_bad_job_among_good_ones_refuses_the_bulk_before_anything_is_submitted(world: World) -> None:
    bad = job_data("3", replicas=99)
    status, body = post(world, "jobs", job_data("1"), job_data("2"), bad)
    assert status == 400
    assert body["why"].startswith("items[2]")
    assert world.model.jobs == []
    assert world.provider.jobs.newest(1000) == []


def test_a_refused_job_is_named_by_its_place_in_the_request(world: World) -> None:
    status, body = post(world, "jobs", job_data("1"), job_data("1"), job_data("2", replicas=99))
    assert (status, body["why"].split(":")[0]) == (400, "items[2]")


def test_a_job_of_a_bulk_that_was_taken_back_is_refused_when_it_comes_again(world: World) -> None:
    real = world.model.submit

    def refusing(submission: Any, *more: Any) -> Any:
        if submission.name == "ucloud-2":
            raise SubmissionRefusedError("Invalid qos specification")
        return real(submission, *more)

    world.model.submit = refusing  # type: ignore[method-assign, assignment]
    world.model.cancels_reach = False
    assert post(world, "jobs", job_data("1"), job_data("2"))[0] == 400
    status, body = post(world, "jobs", job_data("1"))
    assert status == 400
    assert "Job 2 of the same request" in body["why"]


def test_a_database_that_is_busy_after_the_submission_loses_nothing(world: World, mocker: MockerFixture) -> None:
    mocker.patch("ucloud_slurm.store.jobs.Jobs.submitted", side_effect=StorageBusyError("busy"))
    assert post(world, "jobs", job_data("7"))[0] == 200
    mocker.stopall()
    for _ in range(3):
        world.work(20)
    assert world.row("7").phase is JobPhase.LIVE
    assert len(world.model.of("7")) == 1


@pytest.mark.parametrize("submit_within", ["2s"])
@pytest.mark.parametrize("path", ["jobs", "jobs/terminate"])
def test_a_slow_slurm_keeps_nobody_waiting_whatever_the_number_of_jobs(world: World, path: str) -> None:
    ids = [str(number) for number in range(60)]
    if path == "jobs/terminate":
        post(world, "jobs", *(job_data(id_) for id_ in ids))
    for name in ("submit", "cancel"):
        slow_down(world, name, 0.3)
    begun = time.monotonic()
    assert post(world, path, *(job_data(id_) for id_ in ids))[0] == 200
    assert time.monotonic() - begun < 3


@pytest.mark.parametrize("submit_within", ["2s"])
def test_a_slow_ucloud_and_a_slow_slurm_together_keep_nobody_waiting(world: World) -> None:
    world.core.include_resolved = False
    for call in ("auth.providers.refresh", "jobs.control.retrieve", "products.retrieve"):
        world.core.faults.delay(call, 0.9)
    slow_down(world, "partitions", 0.9)
    slow_down(world, "submit", 0.9)
    begun = time.monotonic()
    assert post(world, "jobs", *(job_data(str(number)) for number in range(5)))[0] == 200
    assert time.monotonic() - begun < 3


def slow_down(world: World, name: str, seconds: float) -> None:
    real = getattr(world.model, name)

    def slow(*arguments: Any) -> Any:
        threading.Event().wait(seconds)
        return real(*arguments)

    setattr(world.model, name, slow)


def test_when_slurm_refuses_one_the_others_are_taken_back(world: World) -> None:
    real = world.model.submit

    def refusing(submission: Any, *more: Any) -> Any:
        if submission.name == "ucloud-2":
            raise SubmissionRefusedError("QOSMaxSubmitJobPerUserLimit")
        return real(submission, *more)

    world.model.submit = refusing  # type: ignore[method-assign, assignment]
    status, body = post(world, "jobs", job_data("1"), job_data("2"), job_data("3"))
    assert status == 429
    assert "items[1]" in body["why"]
    assert "as many jobs" in body["why"]
    world.work(1)
    world.work(1)
    assert [job.run.state_text for job in world.model.jobs] == ["CANCELLED"] * len(world.model.jobs)
    assert {row.phase for row in world.provider.jobs.newest(1000)} == {JobPhase.REFUSED}
    assert world.provider.outbox.newest(1000) == []


def test_a_refused_create_is_refused_again_when_it_is_repeated(world: World) -> None:
    world.model.refuse = "Invalid account or account/partition combination specified"
    first = post(world, "jobs", job_data())
    world.model.refuse = None
    assert post(world, "jobs", job_data()) == first
    assert first[0] == 403


def test_what_slurm_refuses_after_the_answer_is_a_failure_with_the_same_words(world: World) -> None:
    world.model.controller = False
    job_id = world.submit()
    world.model.controller = True
    world.model.refuse = "Invalid account or account/partition combination specified"
    for _ in range(4):
        world.work(20)
    assert world.told(job_id) == ["FAILURE"]
    assert "does not know the account" in world.core.job(job_id).updates[-1]["status"]


def test_create_is_accepted_while_the_controller_is_away_and_submitted_later(world: World) -> None:
    world.model.controller = False
    job_id = world.submit()
    for _ in range(4):
        world.work(20)
    world.model.controller = True
    for _ in range(4):
        world.work(20)
    assert len(world.model.of(job_id)) == 1


def test_a_job_without_an_application_or_product_is_completed_from_core(world: World) -> None:
    world.core.include_resolved = False
    job_id = world.submit()
    assert world.slurm(job_id).submission.cpus == 1


def test_a_job_is_accepted_while_core_cannot_say_what_its_application_is(world: World) -> None:
    world.core.include_resolved = False
    world.core.faults.answer("jobs.control.retrieve", 500, times=1)
    job_id = world.submit()
    assert world.model.of(job_id) == []
    world.work(20)
    assert len(world.model.of(job_id)) == 1


def test_terminate_before_the_submission_ends_the_job_without_one(world: World) -> None:
    world.model.controller = False
    job_id = world.submit()
    world.core.terminate(job_id)
    world.model.controller = True
    for _ in range(4):
        world.work(20)
    assert world.model.of(job_id) == []
    assert world.told(job_id) == ["SUCCESS"]


def test_terminate_while_the_outcome_is_unknown_is_applied_once_the_job_is_found(world: World) -> None:
    world.model.lose_answers = 1
    job_id = world.submit()
    world.core.terminate(job_id)
    for _ in range(4):
        world.work(20)
    assert world.slurm(job_id).run.state_text == "CANCELLED"
    assert world.told(job_id) == ["SUCCESS"]


def test_terminate_may_be_repeated_and_may_name_jobs_that_nobody_knows(world: World) -> None:
    job_id = world.submit()
    for _ in range(3):
        assert post(world, "jobs/terminate", job_data("999"))[0] == 200
        world.core.terminate(job_id)
        world.work(1)
    assert world.told(job_id)[0] == "SUCCESS"
    assert world.model.counts["scancel"] == 1


def test_a_job_of_another_provider_is_refused_and_nothing_is_done(world: World) -> None:
    job_id = world.submit()
    own, foreign = job_data(job_id), job_data("8")
    foreign["specification"]["product"] = {"id": "x", "category": "y", "provider": "another"}
    for path in ("jobs/terminate", "jobs/verify"):
        assert post(world, path, own, foreign)[0] == 400
    assert world.slurm(job_id).run.state_text == "PENDING"


def test_update_acl_is_acknowledged_item_by_item(world: World) -> None:
    item = {"resource": job_data(), "added": [], "deleted": [{"type": "user", "username": "x"}]}
    assert post(world, "jobs/updateAcl", item, item) == (200, {"responses": [{}, {}]})


@pytest.mark.parametrize("body", ["", "{", "[]", '{"items":[]}', '{"items":[{}]}', "\ud800"])
def test_what_cannot_be_read_is_refused_and_never_breaks_anything(world: World, body: str) -> None:
    headers = {"Authorization": f"Bearer {world.core.tokens.core_token()}"}
    for path in ("jobs", "jobs/terminate", "jobs/verify", "jobs/updateAcl", "integration/init"):
        answer = requests.post(f"{world.url}{BASE}/{path}", body.encode("utf-8", "surrogatepass"), headers=headers, timeout=5)
        assert answer.status_code == 400
        assert answer.json()["why"]


ITEMS: dict[str, dict[str, Any]] = {
    "jobs/extend": {"job": job_data(), "requestedTime": {"hours": 1, "minutes": 0, "seconds": 0}},
    "jobs/suspend": {"job": job_data()},
    "jobs/unsuspend": {"job": job_data()},
    "jobs/interactiveSession": {"job": job_data(), "rank": 0, "sessionType": "SHELL"},
    "jobs/updateAcl": {
        "resource": job_data(),
        "added": [{"entity": {"type": "user", "username": "u", "projectId": "p", "group": "g"}, "permissions": ["READ"]}],
        "deleted": [{"type": "user", "username": "u", "projectId": "p", "group": "g"}],
    },
}
_DURATION = ["requestedTime.hours", "requestedTime.minutes", "requestedTime.seconds"]
_ENTITIES = [
    f"{entity}.{field}" for entity in ("added[0].entity", "deleted[0]") for field in ("type", "username", "projectId", "group")
]
_JOBS: list[Any] = [1, "x", True, [], None]
# Call, fields, and what cannot stand there.
WRONG: list[tuple[str, list[str], list[Any]]] = [
    ("jobs/extend", _DURATION, [-1, 1.5, "1", True, [], {}, 2**63, 10**400]),
    ("jobs/extend", _DURATION[1:], [60]),
    ("jobs/extend", ["requestedTime"], [1, "1h", True, []]),
    ("jobs/extend", ["job"], _JOBS),
    ("jobs/suspend", ["job"], _JOBS),
    ("jobs/unsuspend", ["job"], _JOBS),
    ("jobs/interactiveSession", ["job"], _JOBS),
    ("jobs/interactiveSession", ["rank"], [-1, 0.5, "0", True, [], {}, None, 2**63, 10**400]),
    ("jobs/interactiveSession", ["sessionType"], ["", "shell", "SSH", 1, True, [], {}, None]),
    ("jobs/updateAcl", ["resource"], _JOBS),
    ("jobs/updateAcl", ["added", "deleted", "added[0].permissions"], [1, "x", True, {}]),
    ("jobs/updateAcl", ["added[0].permissions[0]", *_ENTITIES], [1, True, [], {}]),
    ("jobs/updateAcl", ["added[0]", "deleted[0]", "added[0].entity"], [1, "x", True, [], None]),
]


@pytest.mark.parametrize("path", ITEMS)
def test_a_wrong_type_of_any_field_of_an_item_is_named_by_its_path(world: World, path: str) -> None:
    for field, value in (
        (field, value) for call, fields, values in WRONG if call == path for field in fields for value in values
    ):
        item = copy.deepcopy(ITEMS[path])
        *way, last = [int(part) if part.isdigit() else part for part in re.findall(r"\w+", field)]
        holder: Any = item
        for part in way:
            holder = holder[part]
        holder[last] = value
        status, body = post(world, path, item)
        assert status == 400, (field, value, body)
        assert body["why"].startswith(f"items[0].{field}"), (field, value, body)
    assert world.model.counts == {}


UNUSUAL = [
    (b'{"items":' * 100_000, "not valid JSON"),
    (b"[" * 1_000_000, "not valid JSON"),
    (b'{"items":[{"a":' + b"[" * 250 + b"]" * 250 + b"}]}", "not valid JSON"),
    (b"\xef\xbb\xbf" + json.dumps({"items": [job_data()]}).encode(), "not valid JSON"),
    (b"\xff\xfe" + json.dumps({"items": [job_data()]}).encode("utf-16-le"), "not valid JSON"),
    (b'{"items":[NaN]}', "not valid JSON"),
    (b'{"items":[-Infinity]}', "not valid JSON"),
    (b'{"items":[{"id":"\\ud800"}]}', "not valid JSON"),
    (b'{"items":[{"id":"\xed\xa0\x80"}]}', "not valid JSON"),
    (b'{"items":[{"id":"5\0"}]}', "not valid JSON"),
    (b'{"items":[{"id":' + b"9" * 5000 + b"}]}", "not valid JSON"),
    (b'{"items":[{"id":' + b"9" * 4000 + b"}]}", "items[0].id: the number is too large"),
    (b'{"items":[{"id":1e999}]}', "items[0].id: the number is too large"),
    (b'{"items":[{"id":"5\\u0000"}]}', "items[0].id: "),
]


@pytest.mark.parametrize(("body", "words"), UNUSUAL, ids=range(len(UNUSUAL)))
def test_unusual_json_is_refused_by_every_call_that_takes_a_bulk(world: World, body: bytes, words: str) -> None:
    client = create_app(provider=world.provider).test_client()
    headers = {"Authorization": f"Bearer {world.core.tokens.core_token()}"}
    # Items of other calls hold the job, which is what is missed there.
    for path in ("jobs", "jobs/terminate", "jobs/verify"):
        answer = client.post(f"{BASE}/{path}", data=body, headers=headers)
        assert (answer.status_code, words in answer.text) == (400, True), answer.text
    for path in ITEMS:
        assert client.post(f"{BASE}/{path}", data=body, headers=headers).status_code == 400


def test_of_a_key_that_is_there_twice_the_last_counts(world: World) -> None:
    raw = json.dumps({"items": [job_data("1")]}).replace('"id": "1"', '"id": "x", "id": "2"')
    client = create_app(provider=world.provider).test_client()
    headers = {"Authorization": f"Bearer {world.core.tokens.core_token()}"}
    assert client.post(f"{BASE}/jobs", data=raw, headers=headers).json == {"responses": [{"id": "ucloud-2"}]}


def test_nul_in_any_text_of_a_job_is_kept_or_refused_and_never_reaches_slurm(world: World) -> None:
    for number, field in enumerate(("createdBy", "project")):
        job = job_data(str(number + 1))
        job["owner"][field] = "a\0b"
        assert post(world, "jobs", job)[0] == 200
    app = application(word("echo"), var("v"), parameters=[parameter("v")])
    assert post(world, "jobs", job_data("3", app=app, parameters={"v": text("a\0b")}))[0] == 400
    assert post(world, "jobs", job_data("4", name="a\0b"))[0] == 200
    world.work(1)
    assert len(world.model.jobs) == 3
    assert not any("\0" in str(value) for job in world.model.jobs for value in tuple(job.submission))


@pytest.mark.parametrize("path", ["jobs/terminate", "jobs/verify"])
@pytest.mark.parametrize("when", [2**63, -(2**63) - 1, 10**400])
def test_a_time_beyond_all_times_is_refused(world: World, path: str, when: int) -> None:
    status, body = post(world, path, job_data("77") | {"createdAt": when})
    assert (status, body["why"]) == (400, "items[0].createdAt: the number is too large")


@pytest.mark.parametrize("when", [2**63 - 1, -(2**63)])
def test_a_time_that_can_be_kept_is_no_obstacle(world: World, when: int) -> None:
    assert post(world, "jobs/verify", job_data("77") | {"createdAt": when})[0] == 200
    world.work(60)


def test_an_extension_beyond_all_limits_is_refused_where_slurm_has_none(world: World) -> None:
    partitions = world.model.partitions
    world.model.partitions = lambda within: [  # type: ignore[method-assign]
        partition._replace(minutes=None) for partition in partitions(within)
    ]
    item = {"job": job_data("5"), "requestedTime": {"hours": 2**63 - 1, "minutes": 0, "seconds": 0}}
    assert post(world, "jobs", item["job"])[0] == 200
    status, body = post(world, "jobs/extend", item)
    assert (status, body["why"]) == (400, "requestedTime: longer than any job may run.")


@pytest.mark.parametrize(
    ("verb", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/ucloud/other/jobs/retrieveProducts", 404),
        ("PUT", f"{BASE}/jobs", 405),
        ("GET", f"{BASE}/jobs/%2e%2e/terminate", 404),
        ("GET", "/healthz", 200),
        ("GET", "/metrics", 200),
        ("GET", "/readyz", 200),
    ],
)
def test_other_paths_and_verbs_have_plain_answers(world: World, verb: str, path: str, status: int) -> None:
    world.work()
    headers = {"Authorization": f"Bearer {world.core.tokens.core_token()}"}
    assert requests.request(verb, f"{world.url}{path}", headers=headers, timeout=5).status_code == status


def test_a_bug_is_one_line_in_the_journal_and_no_trace_leaves_the_process(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("the secret is 42")

    world.model.submit = broken  # type: ignore[method-assign,assignment]
    with caplog.at_level(logging.ERROR):
        status, body = post(world, "jobs", job_data())
    assert (status, body["why"]) == (500, "Internal error of the provider")
    assert "the secret" not in caplog.text
    assert "RuntimeError" in caplog.text


def test_no_secret_is_in_any_page_log_or_row(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        job_id = world.submit()
        world.model.begin_run(world.slurm(job_id))
        world.work(60)
    pages = "".join(requests.get(f"{world.url}/{page}", timeout=5).text for page in ("healthz", "readyz", "metrics"))
    rows = str(world.provider.store.rows("select * from jobs")) + str(world.provider.store.rows("select * from outbox"))
    for secret in (world.core.refresh_token, world.core.tokens.provider_token().split(".")[2]):
        assert secret not in caplog.text + pages + rows + world.slurm(job_id).submission.script


def test_hostile_values_reach_the_script_as_data(world: World) -> None:
    app = application(word("echo"), var("v"), parameters=[parameter("v")])
    assert post(world, "jobs", job_data("1", app=app, parameters={"v": text("$(id)")}))[0] == 200
    status, body = post(world, "jobs", job_data("2", app=app, parameters={"v": text("x\n#SBATCH --uid=0")}))
    assert status == 400
    assert "'v'" in body["why"]


def test_a_connection_that_says_nothing_holds_up_nobody(world: World) -> None:
    host, port = world.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))):
        assert post(world, "jobs", job_data())[0] == 200
