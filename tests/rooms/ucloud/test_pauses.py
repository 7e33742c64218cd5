"""UCloud is asked no more often than it wants: Retry-After, and a refresh token that it refuses."""

from collections.abc import Iterator
from email.utils import formatdate
from types import SimpleNamespace

import pytest

from tests.conftest import START, Clock
from tests.sandbox.core import SimulatedCore
from ucloud_slurm.errors import CorePausedError, CoreUnavailableError, Misconfigured
from ucloud_slurm.ucloud.core import Core
from ucloud_slurm.ucloud.gate import Call, admit
from ucloud_slurm.ucloud.pauses import (
    FIRST_REFUSAL_SECONDS,
    LONGEST_PAUSE_SECONDS,
    LONGEST_REFUSAL_SECONDS,
    OwnMemory,
    retry_after,
)

EXISTENCE, REFRESH = "providers.resources.checkExistence", "auth.providers.refresh"
TODAY = pytest.mark.parametrize("era", ["today"], scope="session")


class Asking:
    """Clients of several processes, and what they ask."""

    def __init__(self, core: SimulatedCore, clock: Clock) -> None:
        self.memory, self.secret, self.core, self.clock = OwnMemory(), core.refresh_token, core, clock
        self.opened: list[Core] = []
        self.client = self.another()

    def another(self) -> Core:
        """The client of another process."""
        client = Core(self.core.url, lambda: self.secret, now=self.clock, memory=self.memory, where="the file /etc/t")
        self.opened.append(client)
        return client

    def calls(self, name: str = EXISTENCE) -> int:
        return [exchange.call for exchange in self.core.exchanges].count(name)

    def fails(self, client: Core | None = None, timeout: float | None = None) -> str:
        request = admit(Call.CHECK_EXISTENCE, body={"items": [{"type": "job", "id": "1"}]})
        with pytest.raises(CoreUnavailableError) as error:
            (client or self.client).call(request, timeout=timeout)
        return str(error.value)


@pytest.fixture
def asking(core: SimulatedCore, clock: Clock) -> Iterator[Asking]:
    asking = Asking(core, clock)
    yield asking
    for client in asking.opened:
        client.close()


