"""How many jobs of each use case start in a second, as they started lately."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Final

LATELY_SECONDS: Final = 60.0
"""What is older counts for a third, and less and less."""
RATE_MIN: Final = 0.001


class StartRates:
    """The mean rate of each use case."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._rates: dict[str, float] = {}
        self._at: float | None = None

    def add(self, counts: Mapping[str, int]) -> None:
        """Count starts, by use case."""
        self._counts.update(counts)

    def until(self, at: float) -> dict[str, float]:
        """Return the rates at a monotonic time; what has become too small to tell is left out."""
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
            self._rates = {name: r for name, r in self._rates.items() if r >= RATE_MIN}
            self._counts.clear()
            self._at = at
        return dict(self._rates)
