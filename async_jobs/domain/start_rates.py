"""How many jobs of each use case start in a second, as they started lately."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Final

LATELY_SECONDS: Final = 60.0
"""What is older counts for a third, and less and less."""
RATE_MIN: Final = 0.001
QUIET_STARTS: Final = 3
"""A use case that starts nothing for as long as that many starts took before is quiet."""


class StartRates:
    """The mean rate of each use case, but for quiet ones: nobody knows how fast those would be."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._rates: dict[str, float] = {}
        self._known_until: dict[str, float] = {}
        self._at: float | None = None

    def add(self, counts: Mapping[str, int]) -> None:
        """Count starts, by use case."""
        self._counts.update(counts)

    def until(self, at: float) -> dict[str, float]:
        """Return the rates at a monotonic time, without those of use cases that are quiet."""
        if self._at is None:
            # Since when the first ones were counted nobody knows.
            self._at = at
            self._counts.clear()
        elapsed = at - self._at
        if elapsed > 0:
            newest = 1.0 if not self._rates else 1 - math.exp(-elapsed / LATELY_SECONDS)
            for name in {*self._rates, *self._counts}:
                rate = self._rates.get(name, 0.0)
                self._rates[name] = rate + (self._counts[name] / elapsed - rate) * newest
            for name in self._counts:
                quiet = max(LATELY_SECONDS, QUIET_STARTS / self._rates[name])
                self._known_until[name] = at + quiet
            self._rates = {
                name: rate
                for name, rate in self._rates.items()
                if rate >= RATE_MIN and at < self._known_until[name]
            }
            self._known_until = {name: self._known_until[name] for name in self._rates}
            self._counts.clear()
            self._at = at
        return dict(self._rates)
