"""What grows: each axis a curve of points, for async_jobs alone.

At every point a system is prepared afresh and drained, as in W5; only what the axis is about
differs from point to point.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.plan.scenes import Scene
from benchmarks.plan.sizes import Sizes

CAPACITY = 2_000  # of all capped use cases together


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
