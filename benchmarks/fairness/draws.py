"""Seeded draws: everything that is random in a trace."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import accumulate
from typing import TypeVar

from benchmarks.fairness.world import SECOND

LEAST_LENGTH = 20
T = TypeVar("T")


class Draws:
    """A source of chance whose draws depend on the seed and their order alone."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def uniform(self, low: float, high: float) -> float:
        """Return a number between two others."""
        return self._random.uniform(low, high)

    def below(self, count: int) -> int:
        """Return a whole number from 0 up to `count`, which is left out."""
        return self._random.randrange(count)

    def one_of(self, values: Sequence[T]) -> T:
        """Return one of several values, each as likely as the others."""
        return self._random.choice(values)

    def weighted(self, shares: Sequence[float], count: int) -> list[int]:
        """Return `count` places, each as likely as its share."""
        return self._random.choices(
            range(len(shares)), cum_weights=list(accumulate(shares)), k=count
        )

    def some(self, among: int, count: int) -> list[int]:
        """Return `count` different whole numbers below `among`."""
        return self._random.sample(range(among), count)

    def lognormal(self, mean_seconds: float, sigma: float) -> int:
        """Return a length whose mean is given: mostly shorter, now and then much longer."""
        middle = math.log(mean_seconds * SECOND) - sigma**2 / 2
        return max(LEAST_LENGTH, int(self._random.lognormvariate(middle, sigma)))

    def pareto(self, count: int, mean_seconds: float, *, longest_seconds: float) -> list[int]:
        """Return lengths with a heavy tail (alpha 1.5) whose mean is given."""
        longest = longest_seconds / mean_seconds * 3
        raw = [min(self._random.paretovariate(1.5), longest) for _ in range(count)]
        scale = mean_seconds * SECOND * count / sum(raw) if raw else 0.0
        return [max(LEAST_LENGTH, int(each * scale)) for each in raw]

    def arrivals(self, per_second: float, begin: int, end: int) -> list[int]:
        """Return the instants of a Poisson process, in order."""
        instants: list[int] = []
        at = float(begin)
        while True:
            at += self._random.expovariate(per_second / SECOND)
            if at >= end:
                return instants
            instants.append(int(at))


def zipf(count: int) -> list[float]:
    """Return shares of which the n-th is 1 ÷ n of the first."""
    return [1 / rank for rank in range(1, count + 1)]
