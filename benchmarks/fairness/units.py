"""One measurement, by name, so that another process can be asked for it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from benchmarks.fairness import baselines, bound
from benchmarks.fairness.cases import CASES, ON_TIME, Case, Figures
from benchmarks.fairness.world import Ran, Trace

OURS, BOUND, EXISTS = "async_jobs", "no schedule can beat", "a schedule exists"


class Unit(NamedTuple):
    """A case under a system with a seed."""

    section: str
    group: str
    config: str
    system: str
    seed: int

    @property
    def is_ours(self) -> bool:
        """Whether the package is measured, and not what does not depend on it."""
        return self.system == OURS


class Measured(NamedTuple):
    """What was found, and how long that took."""

    unit: Unit
    figures: Figures
    seconds: float


def units_of(cases: Sequence[Case], seeds: Sequence[int]) -> Iterator[Unit]:
    """Yield all measurements of some cases; each group's bound and baselines once."""
    groups: set[tuple[str, str, int]] = set()
    for case in cases:
        for seed in seeds:
            group = (case.section, case.group, seed)
            systems = [OURS]
            if group not in groups and case.baselines:
                bounds = [BOUND, EXISTS] if case.bounded else []
                systems = [*bounds, *case.baselines, OURS]
            groups.add(group)
            for system in systems:
                yield Unit(case.section, case.group, case.config, system, seed)


def measured(unit: Unit) -> Measured:
    """Measure."""
    began = time.perf_counter()
    case = next(
        c
        for c in CASES
        if (c.section, c.group, c.config) == (unit.section, unit.group, unit.config)
    )
    figures = _figures(case, unit)
    return Measured(unit, figures, round(time.perf_counter() - began, 2))


def _figures(case: Case, unit: Unit) -> Figures:
    if unit.system in (BOUND, EXISTS):
        trace = case.make(unit.seed, case.config)
        jobs = bound.counted(trace)
        find = bound.upper if unit.system == BOUND else bound.exists
        return {ON_TIME: find(trace.slots, jobs)}
    if unit.is_ours:
        from benchmarks.fairness import rig  # baselines need no package

        return case.measure(rig.run, case.make, unit.seed, case.config)
    policy = baselines.BASELINES[unit.system]

    def run(trace: Trace, *, latency: int = 0) -> Ran:
        return baselines.run(trace, policy)

    return case.measure(run, case.make, unit.seed, case.config)


def main() -> None:
    """Measure the units on standard input, a line each; answer with a line for each."""
    for line in sys.stdin:
        found = measured(Unit(*json.loads(line)))
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
