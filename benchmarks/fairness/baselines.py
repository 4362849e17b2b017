"""Plain policies under ideal conditions: no hand-off, no latency, one slot free, one job starts.

Each is what a queue without tenants, or without deadlines, would do at best.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol, TypeAlias

from benchmarks.fairness.world import HOUR, MINUTE, SECOND, Ran, Trace


class Waiting(NamedTuple):
    """A job that is due, by its attempt."""

    number: int
    due: int
    deadline: int
    attempt: int


class Policy(Protocol):
    """Says which waiting job starts when a slot is free."""

    def add(self, job: Waiting) -> None:
        """Take note of a job that has come due."""
        ...

    def pop(self, at: int) -> Waiting | None:
        """Return the job that starts now, None if none may."""
        ...

    def done(self, index: int) -> None:
        """Take note of a job that has ended."""
        ...


Key: TypeAlias = Callable[[Trace, Waiting], int]


class Keyed:
    """The least key first, then the earliest due; use cases keep to their capacity."""

    def __init__(self, trace: Trace, key: Key) -> None:
        self._trace = trace
        self._key = key
        self._heaps: dict[str, list[tuple[int, int, Waiting]]] = {u: [] for u in trace.use_cases}
        self._running = dict.fromkeys(trace.use_cases, 0)

    def add(self, job: Waiting) -> None:
        """See `Policy`."""
        heap = self._heaps[self._trace.work[job.number].use_case]
        heapq.heappush(heap, (self._key(self._trace, job), job.due, job))

    def pop(self, at: int) -> Waiting | None:
        """See `Policy`."""
        open_ones = [
            (heap[0], name)
            for name, heap in self._heaps.items()
            if heap and self._running[name] < self._trace.use_cases[name].cap
        ]
        if not open_ones:
            return None
        name = min(open_ones)[1]
        self._running[name] += 1
        return heapq.heappop(self._heaps[name])[-1]

    def done(self, index: int) -> None:
        """See `Policy`."""
        self._running[self._trace.work[index].use_case] -= 1


class RoundRobin:
    """Tenants by turns, each first in, first out. Knows no capacities."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._queues: dict[str, deque[Waiting]] = {}
        self._ring: deque[str] = deque()

    def add(self, job: Waiting) -> None:
        """See `Policy`."""
        tenant = self._trace.work[job.number].tenant
        queue = self._queues.setdefault(tenant, deque())
        if not queue:
            self._ring.append(tenant)
        queue.append(job)

    def pop(self, at: int) -> Waiting | None:
        """See `Policy`."""
        if not self._ring:
            return None
        tenant = self._ring.popleft()
        queue = self._queues[tenant]
        job = queue.popleft()
        if queue:
            self._ring.append(tenant)
        return job

    def done(self, index: int) -> None:
        """See `Policy`."""


class LateLast:
    """The earliest deadline first among those that can still be on time; late ones after them."""

    def __init__(self, trace: Trace) -> None:
        self._on_time: list[tuple[int, Waiting]] = []
        self._late: list[tuple[int, Waiting]] = []

    def add(self, job: Waiting) -> None:
        """See `Policy`."""
        heapq.heappush(self._on_time, (job.deadline, job))

    def pop(self, at: int) -> Waiting | None:
        """See `Policy`."""
        while self._on_time and self._on_time[0][0] < at:
            heapq.heappush(self._late, heapq.heappop(self._on_time))
        heap = self._on_time or self._late
        return heapq.heappop(heap)[-1] if heap else None

    def done(self, index: int) -> None:
        """See `Policy`."""


PRIORITY_CLASSES = (5 * SECOND, MINUTE, 10 * MINUTE, HOUR)
"""Static priorities as a person would give them: by tolerance, up to these bounds."""


def _due(trace: Trace, job: Waiting) -> int:
    return job.due


def _deadline(trace: Trace, job: Waiting) -> int:
    return job.deadline


def _class(trace: Trace, job: Waiting) -> int:
    return sum(trace.work[job.number].tolerance > bound for bound in PRIORITY_CLASSES)


def _laxity(trace: Trace, job: Waiting) -> int:
    # Deadlines are for starts, where laxity is the deadline; this is what it is for ends.
    return job.deadline - trace.work[job.number].length


BASELINES: Mapping[str, Callable[[Trace], Policy]] = {
    "FIFO": lambda trace: Keyed(trace, _due),
    "static priority": lambda trace: Keyed(trace, _class),
    "round robin": RoundRobin,
    "global EDF": lambda trace: Keyed(trace, _deadline),
    "EDF, late last": LateLast,
    "least laxity": lambda trace: Keyed(trace, _laxity),
}


def run(trace: Trace, make: Callable[[Trace], Policy]) -> Ran:
    """Run a trace under a plain policy."""
    policy = make(trace)
    ran = Ran(trace=trace)
    coming = [
        Waiting(index, work.due, work.deadline, 1)
        for index, work in enumerate(trace.work)
        if trace.max_running.get(work.tenant) != 0  # paused
    ]
    arrivals = [(job.due, job.number, job) for job in coming]
    heapq.heapify(arrivals)
    ends: list[tuple[int, int, int]] = []
    free = trace.slots
    while arrivals or ends:
        at = min(heap[0][0] for heap in (arrivals, ends) if heap)
        if trace.horizon is not None and at > trace.horizon:
            break
        while ends and ends[0][0] == at:
            _, index, attempt = heapq.heappop(ends)
            free += 1
            policy.done(index)
            if trace.fails is not None and trace.fails(index, attempt):
                due = at + trace.pause(index, attempt)
                again = Waiting(index, due, due + trace.work[index].tolerance, attempt + 1)
                heapq.heappush(arrivals, (due, index, again))
        while arrivals and arrivals[0][0] == at:
            policy.add(heapq.heappop(arrivals)[-1])
        while free and (job := policy.pop(at)) is not None:
            free -= 1
            ran.start(job.number, job.attempt, at)
            heapq.heappush(ends, (at + trace.work[job.number].length, job.number, job.attempt))
    return ran
