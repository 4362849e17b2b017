"""Figures of a run. Times in them are seconds, but where a name says ticks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

from benchmarks.fairness.world import SECOND, TICK, Ran, Trace, Work

Keep: TypeAlias = Callable[[Work], bool]


def everything(work: Work) -> bool:
    """Keep all."""
    return True


def counts(trace: Trace, keep: Keep = everything) -> list[int]:
    """Return the jobs that count: due before `counts_until`, with a deadline before the horizon."""
    return [
        index
        for index, work in enumerate(trace.work)
        if (trace.counts_until is None or work.due < trace.counts_until)
        and (trace.horizon is None or work.deadline < trace.horizon)
        and keep(work)
    ]


def is_on_time(ran: Ran, index: int) -> bool:
    """Tell whether the first attempt of a job started by its deadline."""
    start = ran.first[index]
    return start is not None and start <= ran.trace.work[index].deadline


def attainment(ran: Ran, keep: Keep = everything) -> float | None:
    """Return the share of first attempts that started on time; None if there are none."""
    indexes = counts(ran.trace, keep)
    if not indexes:
        return None
    return sum(is_on_time(ran, index) for index in indexes) / len(indexes)


def by_group(ran: Ran, group: Callable[[Work], str]) -> dict[str, float]:
    """Return the attainment of each group, by name."""
    groups: defaultdict[str, list[bool]] = defaultdict(list)
    for index in counts(ran.trace):
        groups[group(ran.trace.work[index])].append(is_on_time(ran, index))
    return {name: sum(each) / len(each) for name, each in sorted(groups.items())}


def worst_tenant(ran: Ran) -> float:
    """Return the attainment of the tenant that has the least."""
    return min(by_group(ran, lambda work: work.tenant).values(), default=1.0)


def lateness(ran: Ran, percent: float) -> float:
    """Return a percentile of how late first attempts started; what never did counts to the end."""
    late = []
    for index in counts(ran.trace):
        start = ran.first[index]
        late.append(max(0, (ran.end if start is None else start) - ran.trace.work[index].deadline))
    return percentile(late, percent) / SECOND


def waits(ran: Ran, keep: Keep) -> list[float]:
    """Return how long jobs waited from their due time on; what never started, to the end."""
    found = []
    for index in counts(ran.trace, keep):
        start = ran.first[index]
        found.append(((ran.end if start is None else start) - ran.trace.work[index].due) / SECOND)
    return found


def percentile(values: Sequence[float], percent: float) -> float:
    """Return a percentile, interpolated; 0 of nothing."""
    if not values:
        return 0.0
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def jain(parts: Iterable[float]) -> float:
    """Return Jain's index: 1 when all have as much, 1 ÷ n when one has everything."""
    values = list(parts)
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else 1.0


def service(ran: Ran, begin: int, end: int) -> dict[str, float]:
    """Return the slot-seconds that each tenant was served within an interval."""
    served: defaultdict[str, float] = defaultdict(float)
    for span in ran.spans:
        held = min(span.start + ran.length(span), end) - max(span.start, begin)
        if held > 0:
            served[ran.trace.work[span.number].tenant] += held / SECOND
    return served


def fairness(ran: Ran, begin: int, end: int) -> float:
    """Return Jain's index of slot-seconds ÷ weight of all tenants, backlogged in the interval."""
    served = service(ran, begin, end)
    weights = ran.trace.weights
    return jain(served.get(each, 0.0) / weights.get(each, 1.0) for each in ran.trace.tenants)


def unserved(ran: Ran, begin: int, end: int) -> int:
    """Return how many tenants started nothing in an interval."""
    work = ran.trace.work
    started = {work[span.number].tenant for span in ran.spans if begin <= span.start < end}
    return len(ran.trace.tenants) - len(started)


def longest_wait(ran: Ran, begin: int, end: int) -> float:
    """Return the longest time that a backlogged tenant went without a running job."""
    spans: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    for span in sorted(ran.spans):
        tenant = ran.trace.work[span.number].tenant
        spans[tenant].append((span.start, span.start + ran.length(span)))
    longest = 0
    for tenant in ran.trace.tenants:
        at = begin
        for start, until in spans[tenant]:
            longest = max(longest, min(start, end) - at)
            at = max(at, until)
        longest = max(longest, end - at)
    return longest / SECOND


def moved(alone: Ran, beside: Ran, keep: Keep) -> float:
    """Return by how many ticks the p99 start of the worst tenant moved, its peers unchanged."""
    tenants = {work.tenant for work in alone.trace.work if keep(work)}

    def p99(ran: Ran, tenant: str) -> float:
        return percentile(waits(ran, lambda work: work.tenant == tenant), 99)

    ticks = TICK / SECOND
    return max((p99(beside, each) - p99(alone, each)) / ticks for each in tenants)


def share(wanted: Mapping[str, float], capacity: float, tenant: str) -> float:
    """Return a tenant's max-min fair share of a capacity, all tenants weighing the same."""
    left, hungry = capacity, dict(wanted)
    while hungry:
        part = left / len(hungry)
        content = [name for name, wants in hungry.items() if wants <= part]
        if not content:
            return part if tenant in hungry else wanted[tenant]
        for name in content:
            left -= hungry.pop(name)
    return wanted[tenant]


def gain(ran: Ran, tenant: str, begin: int, end: int) -> float:
    """Return what a tenant was served beyond its fair share of an interval, ÷ that share.

    What tenants want is the work that comes due for them in the interval; a tenant that wants
    more than its share is taken to have enough that waits from before.
    """
    wanted: defaultdict[str, float] = defaultdict(float)
    for work in ran.trace.work:
        if begin <= work.due < end:
            wanted[work.tenant] += work.length / SECOND
    fair = share(wanted, ran.trace.slots * (end - begin) / SECOND, tenant)
    return service(ran, begin, end).get(tenant, 0.0) / fair - 1


def load_swing(ran: Ran, width: int, begin: int, end: int) -> float:
    """Return the executed load at its peak ÷ that at its trough, in windows of a width."""
    count = (end - begin) // width
    load = [0.0] * count
    for span in ran.spans:
        until = span.start + ran.length(span)
        window = max(0, (span.start - begin) // width)
        while window < count and begin + window * width < until:
            low = begin + window * width
            load[window] += max(0, min(until, low + width) - max(span.start, low))
            window += 1
    return max(load) / min(load) if min(load) > 0 else float("inf")


def overtaken_by(ran: Ran, kind: str) -> int:
    """Return how many jobs started after the only job of a kind was due and before it did."""
    (index,) = (i for i, work in enumerate(ran.trace.work) if work.kind == kind)
    due, start = ran.trace.work[index].due, ran.first[index]
    end = ran.end if start is None else start
    before = (span for span in ran.spans if span.number != index)
    return sum(due <= span.start <= end for span in before)
