"""The goals: ratios of medians of one run, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.plan.subjects import FLOOR, OURS, PEER

HIGHER_IS_BETTER = frozenset({"jobs_per_s"})

Medians = Mapping[tuple[str, str, str], float]
"""(what was measured, system, figure) → median over the rounds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What a figure of async_jobs is to reach.

    Attributes:
        measured: what was measured, such as "W3 capped".
        metric: the figure.
        factor: times the figure of `against`; the figure itself where that is None.
        against: the system that it is compared with.
        against_measured: where that is another measurement than the goal's own.
    """

    measured: str
    metric: str
    factor: float
    against: str | None
    against_measured: str | None = None

    @property
    def text(self) -> str:
        """The goal as people write it."""
        sign = "≥" if self.metric in HIGHER_IS_BETTER else "≤"
        if self.against is None:
            return f"{sign} {self.factor:g}"
        where = f" at {self.against_measured}" if self.against_measured else ""
        return f"{sign} {self.factor:g} × {self.against}{where}"

    def ratio(self, medians: Medians) -> float | None:
        """Return how often the bound fits into the figure; None when a figure is missing."""
        value = medians.get((self.measured, OURS, self.metric))
        base: float | None = 1.0
        if self.against is not None:
            place = (self.against_measured or self.measured, self.against, self.metric)
            base = medians.get(place)
        return None if value is None or not base else value / base

    def met(self, medians: Medians) -> bool | None:
        """Tell whether it is reached; None when a figure is missing."""
        ratio = self.ratio(medians)
        if ratio is None:
            return None
        return ratio >= self.factor if self.metric in HIGHER_IS_BETTER else ratio <= self.factor


BARE_SQS, BARE_ROUTE = "bare-sqs", "bare-route"
BACKLOG_SMALL = "W5 10,000 pending"
BACKLOGS = (
    "W5 many pending",
    "W5 many scheduled",
    "W5 many finished",
    "W5 full use case first",
)
TICK_ONE, TICK_MANY = "W7 one tenant", "W7 many tenants"

GOALS: tuple[Goal, ...] = (
    Goal(measured="W1 one", metric="jobs_per_s", factor=1.0, against=PEER),
    Goal(measured="W1 32", metric="jobs_per_s", factor=10.0, against=PEER),
    Goal(measured="W2", metric="jobs_per_s", factor=2.0, against=PEER),
    Goal(measured="W3 plain", metric="jobs_per_s", factor=1.5, against=PEER),
    Goal(measured="W3 capped", metric="jobs_per_s", factor=3.0, against=PEER),
    Goal(measured="W3 capped", metric="jobs_per_s", factor=0.7, against=FLOOR),
    Goal(measured="W3 sqs", metric="jobs_per_s", factor=0.8, against=BARE_SQS),
    Goal(measured="W4", metric="p50_ms", factor=1.0, against=PEER),
    Goal(measured="W4", metric="p99_ms", factor=2.0, against=FLOOR),
    *(
        Goal(
            measured=name,
            metric="jobs_per_s",
            factor=0.8,
            against=OURS,
            against_measured=BACKLOG_SMALL,
        )
        for name in BACKLOGS
    ),
    Goal(measured="W3 capped", metric="cpu_us", factor=80.0, against=None),
    Goal(measured="W3 capped", metric="wal_bytes", factor=900.0, against=None),
    Goal(measured=TICK_MANY, metric="p50_ms", factor=3.0, against=OURS, against_measured=TICK_ONE),
    Goal(measured="W8 single", metric="jobs_per_s", factor=0.8, against=BARE_ROUTE),
)

_FLOORS = {"W3 sqs": BARE_SQS, "W8 single": BARE_ROUTE, "W8 batch": BARE_ROUTE}


def floor_of(measured: str) -> str:
    """Return the system that shows the least that a measurement can cost."""
    return _FLOORS.get(measured, FLOOR)
