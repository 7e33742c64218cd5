"""What an attack is, who makes it, and what came of it."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from tests.sandbox.errors import SandboxError

if TYPE_CHECKING:
    from tests.sandbox.attack.stage import Stage


class Actor(StrEnum):
    """Who attacks, in the words of ``SECURITY.rst``."""

    STRANGER = "stranger on the internet"
    RESEARCHER = "researcher at UCloud"
    LOGIN = "researcher on the login node"
    JOB = "job on a node"
    PROGRAM = "a person's own program"
    TAKEN_OVER = "taken-over service account"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an attack got, in one clause, and whether the service held."""

    got: str
    held: bool


Play = Callable[["Stage"], Outcome]


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack.

    :ivar name: by which the threat model names it
    :ivar tries: what the attacker does, in one clause
    :ivar restarts: whether it makes units start anew, so that a restart says nothing
    :ivar quick: whether it takes a few seconds at most
    """

    name: str
    actor: Actor
    tries: str
    play: Play
    restarts: bool = False
    quick: bool = True


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    attack: Attack
    outcome: Outcome
    seconds: float


def attacks_of(
    actor: Actor, *found: tuple[str, Play], restarts: Collection[Play] = (), slow: Collection[str] = ()
) -> tuple[Attack, ...]:
    """A list of one actor's attacks; each has the name of its function.

    :param found: what is tried, and the function that tries it
    :param restarts: those that make units start anew
    :param slow: the names of those that take long
    """
    made = []
    for tries, play in found:
        name = str(getattr(play, "name", play.__name__.replace("_", "-")))
        made.append(Attack(name, actor, tries, play, restarts=play in restarts, quick=name not in slow))
    return tuple(made)


def held(got: str) -> Outcome:
    """The service held."""
    return Outcome(got, held=True)


def lost(got: str) -> Outcome:
    """It did not."""
    return Outcome(got, held=False)


def verdict(got: str, *wrong: str) -> Outcome:
    """Held unless something is wrong.

    :param got: what the attacker got where nothing is
    :param wrong: what must not be, each empty where it is not
    """
    found = [each for each in wrong if each]
    return lost("; ".join(found)) if found else held(got)


def named(names: str | None, attacks: tuple[Attack, ...]) -> tuple[Attack, ...]:
    """The attacks of these names.

    :param names: with commas between them; None: all
    :raises SandboxError: naming one that does not exist
    """
    if names is None:
        return attacks
    known = {attack.name: attack for attack in attacks}
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    for name in wanted:
        if name not in known:
            raise SandboxError(f"There is no attack {name}; there are {', '.join(known)}.")
    return tuple(known[name] for name in wanted)
