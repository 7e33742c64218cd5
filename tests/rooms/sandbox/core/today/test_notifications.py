"""The notification channel of Core of today."""

import json
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import Clock
from tests.rooms.sandbox.core.conftest import SLEEPER
from tests.rooms.sandbox.core.today.conftest import Provider
from tests.sandbox.core import CoreError, SimulatedCore, Socket, SocketClosedError
from tests.sandbox.core.today.records import text

PATH = "/api/accounting/notifications"


def decoded(message: bytes, with_zero: bool = False) -> Iterator[tuple[Any, ...]]:
    place = 0

    def take(form: str) -> tuple[Any, ...]:
        nonlocal place
        found = struct.unpack_from(">" + form, message, place)
        place += struct.calcsize(">" + form)
        return found

    def string() -> str:
        nonlocal place
        (length,) = take("I")
        place += length
        return message[place - length : place].decode()

    while place < len(message):
        (op,) = take("B")
        if op == 4:
            yield "user", *take("I"), string()
        elif op == 3:
            yield "category", *take("I"), json.loads(string())
        elif op == 2:
            yield "project", *take("Iq"), json.loads(string())
        else:
            assert op == 1
            yield "wallet", *take("IIqqIq"), *(take("Q") if with_zero else ())


class Listener:
    """A provider that listens."""

    def __init__(self, core: SimulatedCore, token: str | None = None, since: int = 0, flags: int = 0) -> None:
        self._with_zero = bool(flags)
        self.socket = Socket(core.url, PATH, {}, 5)
        mine = core.tokens.provider_token() if token is None else token
        self.socket.send(struct.pack(">BqQ", 0, since, flags) + text(mine))

    def hear(self) -> list[tuple[Any, ...]]:
        message = self.socket.frame(5)
        assert isinstance(message, bytes), message
        return list(decoded(message, self._with_zero))

    def replay(self, username: str) -> None:
        self.socket.send(b"\x05" + text(username))

    def silent(self) -> bool:
        return self.socket.frame(0.1) is None

    def cut(self) -> bool:
        """Whether Core ends the connection."""
        try:
            return self.socket.frame(5) == "never"
        except SocketClosedError:
            return True


@pytest.fixture
def listen(core: SimulatedCore) -> Iterator[Any]:
    opened: list[Listener] = []

    def open_(*arguments: Any, **more: Any) -> Listener:
        before = core.notifications.connected
        opened.append(Listener(core, *arguments, **more))
        if more.get("token") is None:
            core.wait_until(lambda: core.notifications.connected == before + 1)
        return opened[-1]

    yield open_
    for listener in opened:
        listener.socket.close()


def test_everything_is_told_at_once_with_its_names_before_it(core: SimulatedCore, listen: Any, clock: Clock) -> None:
    now = int(clock.time * 1000)
    core.accounts.set_quota(100, "ann#1")
    listener = listen()
    assert listener.hear() == [
        ("user", 0, "ann#1"),
        ("category", 0, core.catalogue.category("example-compute")),
        ("wallet", 0, 0, 100, 0, 0, now),
    ]
    core.accounts.set_quota(0, "ann#1")
    assert listener.hear() == [("wallet", 0, 0, 0, 0, 1, now)]  # the names are known
    core.accounts.set_quota(7, "bob#1")
    assert listener.hear() == [("user", 1, "bob#1"), ("wallet", 1, 0, 7, 0, 0, now)]
    assert core.protocol_errors == []


def test_a_project_comes_with_its_members_and_again_when_it_changes(core: SimulatedCore, listen: Any) -> None:
    core.submit(**SLEEPER, owner="ann#1", project="lab")
    listener = listen()
    project, category, wallet = listener.hear()
    assert (project[:2], category[0], wallet[:3]) == (("project", 0), "category", ("wallet", 0, 0))
    assert wallet[5] == 2  # the reference is a project's
    assert project[3]["specification"] == {"parent": None, "title": "lab", "canConsumeResources": True}
    core.directory.add_project("lab", {"ann#1": "PI", "bob#1": "USER"})
    ((kind, reference, _, content),) = listener.hear()
    assert (kind, reference) == ("project", 0)
    assert [(each["username"], each["role"]) for each in content["status"]["members"]] == [("ann#1", "PI"), ("bob#1", "USER")]
    core.directory.add_project("another")  # nobody pays with it here
    assert listener.silent()


def test_only_what_is_significant_is_told(core: SimulatedCore, client: Provider, listen: Any, clock: Clock) -> None:
    core.directory.add_user("user")
    core.accounts.set_quota(100)
    listener = listen()
    listener.hear()
    client.report(60)
    client.report(99)
    assert listener.silent()
    clock.time += 5
    client.report(100)
    assert listener.hear() == [("wallet", 0, 0, 100, 100, 1, int(clock.time * 1000))]
    client.report(101)
    assert listener.silent()
    client.report(50)
    assert listener.hear()[0][5] == 0


