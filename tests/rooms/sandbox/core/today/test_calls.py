"""The calls that Core of today makes besides create."""

import time
from typing import Any

import pytest

from tests.rooms.sandbox.core.conftest import SLEEPER, FakeProvider, Json
from tests.rooms.sandbox.core.today.conftest import Provider
from tests.sandbox.core import CoreError, SimulatedCore

ENABLED = (200, {"enabled": True, "expireAfterMs": None})
HERE = "https://example.com/"
WEB: Json = {"type": "web", "jobId": "54112", "rank": 0, "domainOverride": "", "redirectClientTo": f"{HERE}x"}


@pytest.fixture
def job_id(core: SimulatedCore) -> str:
    return core.submit(**SLEEPER)


def test_a_round_of_polling_asks_eight_things(core: SimulatedCore, provider: FakeProvider) -> None:
    for path in ("files/collections/retrieveProducts", "provider/branding/retrieveInfo"):
        provider.answer(path, (404, "Not found"))
    provider.answer("integration/retrieveManifest", ENABLED)
    core.poll()
    assert [(seen.method, seen.path.removeprefix("/ucloud/example/")) for seen in provider.seen] == [
        ("GET", "jobs/retrieveProducts"),
        ("GET", "integration/retrieveManifest"),
        ("GET", "files/collections/retrieveProducts"),
        ("GET", "ingresses/retrieveProducts"),
        ("GET", "networkips/retrieveProducts"),
        ("GET", "licenses/retrieveProducts"),
        ("GET", "private-networks/retrieveProducts"),
        ("GET", "provider/branding/retrieveInfo"),
    ]
    assert (core.manifest.enabled, core.protocol_errors) == (True, [])


def test_a_slow_list_and_one_that_is_refused_are_noted(core: SimulatedCore, provider: FakeProvider) -> None:
    core.polling.quick_seconds = 0.1
    provider.answer("integration/retrieveManifest", ENABLED)
    provider.answer("networkips/retrieveProducts", (403, {"why": "Forbidden"}))
    provider.during = lambda seen: time.sleep(0.15) if "licenses" in seen.path else None
    core.poll()
    refused, slow = core.protocol_errors
    assert refused == "networkips.provider.example.retrieveProducts: answered with 403; say 404 for what is not there"
    assert slow.startswith("licenses.provider.example.retrieveProducts: took 0.")


def test_a_manifest_with_an_expiry_is_noted_and_none_is_not_connected(core: SimulatedCore, provider: FakeProvider) -> None:
    provider.answer("integration/retrieveManifest", (200, {"enabled": False, "expireAfterMs": 5}), (404, {}))
    core.poll()
    assert (core.manifest.enabled, core.is_connected("anybody")) == (False, True)
    core.poll()
    assert (core.manifest.enabled, core.is_connected("anybody")) == (None, False)
    assert len(core.protocol_errors) == 1


def test_a_user_with_a_wallet_connects_and_is_sent_to_the_address_as_it_is(
    core: SimulatedCore, client: Provider, provider: FakeProvider
) -> None:
    provider.answer("integration/retrieveManifest", ENABLED)
    provider.answer(
        "integration/connect", (200, {"redirectTo": HERE}), (200, {"redirectTo": "/page"}), (400, {"why": "Unknown user"})
    )
    assert core.connect_user("new#1") == HERE
    assert core.protocol_errors == []
    assert core.connect_user("new#1") == "/page"
    assert core.protocol_errors == ["example.im.connect: redirectTo is not an absolute address"]
    with pytest.raises(CoreError, match="400: Unknown user"):
        core.connect_user("new#1")
    client.post("/api/providers/integration/control/approveConnection", {"username": "new#1"})
    with pytest.raises(CoreError, match="already"):
        core.connect_user("new#1")
    core.accounts.automatic = False
    with pytest.raises(CoreError, match="403"):
        core.connect_user("poor#1")


@pytest.mark.parametrize(("answer", "stays"), [((200, {}), False), ((200, ""), True), ((400, {}), True), ((500, {}), True)])
def test_a_provider_that_minds_keeps_the_link(core: SimulatedCore, provider: FakeProvider, answer: Any, stays: bool) -> None:
    core.directory.connect("user")
    provider.answer("integration/unlinked", answer)
    if stays:
        with pytest.raises(CoreError):
            core.unlink("user")
    else:
        core.unlink("user")
    assert ("user" in core.connected) is stays
    assert "Ucloud-Username" not in provider.at("integration/unlinked")[0].headers


def test_items_of_suspend_and_extend_have_the_job_in_them(core: SimulatedCore, provider: FakeProvider, job_id: str) -> None:
    core.suspend(job_id)
    core.unsuspend(job_id)
    core.extend(job_id, 90)
    for path in ("suspend", "unsuspend", "extend"):
        assert provider.at(f"jobs/{path}")[0].body["items"][0]["job"]["id"] == job_id
    assert core.job(job_id).time_allocation == 600_000
    assert core.protocol_errors == []


