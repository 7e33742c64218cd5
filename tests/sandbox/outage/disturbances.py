"""What is stopped, killed and spoilt, and when: five threads, each with choices of its own by the seed."""

import random
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable

from tests.sandbox.errors import SandboxError
from tests.sandbox.outage.deck import Deck
from tests.sandbox.outage.parts import Part, WebWorker, start_all
from tests.sandbox.outage.passes import Passes
from tests.sandbox.outage.rig import Rig

PASSES = {"kill worker": 8, "stop worker": 1, "freeze worker": 1}
WEB = {"kill gunicorn worker": 8, "stop gunicorn worker": 1, "freeze gunicorn worker": 1}
SERVICES = {
    "kill runner": 1,
    "kill listener": 3,
    "kill gunicorn": 1,
    "kill UCloud": 4,
    "stop runner": 1,
    "stop listener": 1,
    "stop gunicorn": 1,
    "stop UCloud": 1,
    "freeze UCloud": 1,
}
AWAY = "away munged"
SLURM = {
    "kill slurmctld": 2,
    "kill slurmdbd": 2,
    "kill munged": 2,
    "kill slurmd": 3,
    "kill mariadbd": 1,
    AWAY: 1,
    "stop slurmctld": 1,
    "stop slurmdbd": 1,
    "stop munged": 1,
    "stop slurmd": 1,
    "freeze slurmctld": 1,
    "freeze slurmdbd": 1,
    "freeze munged": 1,
}
FAULTS = {"command": 40, "rotate": 1, "revoke": 2}
SPOILT_PART = 0.12
"""Of the requests in either direction."""
FIRST = (AWAY, "kill slurmctld", "kill slurmd")
"""Of the daemons, in this order: without munged neither squeue nor sacct answers."""
ENOUGH_LIVE, ENOUGH_PASSES, AWAY_SECONDS = 8, 4, 90.0
"""munged goes away when so many jobs live, and stays away for so many whole passes: what invents an end has time for it."""
AHEAD, MOST_KILLS = 10, 0.6
"""There are at most so many kills, and so many more for each story that is over: on a slow machine too the stories go on."""
ADMINISTER_SECONDS = 4.0
SUBMISSIONS = 20
"""Of so many that Slurm has done one is spoilt; nothing is submitted for its user for a quarter of a minute then."""
STORM_PASSES, PERIOD_PASSES = 6, 20
"""Slurm is disturbed for so many of every so many passes of the worker. A submission that was not answered is submitted again
only after Slurm has answered for twelve seconds (jobs.quiet): without calm nothing would be decided."""
LONG_PART = 0.1
LONG_AWAY = (7.0, 12.0)
"""Seconds that a part is away now and then: longer than the grace in which a job that Slurm does not show is not lost."""


class Disturbances:
    """Runs until it is ended.

    :ivar kills: of living processes, by part
    :ivar others: stops, freezes, and what is done to UCloud
    :ivar failures: of the rig itself
    :ivar stories: how many are over
    """

    def __init__(self, rig: Rig, seed: int, pace: float) -> None:
        """Disturbs nothing yet.

        :param pace: seconds between two of a thread's, on the average
        """
        self._rig = rig
        self._pace = pace
        self._spoilt_in = 0
        self.stories = 0
        self.kills: Counter[str] = Counter()
        self.others: Counter[str] = Counter()
        self.failures: list[str] = []
        self._lock = threading.Lock()
        services = {part.name: part for part in [*rig.services, rig.ucloud]}
        daemons = {part.name: part for part in rig.daemons}
        self._threads = [
            self._thread("passes", seed, PASSES, lambda card, chance: self._disturb(services, card, chance), 1.0),
            self._thread("web", seed, WEB, lambda card, chance: self._disturb(services, card, chance), 1.5),
            self._thread("services", seed, SERVICES, lambda card, chance: self._disturb(services, card, chance), 1.0),
            self._thread("daemons", seed, SLURM, lambda card, chance: self._disturb(daemons, card, chance), 1.5),
            self._thread("faults", seed, FAULTS, self._spoil, 1.0),
            threading.Thread(target=self._administer, name="administrator", daemon=True),
        ]

    def begin(self) -> None:
        """Begins."""
        self._rig.to_ucloud.part = self._rig.to_provider.part = SPOILT_PART
        self._rig.wrappers.spoil_submissions(SUBMISSIONS)
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Ends, and has everything run again."""
        self._rig.over.set()
        for thread in self._threads:
            thread.join()
        self._rig.calm()

    def _thread(
        self, name: str, seed: int, weights: dict[str, int], act: Callable[[str, random.Random], None], pace: float
    ) -> threading.Thread:
        chance = random.Random(f"{name} {seed}")
        deck = Deck(chance, weights, FIRST if weights is SLURM else ())

        def run() -> None:
            while not self._rig.over.wait(chance.uniform(0, 2 * pace * self._pace)):
                try:
                    if self._may_disturb_slurm(deck.next) if weights is SLURM else self._may_disturb():
                        act(deck.draw(), chance)
                except (SandboxError, OSError, sqlite3.Error) as error:
                    self.failures.append(f"{name}: {' '.join(str(error).split())[:300]}")

        return threading.Thread(target=run, name=name, daemon=True)

    def _administer(self) -> None:
        """Nodes that were down for long stay so until an administrator comes."""
        while not self._rig.over.wait(ADMINISTER_SECONDS):
            self._rig.administer()

    def _may_disturb(self) -> bool:
        return self.kills.total() < AHEAD + MOST_KILLS * self.stories

    def _may_disturb_slurm(self, card: str) -> bool:
        return self._rig.live() >= ENOUGH_LIVE if card == AWAY else self._is_storm()

    def _is_storm(self) -> bool:
        return self._rig.passes.number % PERIOD_PASSES < STORM_PASSES

    def _disturb(self, parts: dict[str, Part], card: str, chance: random.Random) -> None:
        how, _, name = card.partition(" ")
        before = self._rig.passes.whole
        part = parts[name] if name in parts else chance.choice([each for each in parts.values() if each.name.startswith(name)])
        away = chance.uniform(*LONG_AWAY) if how == "away" or chance.random() < LONG_PART else chance.uniform(0, 2)
        if how == "freeze":
            done = part.freeze(self._rig.over, min(away, 8.0))
            self._count(self.others, f"freeze {name}", done=done)
            return
        done = part.kill() if how == "kill" else part.stop()
        self._count(self.kills if how == "kill" else self.others, name if how == "kill" else card, done=done)
        if name in (Passes.name, WebWorker.name):
            return  # the next one comes by itself
        self._rig.over.wait(away)
        if how == "away":
            self._rig.passes.wait(before + ENOUGH_PASSES, AWAY_SECONDS, self._rig.over)
        start_all([part])

    def _count(self, counts: Counter[str], name: str, *, done: bool) -> None:
        with self._lock:
            counts[name] += done

    def _spoil(self, card: str, chance: random.Random) -> None:
        rig = self._rig
        if card == "command":
            if not self._is_storm():
                rig.wrappers.clear()
            elif rig.passes.number > self._spoilt_in:  # one command a pass
                self._spoilt_in = rig.passes.number
                rig.wrappers.spoil_one(chance)
        else:
            {"rotate": rig.rotate, "revoke": rig.core.tokens.revoke_access}[card]()
            self._count(self.others, card, done=True)
