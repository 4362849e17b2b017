"""W5: the rate of a drain beside what waits, is scheduled, has finished, or may not run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from benchmarks.measure.bench import Bench, Result, Run
from benchmarks.measure.drains import DRAIN_SECONDS, FILL_SECONDS, SKIPPED, executed
from benchmarks.measure.tally import Tally, executions
from benchmarks.plan.goals import BACKLOG_SMALL, BACKLOGS
from benchmarks.plan.sizes import Sizes
from benchmarks.plan.subjects import Subject

KINDS = dict(zip(BACKLOGS, ("pending", "scheduled", "finished", "full"), strict=True))


def backlog(name: str) -> Callable[[Bench, Subject, Sizes], Mapping[str, Result]]:
    """Return the measurement of one variant."""

    def measure(bench: Bench, subject: Subject, sizes: Sizes) -> Mapping[str, Result]:
        if name == BACKLOG_SMALL:
            parts = {"pending": sizes.small}
        elif (kind := KINDS[name]) == "pending":
            parts = {kind: sizes.large}
        elif kind == "full":
            parts = {kind: sizes.large - sizes.large // 10, "pending": sizes.large // 10}
        else:
            parts = {kind: sizes.large, "pending": sizes.small}
        with bench.run(subject, parts["pending"]) as run:
            for kind, jobs in parts.items():
                run.call("backlog", kind, jobs, seconds=FILL_SECONDS)
            run.prepared()
            return {name: _rate(run, parts["pending"], sizes.sample)}

    return measure


def _rate(run: Run, jobs: int, sample: int) -> Result:
    """Take the rate of some jobs in the middle of a drain, then stop and look at what is stored."""
    started = run.processes(1)
    programs = [program for each in started.values() for program in each]
    if not executed(run, programs, SKIPPED, DRAIN_SECONDS):
        raise programs[0].failed("executes nothing")
    began, before = time.monotonic(), executions(run.marks)
    in_time = executed(run, programs, SKIPPED + sample, DRAIN_SECONDS)
    seconds, count = time.monotonic() - began, executions(run.marks) - before
    for program in reversed(programs):  # the scheduler first, so that nothing more is handed off
        program.end()
    tally = Tally.read(run.marks, jobs)
    stored = run.call("outcomes")["executed"]
    problem = tally.repeated()
    if stored != tally.executed:
        problem = f"{tally.executed} jobs were executed, and {stored} have an outcome"
    if not in_time:
        problem = f"only {count} of {sample} jobs within {DRAIN_SECONDS:.0f} s"
    return Result({"jobs_per_s": count / seconds}, problem)
