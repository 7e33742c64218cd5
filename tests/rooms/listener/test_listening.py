"""The channel is heard for ever; whatever happens to a connection, nothing that was said is lost."""

import logging
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from wsproto.events import BytesMessage, CloseConnection

from tests.conftest import START, Clock, World
from tests.rooms.listener import records
from tests.rooms.listener.conftest import running
from tests.rooms.listener.server import ChannelServer
from tests.sandbox.processes import wait_until
from tests.support.tls import certificate
from ucloud_slurm.errors import CorePausedError
from ucloud_slurm.listener.connection import ChannelUnavailableError
from ucloud_slurm.listener.listening import LONGEST_PAUSE_SECONDS, Listener
from ucloud_slurm.listener.pulse import Pulse
from ucloud_slurm.listener.settings import Settings
from ucloud_slurm.slurm.states import SlurmState
from ucloud_slurm.store.breaker import CHANNEL, UCLOUD, CircuitBreaker
from ucloud_slurm.store.caches import MemoryInStore
from ucloud_slurm.store.sqlite import Store
from ucloud_slurm.store.wallets import REPLAY_MARGIN_SECONDS, Wallets
from ucloud_slurm.ucloud.channel import OwnerKind, Payer
from ucloud_slurm.ucloud.pauses import Pauses
from ucloud_slurm.worker.run import Result, run_once

MARGIN_MS = int(REPLAY_MARGIN_SECONDS * 1000)
QUICK = partial(Pulse, every=0.05, patience=10.0, quiet=0.0)  # all is settled with the first answer
NEVER = partial(Pulse, every=0.05, patience=10.0, quiet=1e9)
HASTY = partial(Pulse, every=0.05, patience=0.1, quiet=1e9)


class _Enough(Exception):
    """The test is over."""


@dataclass
class Hearing:
    """A listener in a thread, and what it did."""

    server: ChannelServer
    store: Store
    wallets: Wallets
    breaker: CircuitBreaker
    changes: list[object] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    over: bool = False
    refusal: str | None = None
    tokens: int = 0
    reopened: list[float] = field(default_factory=list)
    called: Callable[[], object] = int

    def start(self, now: Callable[[], float], pulse: Callable[[float], Pulse], ca_file: Path | None = None) -> None:
        settings = Settings(
            url=self.server.url,
            ca_file=str(ca_file) if ca_file else None,
            timeout=10.0,
            provider="example",
            database=str(self.store.path),
            config="/nowhere",
        )
        listener = Listener(
            settings,
            self.wallets,
            self.breaker,
            Pauses(MemoryInStore(self.store), now),
            token=self.token,
            changed=self.changed,
            reopened=self.reopened.append,
            now=now,
            pulse=pulse,
            sleep=self.sleep,
        )
        threading.Thread(target=self.run, args=(listener,), daemon=True).start()

    def run(self, listener: Listener) -> None:
        try:
            listener.run()
        except _Enough:
            self.store.close()
            self.pauses.append(-1.0)

    def changed(self) -> None:
        self.changes.append(self.called())

    def token(self) -> str:
        self.tokens += 1
        if self.refusal:
            raise ChannelUnavailableError(self.refusal)
        return "a-token"

    def ended(self) -> bool:
        return self.pauses[-1:] == [-1.0]

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        if self.over:
            raise _Enough

    def knows(self, username: str) -> None:
        wait_until(f"{username} is known", lambda: self.wallets.named_user(username) is not None, seconds=10)

    def locked(self, *names: str) -> bool:
        return self.wallets.all_locked() == {Payer(OwnerKind.USER, name, "example-compute") for name in names}


Hear = Callable[..., Hearing]


@pytest.fixture
def hear(tmp_path: Path, clock: Clock) -> Iterator[Hear]:
    started: list[Hearing] = []

    def start(
        pulse: Callable[[float], Pulse] = QUICK, ca_file: Path | None = None, server: ChannelServer | None = None
    ) -> Hearing:
        store = Store(tmp_path / "test.db")
        hearing = Hearing(server or ChannelServer(), store, Wallets(store), CircuitBreaker(store))
        started.append(hearing)
        hearing.start(clock, pulse, ca_file)
        return hearing

    yield start
    for hearing in started:
        hearing.over = True
        hearing.server.close()
        wait_until("the listener has ended", hearing.ended, seconds=10)
        hearing.store.close()


# ---- what is heard