def test_the_channel_says_locked_only_when_nothing_is_left_to_the_last_bit(
    core: SimulatedCore, client: Provider, listen: Any
) -> None:
    core.directory.add_user("user")
    core.accounts.set_quota(100)
    listener = listen()
    listener.hear()
    assert client.report(150).json() == {"responses": [False]}
    ((_, _, _, quota, usage, flags, _),) = listener.hear()
    assert (quota, usage, flags) == (100, 150, 0)


def test_a_replay_begins_where_it_is_asked_to(core: SimulatedCore, listen: Any, clock: Clock) -> None:
    core.accounts.set_quota(1, "old#1")
    core.submit(**SLEEPER, owner="old#1", project="old")
    clock.time += 10
    core.accounts.set_quota(2, "new#1")
    listener = listen(since=int(clock.time * 1000))
    assert [record[2] for record in listener.hear() if record[0] == "user"] == ["new#1"]
    clock.time += 10
    assert listen(since=int(clock.time * 1000)).silent()
    assert core.notifications.replays == [int(clock.time * 1000) - 10_000, int(clock.time * 1000)]


def test_who_asks_for_it_gets_eight_bytes_more(core: SimulatedCore, listen: Any) -> None:
    core.accounts.set_quota(5)
    assert listen(flags=1).hear()[-1][-1] == 0
    assert len(listen(flags=1).hear()[-1]) == len(listen(flags=0).hear()[-1]) + 1


def test_the_wallets_of_a_user_and_his_projects_are_told_again(core: SimulatedCore, listen: Any) -> None:
    core.accounts.set_quota(5, "ann#1")
    core.submit(**SLEEPER, owner="ann#1", project="lab")
    core.accounts.set_quota(6, "bob#1")
    listener = listen()
    listener.hear()
    listener.replay("ann#1")
    assert {record[0] for record in listener.hear()} == {"wallet"}
    listener.replay("nobody")
    assert listener.silent()
    assert core.notifications.replayed_users == ["ann#1", "nobody"]


def test_a_bad_token_is_hung_up_on_without_a_word(core: SimulatedCore, listen: Any, clock: Clock) -> None:
    stale = core.tokens.provider_token()
    clock.time += 600
    for token in ("nonsense", stale, core.tokens.core_token()):
        assert listen(token=token).cut()
    assert (core.notifications.connected, core.protocol_errors) == (0, [])


def test_the_token_is_looked_at_once(core: SimulatedCore, listen: Any, clock: Clock) -> None:
    listener = listen()
    clock.time += 10_000
    core.accounts.set_quota(1)
    assert listener.hear()[-1][0] == "wallet"


@pytest.mark.parametrize(
    "first", [b"\x05\x00\x00\x00\x01a", b"", b"\x09", b"\x00\x00", "text", struct.pack(">BqQI", 0, 0, 0, 99)]
)
def test_who_does_not_introduce_himself_is_noted_and_hung_up_on(core: SimulatedCore, first: Any) -> None:
    with Socket(core.url, PATH, {}, 5) as socket:
        socket.send(first)
        with pytest.raises(SocketClosedError):
            socket.frame(5)
    core.wait_until(lambda: len(core.protocol_errors) == 1)


def test_a_foreign_origin_is_refused(core: SimulatedCore) -> None:
    with pytest.raises(CoreError, match="403"):
        Socket(core.url, PATH, {"Origin": b"http://elsewhere"}, 5)
    Socket(core.url, PATH, {"Origin": core.url.encode()}, 5).close()
    assert len(core.protocol_errors) == 1


def test_core_can_be_silent_say_nonsense_and_hang_up(core: SimulatedCore, listen: Any) -> None:
    listener = listen()
    core.notifications.silence()
    core.accounts.set_quota(1)
    assert listener.silent()
    core.notifications.silence(False)
    core.notifications.garbage(b"\xff")
    assert listener.socket.frame(5) == b"\xff"
    core.notifications.drop()
    assert listener.cut()
    core.wait_until(lambda: core.notifications.connected == 0)


def test_core_that_stops_hangs_up_and_an_outage_lets_nobody_in(core: SimulatedCore, listen: Any) -> None:
    core.faults.outage()
    with pytest.raises(CoreError, match="503"):
        Socket(core.url, PATH, {}, 5)
    core.faults.outage(False)
    listener = listen()
    core.stop()
    assert listener.cut()


def test_there_is_no_channel_in_older_eras(make_core: Any) -> None:
    core = make_core()
    with pytest.raises(CoreError, match="404"):
        Socket(core.url, PATH, {}, 5)


def test_a_wallet_that_nobody_granted_is_not_told(core: SimulatedCore, client: Provider, listen: Any) -> None:
    core.directory.add_user("user")
    client.report(5)
    listener = listen()
    assert listener.silent()
    core.accounts.set_quota(9)
    assert listener.hear()[-1][3:5] == (9, 5)
