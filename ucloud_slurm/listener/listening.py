"""Receiving UCloud's notifications for ever: records are stored, and a locked or unlocked wallet starts a pass.

What needs much memory, a pass and the renewal of the access token, is done by commands in processes of their own.
"""

import logging
import os
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import NoReturn

from wsproto.events import Pong

from ucloud_slurm.errors import CorePausedError, NotNow, StorageError, one_line, place
from ucloud_slurm.listener.connection import ChannelConnection, ChannelEndedError, ChannelUnavailableError
from ucloud_slurm.listener.pulse import Pulse, backoff
from ucloud_slurm.listener.settings import Settings
from ucloud_slurm.store.breaker import CHANNEL, UCLOUD, CircuitBreaker
from ucloud_slurm.store.wallets import Wallets
from ucloud_slurm.system.process import CommandMissingError, CommandTimeoutError, run
from ucloud_slurm.ucloud.channel import Project, ProtocolError, Reader, Record, Wallet, auth_frame
from ucloud_slurm.ucloud.pauses import Pauses

log = logging.getLogger(__name__)

RENEW_SECONDS = 60.0  # that the renewal of the access token may take
LONGEST_PAUSE_SECONDS = 5.0  # between attempts while passes of the worker reach UCloud
PASS_SECONDS = 300.0  # that a pass may take: what systemd gives those of the timer


