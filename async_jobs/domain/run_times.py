"""How long attempts of each job type run, as they ran lately."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

TYPES_MAX = 256
NEWEST_WEIGHT = 1 / 16


class RunTimes:
    """The mean run time of each of the 256 job types that were seen last.

    The newest attempt counts a sixteenth, so that one from before some fifty others hardly does.
    """

    def __init__(self) -> None:
        self._means: dict[str, float] = {}  # the type that was seen longest ago comes first

    def observe(self, type: str, seconds: float) -> None:
        """Take account of an attempt that ran so long, to an end of its own."""
        mean = self._means.pop(type, None)
        if mean is None:
            if len(self._means) >= TYPES_MAX:
                del self._means[next(iter(self._means))]
            mean = seconds
        self._means[type] = mean + (seconds - mean) * NEWEST_WEIGHT

    @property
    def means(self) -> dict[str, float]:
        """The mean of each type, in seconds; a copy."""
        return dict(self._means)

    @staticmethod
    def merged(told: Iterable[Mapping[str, float]]) -> dict[str, float]:
        """Return the mean of what several workers tell of each type; each of them counts once."""
        all_means: dict[str, list[float]] = {}
        for means in told:
            for type, seconds in means.items():
                all_means.setdefault(type, []).append(seconds)
        return {type: sum(means) / len(means) for type, means in all_means.items()}
