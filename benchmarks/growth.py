"""Growth: what a job costs as one thing grows, each axis a curve of points, for async_jobs alone.

At every point a system is prepared afresh and drained, as in W5; only what the axis is about
differs from point to point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.figures import Key, Measured, Spread, spreads
from benchmarks.scenes import Scene
from benchmarks.sizes import Sizes
from benchmarks.subjects import OURS

CAPACITY = 2_000  # of all capped use cases together
BUFFERS = "buffers"
CPU = "cpu_us_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One thing that grows.

    Attributes:
        name: how it is chosen, and how its figures are told of.
        title: what its table and its plot say.
        at: the points of its curve, the first of which the others are compared with.
        quick: the points of the quick curve.
        scene: what is there at a point.
    """

    name: str
    title: str
    at: Sequence[int]
    quick: Sequence[int]
    scene: Callable[[int, Sizes], Scene]

    def measured(self, at: int) -> str:
        """Return how a point's figures are told of."""
        return f"{self.name} {at}"


def _backlog(at: int, sizes: Sizes) -> Scene:
    return Scene(pending=at, sample=sizes.sample)


def _tenants(at: int, sizes: Sizes) -> Scene:
    return Scene(pending=sizes.shared, sample=sizes.drained, tenants=at)


def _use_cases(at: int, sizes: Sizes) -> Scene:
    return Scene(
        pending=sizes.shared, sample=sizes.drained, use_cases=at, settings={"cap": CAPACITY // at}
    )


def _beside(kind: str) -> Callable[[int, Sizes], Scene]:
    def scene(at: int, sizes: Sizes) -> Scene:
        return Scene(pending=sizes.waiting, sample=sizes.drained, beside={kind: at} if at else {})

    return scene


def _schedulers(at: int, sizes: Sizes) -> Scene:
    return Scene(pending=sizes.waiting, sample=sizes.drained, schedulers=at)


def _workers(at: int, sizes: Sizes) -> Scene:
    return Scene(pending=sizes.waiting, sample=sizes.drained, workers=at)


MANY = (0, 10_000, 100_000, 1_000_000)
MANY_QUICK = (0, 1_000, 10_000, 100_000)
FEW = (1, 2, 3, 4)

_ALL = (
    Axis(
        name="backlog",
        title="Pending jobs of one use case",
        at=(10_000, 50_000, 200_000, 1_000_000),
        quick=(10_000, 20_000, 50_000, 100_000),
        scene=_backlog,
    ),
    Axis(
        name="tenants",
        title="Tenants with limits that share the jobs",
        at=(1, 10, 100, 1_000, 10_000),
        quick=(1, 10, 100, 1_000),
        scene=_tenants,
    ),
    Axis(
        name="use-cases",
        title="Capped use cases that share the jobs and the capacity",
        at=(1, 3, 10, 30, 100),
        quick=(1, 3, 10, 30),
        scene=_use_cases,
    ),
    Axis(
        name="scheduled",
        title="Jobs scheduled for later, beside those that are drained",
        at=MANY,
        quick=MANY_QUICK,
        scene=_beside("scheduled"),
    ),
    Axis(
        name="finished",
        title="Finished jobs, beside those that are drained",
        at=MANY,
        quick=MANY_QUICK,
        scene=_beside("finished"),
    ),
    Axis(
        name="schedulers",
        title="Scheduler processes, with one worker",
        at=FEW,
        quick=FEW,
        scene=_schedulers,
    ),
    Axis(
        name="workers",
        title="Worker processes, with one scheduler",
        at=FEW,
        quick=FEW,
        scene=_workers,
    ),
)
AXES: Mapping[str, Axis] = {axis.name: axis for axis in _ALL}


# --- the curves ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Point:
    """The figures of one point of a curve; `ratios` are to the first point of its axis."""

    axis: Axis
    at: int
    figures: Mapping[str, Spread]
    ratios: Mapping[str, float]

    def as_json(self) -> dict[str, Any]:
        """Return it as growth.json has it."""
        median = {name: round(each.median, 3) for name, each in self.figures.items()}
        return {
            "axis": self.axis.name,
            "at": self.at,
            "jobs_per_s": median["jobs_per_s"],
            "cpu_us": {
                name.removeprefix(CPU): value
                for name, value in median.items()
                if name.startswith(CPU)
            },
            "wal_b": median["wal_bytes"],
            "buffers": median[BUFFERS],
            "ratio_to_first": round(ratio, 3) if (ratio := self.ratios.get("jobs_per_s")) else None,
        }


def curves(rounds: Iterable[Measured]) -> dict[str, list[Point]]:
    """Return the curve of each axis of which a point was measured correctly.

    Without its first point a curve has no ratios.
    """
    found = spreads(each for each in rounds if each.system == OURS)
    measured = {name for name, _, _ in found}
    drawn = {}
    for axis in AXES.values():
        points = [at for at in sorted({*axis.at, *axis.quick}) if axis.measured(at) in measured]
        if points:
            drawn[axis.name] = _curve(axis, points, found)
    return drawn


def _curve(axis: Axis, points: Sequence[int], found: Mapping[Key, Spread]) -> list[Point]:
    def figures(at: int) -> dict[str, Spread]:
        name = axis.measured(at)
        return {metric: spread for (each, _, metric), spread in found.items() if each == name}

    # Both kinds of curve begin at the same point.
    base = figures(axis.at[0])
    return [
        Point(
            axis,
            at,
            (own := figures(at)),
            {
                metric: spread.median / base[metric].median
                for metric, spread in own.items()
                if metric in base and base[metric].median
            },
        )
        for at in points
    ]


def growth_list(rounds: Iterable[Measured]) -> list[dict[str, Any]]:
    """Return the figures as growth.json has them: one entry for each point of each axis."""
    return [point.as_json() for curve in curves(rounds).values() for point in curve]
