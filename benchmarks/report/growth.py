"""Growth: what a job costs as one thing grows, as a curve for each axis."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.plan.axes import AXES, Axis
from benchmarks.plan.subjects import OURS
from benchmarks.report.figures import Key, Measured, Spread, spreads

BUFFERS = "buffers"
CPU = "cpu_us_"


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
