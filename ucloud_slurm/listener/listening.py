"""Hearing the channel for ever: what it says is written down, and the worker is called when a lock changes."""

import logging
import random
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import NoReturn

from ucloud_slurm.errors import NotNow, StorageTrouble, one_line, place
from ucloud_slurm.listener.link import ChannelEndedError, Link, Sign
from ucloud_slurm.listener.pulse import Pulse, pause
from ucloud_slurm.listener.settings import Settings
from ucloud_slurm.store.breaker import CHANNEL, CircuitBreaker
from ucloud_slurm.store.wallets import Wallets
from ucloud_slurm.ucloud.channel import Project, ProtocolError, Reader, Record, Wallet, auth_frame

log = logging.getLogger(__name__)


class Listener:
    """One connection after the other.

    What a connection has said counts as heard, for the next one, only after everything old has been said and written:
    UCloud says old things in any order.
    """

    def __init__(
        self,
        settings: Settings,
        wallets: Wallets,
        breaker: CircuitBreaker,
        *,
        token: Callable[[], str],
        changed: Callable[[], None],
        now: Callable[[], float] = time.time,
        pulse: Callable[[float], Pulse] = Pulse,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Connects nowhere yet.

        :param token: gives a fresh access token
        :param changed: is told when a lock has changed
        :param now: seconds since the epoch
        :param pulse: how a connection is watched
        :param sleep: waits for the next attempt
        """
        self._settings = settings
        self._wallets = wallets
        self._breaker = breaker
        self._token = token
        self._changed = changed
        self._now = now
        self._pulse = pulse
        self._sleep = sleep
        self._heard = False
        self._everything = False  # the next connection asks for all that there is

    def run(self) -> NoReturn:
        """Never ends by itself."""
        failures = 0
        while True:
            try:
                self.listen()
            except ChannelEndedError as error:
                failures = 0 if self._heard else failures + 1
                why = str(error) if self._heard else f"{error} before it said anything; is our access token refused?"
            except (NotNow, ProtocolError, StorageTrouble) as error:
                failures, why = failures + 1, str(error)
            except Exception as error:  # noqa: BLE001
                failures, why = failures + 1, f"{type(error).__name__} at {place(error)}; please report it"
            wait = pause(failures, random.random())  # noqa: S311  nothing is to be kept secret by it
            self._tell(failures, one_line(why), wait)
            self._sleep(wait)

    def _tell(self, failures: int, why: str, wait: float) -> None:
        if failures == 0:
            log.info("%s; connecting again in %.0f s", why, wait)
            return
        log.warning("%s; connecting again in %.0f s", why, wait)
        try:
            self._breaker.record_failure(CHANNEL, why, self._now(), 0.0)
        except StorageTrouble as error:
            log.warning("%s", error)

    def listen(self) -> NoReturn:
        """Hears one connection to its end.

        :raises NotNow: it could not be made, or it is dead
        :raises ChannelEndedError: UCloud has ended it
        :raises ProtocolError: UCloud sends what cannot be read
        :raises StorageTrouble: what was heard could not be written
        """
        self._heard = False
        token = self._token()
        with Link(self._settings) as link:
            since = 0.0 if self._everything else self._wallets.replay_from()
            link.send(auth_frame(int(since * 1000), token))
            reader, pulse = Reader(), self._pulse(time.monotonic())
            newest = kept = 0.0
            while True:
                self._everything &= not pulse.caught_up
                if pulse.old(time.monotonic()):
                    # UCloud drops what a connection is too slow for, and does not say so.
                    self._everything = True
                    raise ChannelEndedError("A day is over, and everything is asked for once more")
                if pulse.due(time.monotonic()):
                    link.ping()
                newest = max(newest, self._hear(link, reader, pulse))
                if pulse.caught_up and newest > kept:
                    self._wallets.handled(newest)
                    kept = newest

    def _hear(self, link: Link, reader: Reader, pulse: Pulse) -> float:
        """Waits for what comes next; returns the newest time in it."""
        came = link.receive(pulse.left(time.monotonic()))
        now = time.monotonic()
        if not came and pulse.dead(now):
            raise NotNow("UCloud's channel is silent; the connection is dead")
        if came:
            self._answers()
        newest = self._take(reader, [each for each in came if isinstance(each, bytes)])
        for each in came:
            if isinstance(each, Sign):
                pulse.answer(now)
            else:
                pulse.message(now)
        return newest

    def _answers(self) -> None:
        if not self._heard:
            self._heard = True
            self._breaker.record_success(CHANNEL, self._now())
            log.info("UCloud's channel is open")

    def _take(self, reader: Reader, messages: Sequence[bytes]) -> float:
        """Writes what has come together, in one transaction: each one waits for the disk, and a replay is long.

        :returns: the newest time in it; one that has not come yet would have UCloud leave out what comes until then
        :raises ProtocolError: one of the messages cannot be read; those before it have been written
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
