"""W7: what one tick of the scheduler takes, by how many tenants wait."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from benchmarks.measure.bench import Bench, Result
from benchmarks.plan.goals import TICK_ONE
from benchmarks.plan.sizes import Sizes
from benchmarks.plan.subjects import Subject

LEASED = 100
JOBS_PER_TENANT = 2


def ticks(name: str) -> Callable[[Bench, Subject, Sizes], Mapping[str, Result]]:
    """Return the measurement of ticks that lease 100 jobs of one tenant, or of many."""

    def measure(bench: Bench, subject: Subject, sizes: Sizes) -> Mapping[str, Result]:
        tenants = 1 if name == TICK_ONE else sizes.tenants
        jobs = sizes.tenants * JOBS_PER_TENANT
        with bench.run(subject, jobs, plain_cap=LEASED) as run:
            run.call("backlog", "pending", jobs, tenants)
            run.prepared()
            answer = run.call("ticks", sizes.ticks)
        wrong = [leased for leased in answer["leased"] if leased != LEASED]
        problem = f"ticks leased {wrong} instead of {LEASED}" if wrong else None
        figures = {"p50_ms": answer["p50_ms"], "p99_ms": answer["p99_ms"]}
        return {name: Result(figures, problem)}

    return measure
