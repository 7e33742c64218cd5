"""What is stopped, killed and spoilt, and when: five threads, each with choices of its own by the seed."""

import random
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from tests.sandbox.errors import SandboxError
from tests.sandbox.outage.deck import Deck
from tests.sandbox.outage.parts import WebWorker, start_all
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
AWAY = "away"
SLURM = {
    "kill slurmctld": 2,
    "kill slurmdbd": 2,
    "kill munged": 2,
    "kill slurmd": 3,
    "kill mariadbd": 1,
    "away munged": 1,
    "stop slurmctld": 1,
    "stop slurmdbd": 1,
    "stop munged": 1,
    "stop slurmd": 1,
    "freeze slurmctld": 1,
    "freeze slurmdbd": 1,
    "freeze munged": 1,
}
QUICK_SERVICES = SERVICES | {"kill UCloud": 0, "stop UCloud": 0}
"""Without the ends of UCloud, after which use is reported again when a minute is over."""
QUICK_SLURM = SLURM | {"kill slurmctld": 0, "kill slurmd": 0, "kill mariadbd": 0, "away munged": 0}
"""Without the kills from which Slurm recovers only after minutes, or after an administrator, and without long absences."""
FAULTS = {"command": 40, "rotate": 1, "revoke": 2}
SPOILT_PART = 0.12
"""Of the requests in either direction."""
FIRST = ("away munged", "kill slurmctld", "kill slurmd")
"""Of the daemons, in this order: without munged neither squeue nor sacct answers."""
AWAY_SECONDS = 90.0
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
NOTHING: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is done to a run.

    :ivar passes: how often there is what of the worker's passes; likewise the others
    :ivar pace: seconds between two of these, relative
    :ivar first: what happens to the daemons at first, in this order
    :ivar spoilt: part of the requests in either direction that is spoilt
    :ivar submissions: of so many that Slurm has done one is spoilt; 0: none
    :ivar live: so many jobs live when something goes away
    :ivar whole: so many whole passes it stays away: what invents an end has time for it
    """

    passes: Mapping[str, int] = field(default_factory=lambda: PASSES)
    web: Mapping[str, int] = field(default_factory=lambda: WEB)
    services: Mapping[str, int] = field(default_factory=lambda: SERVICES)
    daemons: Mapping[str, int] = field(default_factory=lambda: SLURM)
    faults: Mapping[str, int] = field(default_factory=lambda: FAULTS)
    pace: float = 0.5
    first: Sequence[str] = FIRST
    spoilt: float = SPOILT_PART
    submissions: int = SUBMISSIONS
    live: int = 8
    whole: int = 4


QUIET = Trouble(NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, first=(), spoilt=0.0, submissions=0)


class Disturbances:
    """Runs until it is ended.

    :ivar kills: of living processes, by part
    :ivar others: stops, freezes, and what is done to UCloud
    :ivar failures: of the rig itself
    :ivar stories: how many are over
    """

    def __init__(self, rig: Rig, seed: int, trouble: Trouble) -> None:
        """Disturbs nothing yet."""
        self._rig = rig
        self._trouble = trouble
        self._spoilt_in = 0
        self.stories = 0
        self.kills: Counter[str] = Counter()
        self.others: Counter[str] = Counter()
        self.failures: list[str] = []
        self._lock = threading.Lock()
        self._parts = {part.name: part for part in [*rig.services, rig.ucloud, rig.lists, *rig.daemons]}
        self._threads = [
            self._thread("passes", seed, trouble.passes, self._disturb, 1.0, self._may_disturb),
            self._thread("web", seed, trouble.web, self._disturb, 1.5, self._may_disturb),
            self._thread("services", seed, trouble.services, self._disturb, 1.0, self._may_disturb),
            self._thread("daemons", seed, trouble.daemons, self._disturb, 1.5, self._is_storm, trouble.first),
            self._thread("faults", seed, trouble.faults, self._spoil, 1.0, self._may_disturb),
            threading.Thread(target=self._administer, name="administrator", daemon=True),
        ]

    def begin(self) -> None:
        """Begins."""
        self._rig.to_ucloud.part = self._rig.to_provider.part = self._trouble.spoilt
        if self._trouble.submissions:
            self._rig.wrappers.spoil_submissions(self._trouble.submissions)
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Ends, and has everything run again."""
        self._rig.over.set()
        for thread in self._threads:
            thread.join()
        self._rig.calm()

    def _thread(
        self,
        name: str,
        seed: int,
        weights: Mapping[str, int],
        act: Callable[[str, random.Random], None],
        pace: float,
        may: Callable[[], bool],
        first: Sequence[str] = (),
    ) -> threading.Thread:
        chance = random.Random(f"{name} {seed}")
        deck = Deck(chance, weights, first)

        def run() -> None:
            while (card := deck.next) is not None and not self._rig.over.wait(chance.uniform(0, 2 * pace * self._trouble.pace)):
                try:
                    if self._rig.live() >= self._trouble.live if card.startswith(AWAY) else may():
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

    def _is_storm(self) -> bool:
        return self._rig.passes.number % PERIOD_PASSES < STORM_PASSES

    def _disturb(self, card: str, chance: random.Random) -> None:
        how, _, name = card.partition(" ")
        before = self._rig.passes.whole
        part = self._parts.get(name) or chance.choice(
            [each for each in self._parts.values() if each.name.startswith(f"{name}-")]
        )
        away = chance.uniform(*LONG_AWAY) if how == AWAY or chance.random() < LONG_PART else chance.uniform(0, 2)
        if how == "freeze":
            done = part.freeze(self._rig.over, min(away, 8.0))
            self._count(self.others, f"freeze {name}", done=done)
            return
        done = part.kill() if how == "kill" else part.stop()
        self._count(self.kills if how == "kill" else self.others, name if how == "kill" else card, done=done)
        if name in (Passes.name, WebWorker.name):
            return  # the next one comes by itself
        self._rig.over.wait(away)
        if how == AWAY:
            self._rig.passes.wait(before + self._trouble.whole, AWAY_SECONDS, self._rig.over)
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
