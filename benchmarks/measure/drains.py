"""A drain in a scene that is set up for it, and what each job of it costs."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Mapping

from benchmarks.machine.costs import CpuMeter
from benchmarks.machine.processes import STOP_SECONDS, FailedError, Program, until
from benchmarks.measure.bench import Bench, Result, Run
from benchmarks.measure.observer import Observer
from benchmarks.measure.tally import Tally, executions
from benchmarks.plan.scenes import Scene
from benchmarks.plan.subjects import Subject

SKIPPED = 1_000  # the first ones show how it starts, not how it goes on
FILL_SECONDS = 600.0
DRAIN_SECONDS = 180.0
READY_SECONDS = 60.0
SETTLE_SECONDS = 60.0


def drained(bench: Bench, subject: Subject, scene: Scene) -> Result:
    """Set the scene, drain a part of what is pending, and look at what is stored."""
    with bench.run(subject, scene.pending, **scene.all_settings()) as run:
        for kind, jobs in scene.beside.items():
            run.call("backlog", kind, jobs, seconds=FILL_SECONDS)
        # Last, because a job that has finished is made by executing what there is.
        run.call("spread", scene.pending, scene.tenants, scene.use_cases, seconds=FILL_SECONDS)
        run.prepared()
        with Observer(run.dsn) as observer:
            return _sampled(run, observer, scene)


def _sampled(run: Run, observer: Observer, scene: Scene) -> Result:
    """Take the figures of some jobs in the middle of a drain, and the buffers of all of it."""
    _alone(observer)
    buffers = observer.buffers()
    with observer.holding():
        # Every process is up before the first job is touched, however many there are.
        started = run.processes(scene.workers, schedulers=scene.schedulers)
        programs = [program for each in started.values() for program in each]

        def all_wait() -> bool:
            run.programs.check(*programs)
            return observer.held() >= scene.schedulers

        if not until(all_wait, READY_SECONDS):
            raise started["scheduler"][0].failed("does not look for jobs")
    if not executed(run, programs, SKIPPED, DRAIN_SECONDS):
        raise programs[0].failed("executes nothing")
    before, began = executions(run.marks), time.monotonic()
    wal, meter = observer.wal(), CpuMeter(run.process_ids(started))
    in_time = executed(run, programs, before + scene.sample, DRAIN_SECONDS)
    count, seconds = executions(run.marks) - before, time.monotonic() - began
    wal, cpu = observer.wal() - wal, meter.used()
    settled = _stopped(started, observer)
    _alone(observer)
    buffers = observer.buffers() - buffers
    tally = Tally.read(run.marks, scene.pending)
    problem = verdict(tally, run.call("outcomes"), settled=settled)
    if not in_time:
        problem = f"only {count} of {scene.sample} jobs within {DRAIN_SECONDS:.0f} s"
    each = {f"cpu_us_{name}": 1e6 * used / max(1, count) for name, used in cpu.items()}
    figures = {
        "jobs_per_s": count / seconds,
        **each,
        "cpu_us": sum(each.values()),
        "wal_bytes": wal / max(1, count),
        "buffers": buffers / max(1, tally.executed),
    }
    return Result(figures, problem)


def executed(run: Run, programs: Iterable[Program], count: int, seconds: float) -> bool:
    """Wait until that many executions are noted; returns False when time runs out first."""

    def reached() -> bool:
        run.programs.check(*programs)
        return executions(run.marks) >= count

    return until(reached, seconds)


def _stopped(started: Mapping[str, list[Program]], observer: Observer) -> bool:
    """End the schedulers, let the workers finish what they were handed, and end them too."""
    for scheduler in started["scheduler"]:
        scheduler.signal(signal.SIGTERM)  # all at once: none is left alone with the jobs
    for scheduler in started["scheduler"]:
        scheduler.wait(STOP_SECONDS)  # a second signal would cut off its tick
        scheduler.end()
    settled = until(lambda: observer.running() == 0, SETTLE_SECONDS)
    for worker in started["worker"]:
        worker.end()
    return settled


def _alone(observer: Observer) -> None:
    """Wait until nobody else is connected: sessions have told all their figures when they end."""
    if not until(lambda: observer.others() == 0, READY_SECONDS):
        raise FailedError("another session stays connected to the database")


def verdict(tally: Tally, stored: Mapping[str, int], *, settled: bool) -> str | None:
    """Say what was not as it must be: each job that was handed out has one execution and outcome.

    Args:
        tally: what the handlers noted.
        stored: of the jobs that might run, how many were `executed`, and `once`: at their first
            attempt and without an error.
        settled: whether every lease came to its end.
    """
    problem = tally.repeated()
    if (stored["executed"], stored["once"]) != (tally.executed, tally.executed):
        problem = (
            f"{tally.executed} jobs were executed, {stored['executed']} have an outcome,"
            f" {stored['once']} of them at once"
        )
    return problem if settled else "jobs were still running after the schedulers had ended"
