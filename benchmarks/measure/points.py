"""The points of growth as the cells of a round."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import zip_longest

from benchmarks.measure.bench import Bench, Result
from benchmarks.measure.drains import drained
from benchmarks.measure.workloads import Workload
from benchmarks.plan.axes import AXES, Axis
from benchmarks.plan.sizes import Sizes
from benchmarks.plan.subjects import OURS, Subject


def cells_of(names: Iterable[str], *, quick: bool) -> list[Workload]:
    """Return the points of some axes in the order of a round: all first ones, then all second."""
    axes = [AXES[name] for name in names]
    curves = [[_cell(axis, at) for at in (axis.quick if quick else axis.at)] for axis in axes]
    return [cell for row in zip_longest(*curves) for cell in row if cell is not None]


def _cell(axis: Axis, at: int) -> Workload:
    def measure(bench: Bench, subject: Subject, sizes: Sizes) -> Mapping[str, Result]:
        return {axis.measured(at): drained(bench, subject, axis.scene(at, sizes))}

    ours = frozenset({OURS})
    return Workload(name=axis.name, about=f"{at:,}", measure=measure, systems=ours, quick=ours)
