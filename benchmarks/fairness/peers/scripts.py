"""Small traces that are played in real time: jobs of 50 to 100 ms on four slots."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.fairness.baselines import PRIORITY_CLASSES
from benchmarks.fairness.draws import Draws
from benchmarks.fairness.peers.played import Part, Script
from benchmarks.fairness.traces import in_order, limits, work
from benchmarks.fairness.world import MINUTE, SECOND, Trace, Work

SLOTS = 4
SCALE = 10
"""A tenth of the tolerances of the traces in virtual time, as jobs are so much shorter."""


def newcomer() -> Trace:
    """One tenant hands in 200 jobs (1 s); another one's only job (1 s) comes a second later."""
    flood = [work(0, SECOND, 75, "flood", "flood") for _ in range(200)]
    return _trace("newcomer", [*flood, work(SECOND, SECOND, 75, "newcomer", "newcomer")])


def dump(tolerance: int = 6 * SECOND) -> Trace:
    """At 1 s one tenant hands in 300 jobs beside five quiet ones (0.5 s)."""
    draws = Draws(1)
    done = [
        work(at, SECOND // 2, 50, f"quiet{draws.below(5)}", "quiet")
        for at in draws.arrivals(12, 0, 8 * SECOND)
    ]
    done += [work(SECOND, tolerance, 75, "noisy", "noisy") for _ in range(300)]
    return _trace("dump", done)


def behind() -> Trace:
    """An urgent job (0.3 s) four times a second beside nine tenants' 240 jobs of 100 ms."""
    done = [work(0, MINUTE, 100, f"bulk{n % 9}", "bulk") for n in range(240)]
    done += [
        work(at, 3 * SECOND // SCALE, 50, "urgent", "urgent")
        for at in range(SECOND, 5 * SECOND, SECOND // 4)
    ]
    return _trace("behind", done)


def _trace(name: str, done: list[Work]) -> Trace:
    return Trace(
        name=name,
        slots=SLOTS,
        use_cases=limits("slack", SLOTS, ()),
        work=in_order(done, "slack"),
    )


SCRIPTS: Mapping[str, Trace] = {
    "newcomer": newcomer(),
    "dump": dump(),
    "dump that claims to be urgent": dump(SECOND // 2),
    "behind": behind(),
}


def script_of(trace: Trace) -> Script:
    """Return what a program is to play."""
    parts = [
        Part(
            number=number,
            at=each.enqueued / SECOND,
            seconds=each.length / SECOND,
            tenant=each.tenant,
            tolerance=each.tolerance / SECOND,
            priority=_priority(each),
        )
        for number, each in enumerate(trace.work)
    ]
    longest = sum(each.length for each in trace.work) / trace.slots / SECOND
    return Script(trace.slots, parts, 3 * longest + 30)


def _priority(each: Work) -> int:
    """Return a static priority by tolerance, as a person would give it; higher goes first."""
    classes = sum(SCALE * each.tolerance > bound for bound in PRIORITY_CLASSES)
    return len(PRIORITY_CLASSES) - classes
