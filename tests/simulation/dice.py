"""The only chance there is in a simulation: streams of their own for everything that is drawn."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """A stream of chance that depends on its name only.

    What is drawn for one purpose shifts nothing that is drawn for another, so that leaving out
    one kind of fault keeps the others where they were as far as can be.
    """

    def __init__(self, name: str) -> None:
        self._random = random.Random(name)
        self.draw = self._random.random
        """Returns a number in [0, 1)."""

    def happens(self, probability: float) -> bool:
        """Return True with this probability. Draws nothing for what never happens."""
        return probability > 0 and self.draw() < probability

    def between(self, low: float, high: float) -> float:
        """Return a number from `low` up to `high`."""
        return low + (high - low) * self.draw()

    def whole(self, low: int, high: int) -> int:
        """Return a whole number from `low` to `high`, both included."""
        return low + int((high - low + 1) * self.draw())

    def pick(self, things: Sequence[T]) -> T:
        """Return one of them."""
        return things[int(len(things) * self.draw())]

    def pause(self, mean: float) -> float:
        """Return an exponentially distributed time, cut off at eight times its mean."""
        return min(self._random.expovariate(1 / mean), 8 * mean)