def test_a_connection_begins_with_the_token_and_names_no_origin(hear: Hear) -> None:
    peer = hear().server.accept()
    assert (peer.token, peer.replay_from) == ("a-token", 0)
    assert peer.request is not None
    assert peer.request.target == "/api/accounting/notifications"
    assert {name.lower() for name, _ in peer.request.extra_headers}.isdisjoint({b"origin", b"authorization"})


def test_locks_and_unlocks_are_written_and_the_worker_is_called_for_each(hear: Hear) -> None:
    hearing = hear()
    peer = hearing.server.accept()
    peer.say(records.of_user("Ada#1", locked=True), records.of_user("Bob#1", locked=False))
    hearing.knows("Bob#1")
    assert hearing.locked("Ada#1")
    assert len(hearing.changes) == 1
    peer.say(records.wallet(0, locked=True), records.user(1, "Cleo#1"))
    hearing.knows("Cleo#1")
    assert hearing.locked("Ada#1", "Bob#1")
    assert len(hearing.changes) == 2


def test_a_wallet_that_is_said_again_calls_no_worker(hear: Hear) -> None:
    hearing = hear()
    peer = hearing.server.accept()
    peer.say(*[records.of_user("Ada#1", locked=True)] * 3, records.user(1, "Bob#1"))
    hearing.knows("Bob#1")
    assert len(hearing.changes) == 1


def test_a_message_in_many_pieces_is_one(hear: Hear) -> None:
    hearing = hear()
    peer = hearing.server.accept()
    message = records.of_user("Ada#1", locked=True)
    for number in range(len(message)):
        peer.send(BytesMessage(message[number : number + 1], message_finished=number == len(message) - 1))
    hearing.knows("Ada#1")
    assert hearing.locked("Ada#1")


# ---- what was said is not lost


def test_after_a_reconnect_ucloud_is_asked_from_shortly_before_what_was_handled(hear: Hear) -> None:
    hearing = hear()
    peer = hearing.server.accept()
    peer.say(records.of_user("Ada#1", locked=True, at=records.NOW_MS - 5000))
    wait_until("the time is kept", lambda: hearing.wallets.replay_from() > 0, seconds=10)
    peer.drop()
    assert hearing.server.accept().replay_from == records.NOW_MS - 5000 - MARGIN_MS


def test_what_ucloud_had_not_said_yet_is_asked_for_again(hear: Hear) -> None:
    """It says old things in any order: the newest one first is no sign that the others have been said."""
    hearing = hear(NEVER)
    peer = hearing.server.accept()
    peer.say(records.of_user("Ada#1", locked=True))
    hearing.knows("Ada#1")
    peer.drop()
    again = hearing.server.accept()
    assert again.replay_from == 0
    again.say(records.of_user("Bob#1", locked=True, at=1))
    hearing.knows("Bob#1")
    assert hearing.locked("Ada#1", "Bob#1")


def test_a_time_that_has_not_come_yet_leaves_nothing_out(hear: Hear) -> None:
    hearing = hear()
    peer = hearing.server.accept()
    peer.say(records.of_user("Ada#1", locked=True, at=2**62))
    wait_until("the time is kept", lambda: hearing.wallets.replay_from() > 0, seconds=10)
    peer.drop()
    assert hearing.server.accept().replay_from == int((START - REPLAY_MARGIN_SECONDS) * 1000)


