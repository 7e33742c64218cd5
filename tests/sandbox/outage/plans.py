"""What stories there are, and what has become of them."""

import random
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.sandbox.outage.deck import Deck
from tests.sandbox.outage.rig import LINKS, PRODUCTS, PROJECT

LIVES = {
    "ends": 8,
    "fails": 3,
    "cancelled by its user": 3,
    "terminated": 4,
    "terminated at once": 2,
    "renamed": 1,
    "extended": 2,
    "suspended": 2,
    "requeued": 1,
    "held": 1,
    "reaches its limit": 1,
    "forgotten by UCloud": 1,
    "message refused": 1,
    "imitated": 1,
}
QUICK_LIVES = LIVES | {"reaches its limit": 0, "requeued": 0, "held": 0, "suspended": 0}
"""Without those that take half a minute or more."""
CREATES = {"started": 6, "sent twice": 2, "sent twice at once": 2, "repeated": 2, "two at once": 2, "bulk": 1}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a story is to be; all of it follows from the seed and its number."""

    number: int
    life: str
    create: str
    owner: str
    project: str | None
    product: str
    seconds: int
    chance: random.Random


@dataclass(slots=True)
class Played:
    """What has become of the stories.

    :ivar jobs: ids that UCloud has taken as accepted, with the life of each
    :ivar failed: creates that UCloud saw fail
    :ivar forgotten: ids that UCloud has lost since
    :ivar refused: ids of those whose messages UCloud refuses for a while
    :ivar payers: who pays for these
    :ivar taken_back: ends that Slurm itself forgot when it was killed, known when all is compared
    :ivar gone: jobs that Slurm itself forgot when it was killed, of which UCloud has a failure; known then too
    :ivar imitations: Slurm's numbers of jobs of others
    :ivar stuck: jobs, and what did not come of each in a sentence
    """

    jobs: dict[str, str] = field(default_factory=dict)
    failed: int = 0
    forgotten: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    payers: dict[str, str] = field(default_factory=dict)
    taken_back: int = 0
    gone: int = 0
    imitations: list[int] = field(default_factory=list)
    stuck: list[tuple[str, str]] = field(default_factory=list)
    creates: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)


def drawn(number: int, seed: str, lives: Mapping[str, int], creates: Mapping[str, int]) -> list[Plan]:
    """So many stories.

    :param lives: how often there is which
    :param creates: how often a job is created in which way
    """
    chance = random.Random(f"stories {seed}")
    of_lives, of_creates = Deck(chance, lives), Deck(chance, creates)
    plans = [
        Plan(
            number=each,
            life=of_lives.draw(),
            create=of_creates.draw(),
            owner=chance.choice(sorted(LINKS)),
            project=chance.choice([None, PROJECT]),
            product=str(chance.choice(PRODUCTS)["id"]),
            seconds=chance.randint(1, 8),
            chance=random.Random(f"story {seed} {each}"),
        )
        for each in range(number)
    ]
    # Slurm needs more than a minute for these: they begin first.
    return sorted(plans, key=lambda plan: plan.life != "reaches its limit" or plan.number > number // 2)
