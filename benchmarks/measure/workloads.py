"""The workloads: what each does, with which systems, how much of it, and what it gives.

One cell is one preparation of one system; it may give the figures of several workloads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from benchmarks.measure.backlogs import backlog
from benchmarks.measure.bench import Bench, Result
from benchmarks.measure.queues import bare_sqs, over_sqs
from benchmarks.measure.ticks import ticks
from benchmarks.measure.web import web
from benchmarks.plan.goals import BACKLOG_SMALL, BACKLOGS, BARE_ROUTE, BARE_SQS, TICK_MANY, TICK_ONE
from benchmarks.plan.sizes import Sizes
from benchmarks.plan.subjects import FLOOR, OURS, PEER, PEERS, Subject
from benchmarks.systems.protocol import WARM_UP_JOBS

PRODUCERS = 32
INTERVAL_MS = 50.0


Measure = Callable[[Bench, Subject, Sizes], Mapping[str, Result]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A cell that each of some systems runs in every round.

    Attributes:
        name: W1 to W8; how it is chosen on the command line.
        about: what it does, in a few words.
        measure: does it, and returns figures by the name of what was measured.
        systems: the names of the systems it applies to.
        quick: the systems that run it in the quick benchmark.
        needs_sqs: whether it hands off through SQS.
    """

    name: str
    about: str
    measure: Measure
    systems: frozenset[str]
    quick: frozenset[str] = frozenset()
    needs_sqs: bool = False


def _share(jobs: int, share: float, unit: int = PRODUCERS) -> int:
    return max(unit, round(jobs * share) // unit * unit)


def enqueue(bench: Bench, subject: Subject, sizes: Sizes) -> Mapping[str, Result]:
    """W1: one at a time, then from 32 producers in one process."""
    results = {}
    if subject.name != "floor-coalesced":
        jobs = _share(sizes.one, subject.one_share)
        results["W1 one"] = _enqueued(bench, subject, jobs, "enqueue-one", jobs)
    jobs = _share(sizes.concurrent, subject.one_share)
    results["W1 32"] = _enqueued(bench, subject, jobs, "enqueue-concurrently", jobs, PRODUCERS)
    return results


def _enqueued(bench: Bench, subject: Subject, jobs: int, command: str, *arguments: int) -> Result:
    with bench.run(subject, jobs) as run:
        answer = run.call(command, *arguments)
    stored = answer["stored"]
    return Result(
        {
            "jobs_per_s": jobs / answer["seconds"],
            "p50_ms": answer["p50_ms"],
            "p99_ms": answer["p99_ms"],
        },
        None if stored == jobs else f"{stored} of {jobs} jobs are stored",
    )


def plain(workers: int) -> Measure:
    """Return W2 and W3 for a number of worker processes: fill in bulk, then drain."""

    def measure(bench: Bench, subject: Subject, sizes: Sizes) -> Mapping[str, Result]:
        jobs = _share(sizes.drain, subject.drain_share)
        with bench.run(subject, jobs) as run:
            filled = Result({"jobs_per_s": run.fill(jobs)})
            run.prepared()
            drained = run.drain(jobs, workers=workers)
        name = "W3 plain" if workers == 1 else f"W3 plain, {workers} workers"
        return {name: drained} if workers > 1 else {"W2": filled, name: drained}

    return measure


def capped(bench: Bench, subject: Subject, sizes: Sizes) -> Mapping[str, Result]:
    """W3 with ten use cases, caps and limited tenants, as far as the system has such things."""
    jobs = _share(sizes.drain, subject.drain_share)
    with bench.run(subject, jobs) as run:
        run.fill(jobs, capped=True)
        run.prepared()
        return {"W3 capped": run.drain(jobs, capped=True)}


def latency(bench: Bench, subject: Subject, sizes: Sizes) -> Mapping[str, Result]:
    """W4: an idle system, one job every 50 ms."""
    # The floor's enqueue wakes nobody where nobody waits for it.
    waking = {"notify": True} if subject.name == FLOOR else {}
    with bench.run(subject, sizes.latencies + WARM_UP_JOBS, **waking) as run:
        return {"W4": run.latency(sizes.latencies, INTERVAL_MS)}


EVERYBODY = PEERS | {OURS, FLOOR}
_DRAINED = EVERYBODY | {"floor-direct"}
_OURS = frozenset({OURS})
_QUICK = frozenset({OURS, FLOOR, PEER})

WORKLOADS: tuple[Workload, ...] = (
    Workload(
        name="W1",
        about="enqueue one at a time, and from 32 producers",
        measure=enqueue,
        systems=EVERYBODY | {"floor-coalesced"},
        quick=_QUICK,
    ),
    Workload(
        name="W3",
        about="enqueue in bulk (W2), then drain",
        measure=plain(1),
        systems=_DRAINED,
        quick=_QUICK,
    ),
    Workload(name="W3", about="drain with two workers", measure=plain(2), systems=_DRAINED),
    Workload(
        name="W3",
        about="drain with caps",
        measure=capped,
        systems=_QUICK,
        quick=_QUICK,
    ),
    Workload(
        name="W3",
        about="drain over SQS",
        measure=over_sqs,
        systems=_OURS,
        quick=_OURS,
        needs_sqs=True,
    ),
    Workload(
        name="W3",
        about="send, receive and delete by the bare client",
        measure=bare_sqs,
        systems=frozenset({BARE_SQS}),
        quick=frozenset({BARE_SQS}),
        needs_sqs=True,
    ),
    Workload(
        name="W4",
        about="latency of an idle system",
        measure=latency,
        systems=EVERYBODY,
        quick=_QUICK,
    ),
    *(
        Workload(name="W5", about=f"drain, {name[3:]}", measure=backlog(name), systems=_OURS)
        for name in (BACKLOG_SMALL, *BACKLOGS)
    ),
    *(
        Workload(
            name="W7", about=f"ticks, {name[3:]}", measure=ticks(name), systems=_OURS, quick=_OURS
        )
        for name in (TICK_ONE, TICK_MANY)
    ),
    *(
        Workload(
            name="W8",
            about="enqueue over HTTP",
            measure=web,
            systems=frozenset({name}),
            quick=frozenset({name}),
        )
        for name in (OURS, BARE_ROUTE)
    ),
)


def chosen(names: Iterable[str] | None, *, quick: bool) -> list[Workload]:
    """Return the workloads to run; W2 and W6 are measured with W3."""
    wanted = None if names is None else {{"W2": "W3", "W6": "W3"}.get(name, name) for name in names}
    return [
        each
        for each in WORKLOADS
        if (wanted is None or each.name in wanted) and (each.quick or not quick)
    ]