@pytest.mark.parametrize(
    "garbage", [b"\x09nonsense", records.of_user("Bob#1", locked=True)[:-1], records.wallet(3), b"\4\0\0\0\1\xff\xff\xff\xff"]
)
def test_garbage_costs_a_connection_and_nothing_that_was_said(
    hear: Hear, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    hearing = hear(NEVER)
    with caplog.at_level(logging.WARNING, "ucloud_slurm"):
        peer = hearing.server.accept()
        peer.say(records.of_user("Ada#1", locked=True), garbage)
        again = hearing.server.accept()
    lines = [entry.getMessage() for entry in caplog.records if entry.levelno >= logging.WARNING]
    assert len(lines) == 1
    assert lines[0].startswith("A message of UCloud's ")
    assert again.replay_from == 0
    assert hearing.locked("Ada#1")
    again.say(records.of_user("Bob#1", locked=True))
    hearing.knows("Bob#1")
    assert hearing.locked("Ada#1", "Bob#1")


def test_text_and_what_is_no_websocket_cost_a_connection_too(hear: Hear) -> None:
    hearing = hear()
    hearing.server.accept().say_text("hello")
    hearing.server.accept().socket.sendall(b"\xff" * 100)
    hearing.server.accept().say(records.user(0, "Ada#1"))
    hearing.knows("Ada#1")


def test_a_message_that_cannot_be_written_is_asked_for_again(hear: Hear, monkeypatch: pytest.MonkeyPatch) -> None:
    hearing = hear()
    take = hearing.wallets.take

    def broken(*arguments: object, **more: object) -> bool:
        monkeypatch.setattr(hearing.wallets, "take", take)
        raise OSError("the disk is gone")

    peer = hearing.server.accept()
    monkeypatch.setattr(hearing.wallets, "take", broken)
    peer.say(records.of_user("Ada#1", locked=True))
    again = hearing.server.accept()
    assert again.replay_from == 0
    again.say(records.of_user("Ada#1", locked=True))
    hearing.knows("Ada#1")
    assert hearing.locked("Ada#1")


# ---- connections that end


def test_after_a_proper_end_it_is_back_within_five_seconds(hear: Hear) -> None:
    hearing = hear()
    peer = hearing.server.accept()
    for _ in range(3):
        peer.say(records.user(0, "Ada#1"))
        peer.say_goodbye()
        peer = hearing.server.accept()
    assert len(hearing.pauses) == 3
    assert all(1 <= seconds <= 5 for seconds in hearing.pauses)


def test_what_came_just_before_the_end_is_heard(hear: Hear) -> None:
    hearing = hear()
    peer = hearing.server.accept()
    peer.send(BytesMessage(records.of_user("Ada#1", locked=True)), CloseConnection(1000))
    hearing.server.accept()
    assert hearing.locked("Ada#1")


def test_a_connection_that_does_not_answer_is_dead(hear: Hear) -> None:
    server = ChannelServer()
    server.silent = True
    hearing = hear(HASTY, server=server)
    server.accept()
    server.accept()
    reason = hearing.breaker.of(CHANNEL).reason
    assert "does not answer pings" in reason


def test_who_is_sent_away_at_once_comes_back_ever_later_and_the_health_page_says_why(hear: Hear) -> None:
    """UCloud ends the connection without a word when it does not take the token."""
    server = ChannelServer()
    server.silent = True
    hearing = hear(server=server)
    for _ in range(8):
        server.accept().drop()
    wait_until("it has failed", lambda: len(hearing.pauses) >= 8, seconds=10)
    assert hearing.pauses[0] <= 2
    assert hearing.pauses[7] >= 30
    assert "is our access token refused?" in hearing.breaker.of(CHANNEL).reason


def test_the_health_page_says_that_the_channel_is_open_again(hear: Hear) -> None:
    hearing = hear()
    hearing.breaker.record_failure(CHANNEL, "away", START, 0.0)
    hearing.server.accept()
    wait_until("it is well", lambda: hearing.breaker.of(CHANNEL).failing_since is None, seconds=10)


def test_a_refused_handshake_and_a_missing_token_are_told_in_a_sentence(hear: Hear) -> None:
    hearing = hear(server=ChannelServer(reject=404))
    wait_until("it has failed", lambda: "answered 404" in hearing.breaker.of(CHANNEL).reason, seconds=10)
    assert hearing.tokens == 0, "a token costs a process"
    other = hear()
    other.refusal = "There is no access token for UCloud's channel (UCloud answered 502)"
    wait_until("it has failed", lambda: "502" in other.breaker.of(CHANNEL).reason, seconds=10)


def test_while_passes_reach_ucloud_the_pause_after_an_outage_is_some_seconds(hear: Hear) -> None:
    hearing = hear(server=ChannelServer(reject=503))
    wait_until("it has tried often", lambda: len(hearing.pauses) >= 12, seconds=20)
    assert max(hearing.pauses) <= LONGEST_PAUSE_SECONDS


def test_while_passes_do_not_reach_ucloud_either_the_pauses_grow_and_end_soon_after_one_does(hear: Hear) -> None:
    server = ChannelServer(reject=503)
    hearing = hear(server=server)
    hearing.breaker.record_failure(UCLOUD, "away", START)
    wait_until("the pauses are long", lambda: len(hearing.pauses) - server.attempts >= 40, seconds=20)
    assert max(hearing.pauses) <= LONGEST_PAUSE_SECONDS, "in parts, so that it notices"
    hearing.breaker.record_success(UCLOUD, START)
    before, pauses = server.attempts, len(hearing.pauses)
    wait_until("it has tried often", lambda: server.attempts > before + 9, seconds=10)
    assert len(hearing.pauses) - pauses <= server.attempts - before + 2


def test_a_pause_that_ucloud_asks_for_is_kept_by_the_listener_and_by_everybody(hear: Hear, clock: Clock) -> None:
    hearing = hear(server=ChannelServer(reject=429, retry_after="120"))
    wait_until("it has tried", lambda: bool(hearing.pauses), seconds=10)
    assert hearing.pauses[0] >= 120
    wait_until("it has come back too early", lambda: len(hearing.pauses) >= 5, seconds=10)
    assert hearing.server.attempts == 1
    with pytest.raises(CorePausedError, match="UCloud answered 429"):
        Pauses(MemoryInStore(hearing.store), clock).check()
    clock.advance(120)
    wait_until("it tries again", lambda: hearing.server.attempts == 2, seconds=10)


def test_a_refusal_of_the_channel_asks_for_no_pause(hear: Hear, clock: Clock) -> None:
    hearing = hear(server=ChannelServer(reject=401, retry_after="120"))
    wait_until("it tries again", lambda: hearing.server.attempts >= 2, seconds=10)
    Pauses(MemoryInStore(hearing.store), clock).check()
    assert max(hearing.pauses) < 120


def test_a_pause_of_the_worker_is_kept_by_the_listener(hear: Hear, clock: Clock, tmp_path: Path) -> None:
    store = Store(tmp_path / "test.db")
    with pytest.raises(CorePausedError):
        Pauses(MemoryInStore(store), clock).ask("60", "UCloud answered 503")
    store.close()
    hearing = hear()
    wait_until("it waits", lambda: len(hearing.pauses) >= 3, seconds=10)
    assert hearing.server.attempts == 0
    clock.advance(60)
    assert hearing.server.accept().token == "a-token"


def test_each_connection_says_since_when_ucloud_may_have_been_away(hear: Hear, clock: Clock) -> None:
    hearing = hear()
    peer = hearing.server.accept()
    wait_until("it is open", lambda: len(hearing.reopened) == 1, seconds=10)
    clock.advance(100)
    peer.say(records.user(0, "Ada#1"))
    hearing.knows("Ada#1")
    clock.advance(1000)
    peer.drop()
    hearing.server.accept()
    wait_until("it is open again", lambda: len(hearing.reopened) == 2, seconds=10)
    assert hearing.reopened[0] == START
    assert START + 100 <= hearing.reopened[1] <= START + 1100


def test_only_a_certificate_that_is_known_is_accepted(hear: Hear, tmp_path: Path) -> None:
    certificate(tmp_path, "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    stranger = hear(server=ChannelServer(context=context))
    wait_until("it has failed", lambda: "see ucloud.ca_file" in stranger.breaker.of(CHANNEL).reason, seconds=10)
    known = hear(server=ChannelServer(context=context), ca_file=tmp_path / "cert.pem")
    known.server.accept().say(records.of_user("Ada#1", locked=True))
    known.knows("Ada#1")


def test_once_a_day_everything_is_asked_for_again(hear: Hear) -> None:
    lives = iter((2.0, 86400.0))
    hearing = hear(pulse=lambda now: QUICK(now, life=next(lives)))
    peer = hearing.server.accept()
    peer.say(records.of_user("Ada#1", locked=True))
    wait_until("the time is kept", lambda: hearing.wallets.replay_from() > 0, seconds=10)
    again = hearing.server.accept()
    assert again.replay_from == 0
    again.say(records.of_user("Ada#1", locked=False))
    wait_until("the lost word is heard", lambda: not hearing.wallets.all_locked(), seconds=10)


# ---- from the channel to the cluster


def test_a_lock_on_the_channel_ends_the_job_and_an_unlock_lets_the_next_one_go(channel_world: World, hear: Hear) -> None:
    world = channel_world
    runs, waits = running(world), world.submit()
    world.work(15)
    hearing = hear()
    hearing.called = lambda: run_once(world.provider)
    assert hearing.store.path == world.provider.store.path
    peer = hearing.server.accept()
    peer.say(records.of_user("user", locked=True))
    wait_until("the job ends", lambda: world.slurm(runs).run.state is SlurmState.CANCELLED, seconds=5)
    wait_until("the pass is done", lambda: hearing.changes == [Result.DONE], seconds=5)
    assert world.slurm(waits).held is not None
    world.work(15)
    assert world.core.job(runs).updates[-1]["status"] == "Insufficient funds"
    peer.say(records.of_user("user", locked=False))
    wait_until("it is released", lambda: world.slurm(waits).held is None, seconds=5)
    wait_until("the second pass is done", lambda: hearing.changes == [Result.DONE] * 2, seconds=5)
