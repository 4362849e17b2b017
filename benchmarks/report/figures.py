"""The raw figures of a run, and what is made of them: medians, spreads, ratios, verdicts."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.plan.goals import GOALS, Goal, floor_of
from benchmarks.plan.subjects import OURS, PEER, system_of

QUICK_METRICS = ("jobs_per_s", "p50_ms", "p99_ms")
# Latency of an enqueue under load is kept with the raw figures; its workload is told as a rate.
TOLD = {"W1": ("jobs_per_s",), "W4": ("p50_ms", "p99_ms"), "W7": ("p50_ms",)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One system's figures of one round; `problem` says why they do not count."""

    measured: str
    system: str
    round: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    problem: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as it is written to the results."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Spread:
    """The figures of all rounds.

    Attributes:
        median: of the correct rounds.
        low, high: the lowest and the highest of them.
        rounds: how many there are.
    """

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of at least one value."""
        return cls(statistics.median(values), min(values), max(values), len(values))


Key = tuple[str, str, str]


def spreads(rounds: Iterable[Measured]) -> dict[Key, Spread]:
    """Return the spread of each figure, of the rounds that were correct."""
    values: dict[Key, list[float]] = {}
    for each in rounds:
        if each.problem is None:
            for metric, value in each.metrics.items():
                values.setdefault((each.measured, each.system, metric), []).append(value)
    return {key: Spread.of(found) for key, found in values.items()}


def medians(rounds: Iterable[Measured]) -> dict[Key, float]:
    """Return the median of each figure, of the rounds that were correct."""
    return {key: spread.median for key, spread in spreads(rounds).items()}


def by_turns(rounds: Iterable[Measured]) -> dict[Key, Spread]:
    """Return the ratios of this commit's figures to another's of the same round.

    A key names what was measured, the other commit's subject and the figure.
    """
    correct = {
        (each.measured, each.system, each.round): each for each in rounds if not each.problem
    }
    ratios: dict[Key, list[float]] = {}
    for (measured, system, number), other in correct.items():
        own = correct.get((measured, OURS, number))
        if own is None or system == OURS or system_of(system) != OURS:
            continue
        for metric, value in other.metrics.items():
            if value and metric in own.metrics:
                ratios.setdefault((measured, system, metric), []).append(
                    own.metrics[metric] / value
                )
    return {key: Spread.of(found) for key, found in ratios.items()}


def ratio(medians: Mapping[Key, float], key: Key, to: str) -> float | None:
    """Return a figure divided by that of another system in the same measurement."""
    measured, _, metric = key
    base = medians.get((measured, to, metric))
    return None if key not in medians or not base else medians[key] / base


def told_metrics(measured: str) -> tuple[str, ...]:
    """Return the figures by which a measurement is told."""
    return TOLD.get(measured.split(maxsplit=1)[0], ("jobs_per_s",))


def quick_list(rounds: Sequence[Measured], goals: Sequence[Goal] = GOALS) -> list[dict[str, Any]]:
    """Return the figures as quick.json has them: one entry for each figure of each system.

    A goal belongs to async_jobs; where a figure has several, each has an entry of its own.
    """
    found = medians(rounds)
    return [
        {
            "workload": key[0],
            "system": key[1],
            key[2]: round(found[key], 3),
            "ratio_to_pgqueuer": _rounded(ratio(found, key, PEER)),
            "ratio_to_floor": _rounded(ratio(found, key, floor_of(key[0]))),
            "goal": None if goal is None else goal.text,
            "met": None if goal is None else goal.met(found),
        }
        for key in found
        if key[2] in QUICK_METRICS and key[2] in told_metrics(key[0])
        for goal in _goals_of(key, goals)
    ]


def _goals_of(key: Key, goals: Sequence[Goal]) -> Sequence[Goal | None]:
    own: list[Goal | None] = [g for g in goals if (g.measured, OURS, g.metric) == key]
    return own or [None]


def problems(rounds: Iterable[Measured]) -> list[str]:
    """Return what was wrong, a line each."""
    return [
        f"{each.measured}, {each.system}, round {each.round}: {each.problem}"
        for each in rounds
        if each.problem is not None
    ]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