@pytest.mark.parametrize(
    ("session", "sentence"),
    [
        (WEB, None),
        (WEB | {"redirectClientTo": "/x"}, "redirectClientTo is not an absolute address"),
        (WEB | {"redirectClientTo": "ftp://x/"}, "redirectClientTo is not an absolute address"),
    ],
)
def test_the_page_of_a_session_is_absolute(
    core: SimulatedCore, provider: FakeProvider, job_id: str, session: Json, sentence: str | None
) -> None:
    provider.answer("jobs/interactiveSession", (200, {"responses": [session]}))
    assert core.open_session(job_id, 0, "WEB", target="x") == session
    assert provider.at("jobs/interactiveSession")[0].body["items"][0]["target"] == "x"
    call = "jobs.provider.example.openInteractiveSession"
    assert core.protocol_errors == ([] if sentence is None else [f"{call}: {sentence}"])


@pytest.mark.parametrize("said", [{}, {"responses": [None]}, {"responses": []}])
def test_a_session_must_be_there(core: SimulatedCore, provider: FakeProvider, job_id: str, said: Json) -> None:
    provider.answer("jobs/interactiveSession", (200, said))
    with pytest.raises(CoreError) as missing:
        core.open_session(job_id)
    assert missing.value.status == 502
    assert core.protocol_errors != []


def test_a_shell_is_opened_where_the_session_says_with_its_name_in_the_address(
    core: SimulatedCore, provider: FakeProvider, job_id: str
) -> None:
    here = {"type": "shell", "jobId": job_id, "rank": 0, "domainOverride": provider.url, "sessionIdentifier": "s&1"}
    core.connect("http://127.0.0.1:1")
    provider.waiting["/ucloud/example/websocket"] = [(418, {})]
    with pytest.raises(CoreError, match="418"):
        core.shell(here, user="user")
    (seen,) = provider.at("websocket")
    assert seen.query == "session=s%261&usernameHint=dXNlcg%3D%3D"
    assert "Authorization" not in seen.headers


def test_a_folder_has_a_shell_too(core: SimulatedCore, provider: FakeProvider) -> None:
    session = {"type": "shell", "jobId": "", "rank": 0, "domainOverride": "", "sessionIdentifier": "x"}
    provider.answer("jobs/openTerminalInFolder", (200, {"responses": [session]}))
    assert core.open_terminal("/1/data") == session
    assert provider.at("jobs/openTerminalInFolder")[0].body == {"items": [{"folder": "/1/data"}]}
    assert core.protocol_errors == []


def test_a_resource_is_attached_to_a_running_job_when_the_provider_agrees(
    core: SimulatedCore, client: Provider, provider: FakeProvider, job_id: str
) -> None:
    folder = {"type": "file", "path": "/1"}
    with pytest.raises(CoreError, match="not running"):
        core.attach(job_id, folder)
    client.update((job_id, {"state": "RUNNING"}))
    provider.answer("jobs/attachResource", (400, {"why": "no"}))
    with pytest.raises(CoreError, match="no"):
        core.attach(job_id, folder)
    assert core.job(job_id).specification["resources"] == []
    core.attach(job_id, folder)
    assert core.job(job_id).specification["resources"] == [folder]
    body = provider.at("jobs/attachResource")[1].body
    assert (body["job"]["id"], body["resource"]["path"], len(body["resource"])) == (job_id, "/1", 15)
    core.detach(job_id, folder)
    assert core.job(job_id).specification["resources"] == []


def test_labels_do_not_need_a_provider_that_knows_them(core: SimulatedCore, provider: FakeProvider, job_id: str) -> None:
    provider.answer("jobs/onUpdatedLabels", (200, {}), (404, {}), (500, {"why": "broken"}))
    for number in range(2):
        core.set_labels(job_id, {"n": str(number)})
        assert core.job(job_id).specification["labels"] == {"n": str(number)}
    with pytest.raises(CoreError, match="broken"):
        core.set_labels(job_id, {"n": "2"})
    assert core.job(job_id).specification["labels"] == {"n": "1"}
    (job,) = provider.at("jobs/onUpdatedLabels")[0].body["items"]
    assert job["specification"]["labels"] == {"n": "0"}


def test_a_key_is_told_with_all_the_others_and_a_refusal_is_not_minded(core: SimulatedCore, provider: FakeProvider) -> None:
    core.upload_key("user", "one", "ssh-rsa A")
    provider.answer("ssh/keyUploaded", (500, {}))
    core.upload_key("user", "two", "ssh-rsa B")
    body = provider.at("ssh/keyUploaded")[1].body
    assert body["username"] == "user"
    assert [key["specification"]["title"] for key in body["allKeys"]] == ["one", "two"]
    assert body["allKeys"][0].keys() == {"id", "owner", "createdAt", "fingerprint", "specification"}