@pytest.fixture
def time_passes(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What is slept between two attempts passes by the clock of the test."""
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock.advance(seconds)

    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=sleep))
    return slept


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("3", 3.0),
        (" 3 ", 3.0),
        ("0", 0.0),
        (formatdate(START + 20, usegmt=True), 20.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_PAUSE_SECONDS),
        ("86400", LONGEST_PAUSE_SECONDS),
        ("9" * 100_000, LONGEST_PAUSE_SECONDS),
        ("-5", 0.0),
        ("3.5", 0.0),
        ("٣", 0.0),
        ("soon", 0.0),
        ("nan", 0.0),
        ("Mon, 99 Foo 2026 99:99:99 GMT", 0.0),
        ("Mon, 01 Jan 0001 00:00:00 +2300", 0.0),
        ("\x00", 0.0),
        ("", 0.0),
        (None, 0.0),
    ],
)
def test_a_pause_is_a_number_of_seconds_or_a_date_and_bounded(header: str | None, seconds: float) -> None:
    assert retry_after(header, START) == seconds


@TODAY
@pytest.mark.parametrize("status", [307, 408, 429, 500, 502, 503])
def test_in_a_pause_no_process_asks_and_after_it_all_may(asking: Asking, clock: Clock, status: int) -> None:
    asking.client.existing(["1"])
    asking.core.faults.answer(EXISTENCE, status, retry_after="60")
    assert asking.fails() == f"UCloud answered {status} and wants no call for 60 s"
    asked = asking.calls()
    clock.advance(59)
    for client in (asking.client, asking.another()):
        assert asking.fails(client) == f"UCloud answered {status} and wants no call for 1 s"
        assert asking.fails(client, timeout=1.0)
    assert asking.calls() == asked
    clock.advance(1)
    assert asking.another().existing(["1"]) == [False]


@TODAY
def test_the_end_of_a_short_pause_is_waited_for(asking: Asking, time_passes: list[float]) -> None:
    asking.core.faults.answer(EXISTENCE, 429, retry_after="3")
    assert asking.client.existing(["1"]) == [False]
    assert time_passes == [3.0]
    assert asking.calls() == 2


@TODAY
def test_who_may_not_wait_fails_at_once(asking: Asking, time_passes: list[float]) -> None:
    asking.core.faults.answer(EXISTENCE, 429, retry_after="3")
    asking.fails(timeout=1.0)
    assert (time_passes, asking.calls()) == ([], 1)


@TODAY
def test_a_refresh_of_the_token_keeps_the_pause_too(asking: Asking, clock: Clock) -> None:
    asking.core.faults.answer(REFRESH, 503, retry_after="60")
    for _ in range(3):
        asking.fails()
        with pytest.raises(CorePausedError):
            asking.client.check()
    assert (asking.calls(REFRESH), asking.calls()) == (1, 0)
    clock.advance(60)
    asking.client.check()


@TODAY
def test_a_clock_that_was_set_back_makes_no_pause_longer(asking: Asking, clock: Clock) -> None:
    asking.core.faults.answer(EXISTENCE, 429, retry_after="60")
    asking.fails()
    clock.advance(-86400)
    assert asking.client.existing(["1"]) == [False]


@TODAY
def test_a_refused_refresh_token_is_asked_with_once_and_then_less_and_less(asking: Asking, clock: Clock) -> None:
    asking.secret = "a wrong one"
    why = "UCloud refused the refresh token (401); put the right one into the file /etc/t; the next attempt is in 30 s"
    assert asking.fails() == asking.fails(asking.another()) == why
    assert asking.calls(REFRESH) == 1
    times, other = [], asking.another()
    for _ in range(480):
        clock.advance(15)
        before = asking.calls(REFRESH)
        asking.fails(other)
        asking.fails()
        if asking.calls(REFRESH) > before:
            times.append(clock() - START)
    gaps = [later - earlier for earlier, later in zip([0.0, *times], times, strict=False)]
    assert gaps[:4] == [FIRST_REFUSAL_SECONDS * 2**number for number in range(4)]
    assert set(gaps[5:]) == {LONGEST_REFUSAL_SECONDS}


@TODAY
def test_another_refresh_token_is_asked_with_at_once(asking: Asking, clock: Clock) -> None:
    asking.secret, right = "a wrong one", asking.secret
    asking.fails()
    asking.secret = right
    assert asking.client.existing(["1"]) == [False]
    asking.secret = "a wrong one"
    asking.core.tokens.revoke_access()
    clock.advance(FIRST_REFUSAL_SECONDS)
    assert "next attempt is in 30 s" in asking.fails(), "what was refused before the right one does not count"


@TODAY
def test_a_token_file_that_has_gone_is_named(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> str:
        raise Misconfigured(["ucloud.refresh_token_file: /etc/t cannot be read (No such file or directory)."])

    monkeypatch.setattr(asking.client, "_refresh_token", gone)
    assert "/etc/t cannot be read" in asking.fails()


@TODAY
def test_fresh_access_tokens_that_are_not_accepted_are_not_asked_for_again_and_again(asking: Asking, clock: Clock) -> None:
    asking.core.faults.answer(EXISTENCE, 401, {"why": "Unauthorized"}, times=1000)
    assert "is the refresh token in the file /etc/t right?" in asking.fails()
    asked = len(asking.core.exchanges)
    asking.core.tokens.revoke_access()
    for _ in range(5):
        asking.fails()
    clock.advance(FIRST_REFUSAL_SECONDS)
    asking.fails()
    clock.advance(FIRST_REFUSAL_SECONDS)
    before = asking.calls(REFRESH)
    asking.fails()
    assert asking.calls(REFRESH) == before, "the second time is longer"
    assert len(asking.core.exchanges) > asked


@TODAY
def test_an_answer_of_a_proxy_is_no_refusal(asking: Asking) -> None:
    asking.core.faults.answer(REFRESH, 404, "404 page not found")
    assert asking.client.existing(["1"]) == [False]
    assert asking.calls(REFRESH) == 2