class Listener:
    """One connection after the other.

    UCloud replays old records in any order. So the next connection continues after the records of this one only if its
    replay was complete and stored.
    """

    def __init__(
        self,
        settings: Settings,
        wallets: Wallets,
        breaker: CircuitBreaker,
        pauses: Pauses,
        *,
        token: Callable[[], str],
        changed: Callable[[], None],
        reopened: Callable[[float], None] = lambda _: None,
        allowed: Callable[[], None] = lambda: None,
        now: Callable[[], float] = time.time,
        pulse: Callable[[float], Pulse] = Pulse,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Does not connect yet.

        :param token: gives a fresh access token
        :param changed: called when a wallet was locked or unlocked
        :param reopened: called when a connection is open, with the time until which the one before was, in seconds since
            the epoch: UCloud may have stopped meanwhile
        :param allowed: called before each connection; raises StorageError where another host works
        :param now: gives seconds since the epoch
        :param pulse: the keepalive of a new connection
        :param sleep: waits for the next attempt
        """
        self._settings = settings
        self._wallets = wallets
        self._breaker = breaker
        self._pauses = pauses
        self._token = token
        self._changed = changed
        self._reopened = reopened
        self._allowed = allowed
        self._open_until = now()
        self._now = now
        self._pulse = pulse
        self._sleep = sleep
        self._received_any = False
        self._everything = False  # whether the next connection asks for all records

    def run(self) -> NoReturn:
        """Connects, receives, and connects again. Never returns."""
        failures = 0
        while True:
            least = 0.0
            try:
                self.listen()
            except ChannelEndedError as error:
                soon = self._received_any
                failures = 0 if self._received_any else failures + 1
                no_message = " before it sent anything; is our access token refused?"
                why = str(error) if self._received_any else f"{error}{no_message}"
            except (NotNow, ProtocolError, StorageError) as error:
                soon = isinstance(error, NotNow)
                if isinstance(error, CorePausedError):
                    soon, least = False, error.seconds
                failures, why = failures + 1, str(error)
            except Exception as error:  # noqa: BLE001
                soon = False
                failures, why = failures + 1, f"{type(error).__name__} at {place(error)}; please report it"
            wait = max(backoff(failures, random.random()), least)  # noqa: S311  jitter needs no secrecy
            self._report(failures, one_line(why), wait)
            self._pause(wait, soon=soon)

    def _pause(self, wait: float, *, soon: bool) -> None:
        """Waits for the next attempt.

        :param soon: what ended the last one says nothing against us: while passes reach UCloud, the pause is short
        """
        while wait > 0:
            step = min(wait, LONGEST_PAUSE_SECONDS) if soon else wait
            self._sleep(step)
            wait -= step
            if soon and self._ucloud_answers():
                return

    def _ucloud_answers(self) -> bool:
        """Whether the last pass that had something for UCloud has reached it."""
        try:
            return self._breaker.of(UCLOUD).failing_since is None
        except StorageError:
            return False

    def _report(self, failures: int, why: str, wait: float) -> None:
        if failures == 0:
            log.info("%s; connecting again in %.0f s", why, wait)
            return
        log.warning("%s; connecting again in %.0f s", why, wait)
        try:
            self._breaker.record_failure(CHANNEL, why, self._now(), 0.0)
        except StorageError as error:
            log.warning("%s", error)

    def listen(self) -> NoReturn:
        """Receives from one connection until its end.

        :raises NotNow: it cannot be made, or is dead
        :raises ChannelEndedError: UCloud has ended it, or it has reached its age limit
        :raises ProtocolError: a message cannot be parsed
        :raises StorageError: records could not be stored, or another host works
        """
        self._received_any = False
        self._allowed()
        self._pauses.check()
        with self._connect() as connection:
            # While UCloud is away no process is started for a token.
            token = self._token()
            since = 0.0 if self._everything else self._wallets.replay_from()
            connection.send(auth_frame(int(since * 1000), token))
            reader, pulse = Reader(), self._pulse(time.monotonic())
            newest = kept = 0.0
            while True:
                self._everything &= not pulse.caught_up
                if pulse.old(time.monotonic()):
                    # UCloud silently drops records for which a connection is too slow.
                    self._everything = True
                    raise ChannelEndedError("The connection is a day old; the next one asks for all records")
                if pulse.due(time.monotonic()):
                    connection.ping()
                newest = max(newest, self._receive(connection, reader, pulse))
                if pulse.caught_up and newest > kept:
                    self._wallets.handled(newest)
                    kept = newest

    def _connect(self) -> ChannelConnection:
        try:
            return ChannelConnection(self._settings)
        except ChannelUnavailableError as error:
            self._pauses.ask(error.retry_after, str(error))
            raise

    def _receive(self, connection: ChannelConnection, reader: Reader, pulse: Pulse) -> float:
        """Waits for messages and stores them; returns the newest time in them."""
        received = connection.receive(pulse.left(time.monotonic()))
        now = time.monotonic()
        if not received and pulse.dead(now):
            raise NotNow("UCloud's channel does not answer pings; the connection is dead")
        if received:
            self._record_answer()
            self._open_until = self._now()
        newest = self._store(reader, [each for each in received if isinstance(each, bytes)])
        for each in received:
            if isinstance(each, Pong):
                pulse.answer(now)
            else:
                pulse.message(now)
        return newest

    def _record_answer(self) -> None:
        if not self._received_any:
            self._received_any = True
            self._breaker.record_success(CHANNEL, self._now())
            self._reopened(self._open_until)
            log.info("UCloud's channel is open")

    def _store(self, reader: Reader, messages: Sequence[bytes]) -> float:
        """Stores messages in one transaction: each transaction waits for the disk, and a replay is long.

        :returns: the newest time in them, at most now: UCloud would leave out all records up to a time in the future
        :raises ProtocolError: one of the messages cannot be parsed; those before it have been stored
        """
        if not messages:
            return 0.0
        try:
            return self._write(reader, messages)
        except ProtocolError:
            if len(messages) > 1:
                for message in messages:
                    self._write(reader, [message])
            raise

    def _write(self, reader: Reader, messages: Sequence[bytes]) -> float:
        newest = 0.0

        def records() -> Iterator[Record]:
            nonlocal newest
            for record in chain.from_iterable(map(reader.records, messages)):
                newest = max(newest, _time(record))
                yield record

        if self._wallets.take(records(), self._settings.provider, self._now()):
            log.info("UCloud has locked or unlocked wallets")
            self._changed()
        return min(self._now(), newest)


def _time(record: Record) -> float:
    match record:
        case Wallet():
            return record.changed_at
        case Project():
            return record.modified_at
    return 0.0


def renew_token(command: Sequence[str]) -> None:
    """Runs the command that stores a fresh access token in the database.

    :raises ChannelUnavailableError: the command fails
    """
    try:
        done = run(command, os.environ, RENEW_SECONDS)
    except (CommandMissingError, CommandTimeoutError) as error:
        raise ChannelUnavailableError(f"There is no access token for UCloud's channel ({error})") from None
    if done.status != 0:
        said = one_line(done.errors.removeprefix("ucloud-slurm: "), 300) or f"exit status {done.status}"
        raise ChannelUnavailableError(f"There is no access token for UCloud's channel ({said})")


class WorkerPasses:
    """Runs passes of the worker, one at a time; requests during a pass are answered by one that follows."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._requested = threading.Event()
        threading.Thread(target=self._run, name="passes", daemon=True).start()

    def request(self) -> None:
        """Starts a pass after this call."""
        self._requested.set()

    def _run(self) -> None:
        while True:
            self._requested.wait()
            self._requested.clear()
            try:
                subprocess.run(self._command, stdin=subprocess.DEVNULL, check=False, timeout=PASS_SECONDS)
            except (OSError, subprocess.TimeoutExpired) as error:
                log.warning("a pass of the worker failed (%s); the timer starts the next", type(error).__name__)
