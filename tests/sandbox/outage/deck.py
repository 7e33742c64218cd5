"""Choices by a seed: each kind as often as its weight says, in an order that the seed shuffles."""

import random
from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class Deck(Generic[T]):
    """Cards that are drawn one after the other, and shuffled again when none is left. So a short run meets every kind."""

    def __init__(self, chance: random.Random, weights: Mapping[T, int], first: Sequence[T] = ()) -> None:
        """Shuffles.

        :param weights: how many cards there are of each kind; 0: none
        :param first: these are drawn before all others, in this order
        """
        self._chance = chance
        self._weights = weights
        self._left = [*reversed(first)]

    @property
    def next(self) -> T | None:
        """The card that is drawn next; None where there is no other one."""
        if not self._left:
            self._left = [kind for kind, number in self._weights.items() for _ in range(number)]
            self._chance.shuffle(self._left)
        return self._left[-1] if self._left else None

    def draw(self) -> T:
        """Draws the next card.

        :raises IndexError: there is no other one
        """
        _ = self.next
        return self._left.pop()
