"""How people come to a provider and leave it."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.rooms.sandbox.core.conftest import Client, FakeProvider
from tests.sandbox.core import CORE_2021, CORE_2022, CoreError, SimulatedCore

APPROVE = "/api/providers/integration/control/approveConnection"
ENABLED = (200, {"enabled": True})


@pytest.mark.parametrize(
    ("said", "sent"),
    [
        ("/ucloud/example/integration/page?token=a", "{url}/ucloud/example/integration/page?token=a"),
        ("page", "{url}/page"),
        ("https://login.example.com/?token=a", "https://login.example.com/?token=a"),
    ],
)
def test_a_user_who_connects_is_sent_to_a_whole_address(
    core: SimulatedCore, provider: FakeProvider, said: str, sent: str
) -> None:
    provider.answer("integration/retrieveManifest", ENABLED)
    provider.answer("integration/connect", (200, {"redirectTo": said}))
    assert core.connect_user("new#1") == sent.format(url=provider.url)
    (seen,) = provider.at("integration/connect")
    assert (seen.method, seen.body) == ("POST", {"username": "new#1"})
    assert "Ucloud-Username" not in seen.headers
    assert core.protocol_errors == []


@pytest.mark.parametrize("manifest", [(200, {"enabled": False}), (404, {"why": "Not found"})])
def test_nobody_connects_with_a_provider_that_is_not_for_it(core: SimulatedCore, provider: FakeProvider, manifest: Any) -> None:
    provider.answer("integration/retrieveManifest", manifest)
    with pytest.raises(CoreError) as refused:
        core.connect_user("new#1")
    assert refused.value.status == 400
    assert provider.at("integration/connect") == []
    assert core.protocol_errors == []


def test_a_refused_connection_says_why(core: SimulatedCore, provider: FakeProvider) -> None:
    provider.answer("integration/retrieveManifest", ENABLED)
    provider.answer("integration/connect", (400, {"why": "Unknown user"}))
    with pytest.raises(CoreError, match="Unknown user") as refused:
        core.connect_user("new#1")
    assert refused.value.status == 502


def test_answers_about_connections_that_cannot_be_read_are_noted(core: SimulatedCore, provider: FakeProvider) -> None:
    provider.answer("integration/retrieveManifest", (200, {"enabled": "yes"}), ENABLED)
    provider.answer("integration/connect", (200, {"redirectTo": None}))
    statuses = []
    for _ in range(2):
        with pytest.raises(CoreError) as refused:
            core.connect_user("new#1")
        statuses.append(refused.value.status)
    assert statuses == [400, 502]
    assert core.protocol_errors == [
        "example.im.retrieveManifest: enabled is neither true nor false",
        "example.im.connect: the answer has no redirectTo",
    ]


@pytest.mark.parametrize(("answer", "stays"), [((200, ""), False), ((400, {}), False), ((500, {}), True)])
def test_a_connection_is_given_up_unless_the_provider_is_away(
    make_core: Callable[..., SimulatedCore], provider: FakeProvider, answer: Any, stays: bool
) -> None:
    core = make_core(CORE_2022)
    Client(core).send("POST", APPROVE, json={"username": "old#1"})
    provider.answer("integration/unlinked", answer)
    if answer[0] == 200:
        core.unlink("old#1")
    else:
        with pytest.raises(CoreError):
            core.unlink("old#1")
    assert provider.at("integration/unlinked")[0].body == {"username": "old#1"}
    assert ("old#1" in core.connected) is stays


def test_an_owner_is_announced_with_the_workspace_and_as_the_acting_user(
    make_core: Callable[..., SimulatedCore], provider: FakeProvider
) -> None:
    core = make_core(CORE_2022)
    provider.answer("jobs/init", (449, {}))
    core.init_resource("new#1", "lab")
    core.init_resource("old#1")
    first, again, other = provider.at("jobs/init")
    assert first.body == again.body == {"principal": {"createdBy": "new#1", "project": "lab"}}
    assert other.body == {"principal": {"createdBy": "old#1", "project": None}}
    assert first.headers["Ucloud-Username"] == "bmV3IzE="
    assert provider.at("integration/init")[0].body == {"username": "new#1"}


def test_core_of_2021_announces_nobody_and_tells_of_no_end(
    make_core: Callable[..., SimulatedCore], provider: FakeProvider
) -> None:
    core = make_core(CORE_2021)
    for call in (core.unlink, core.init_resource):
        with pytest.raises(CoreError) as missing:
            call("user")
        assert missing.value.status == 404
    assert provider.seen == []
