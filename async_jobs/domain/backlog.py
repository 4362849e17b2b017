"""What waits, what can run it, and whose it is: a survey, for gauges."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from async_jobs.domain.fairness import Contest, Quotas, ServiceMemory, exact_weight
from async_jobs.domain.limits import UNLIMITED, Limits, queue_of
from async_jobs.domain.outlook import Due, demand_bound, dues, start_rate
from async_jobs.domain.pools import Fleet
from async_jobs.domain.turns import RunningCount

SHARES_MAX: Final = 1_000
"""Of so many tenants of a contest the shares are told at most: those who use most of it."""


class Backlog(NamedTuple):
    """By when jobs of one use case have to start, each in order: those due, and scheduled ones."""

    due: Sequence[datetime] = ()
    scheduled: Sequence[datetime] = ()


class UseCaseLoad(NamedTuple):
    """What waits and runs of one use case.

    Attributes:
        ready: jobs that are due and not late.
        overdue: jobs that are late and have not started.
        scheduled: jobs that are due later.
        oldest_overdue_seconds: for how long the first of the overdue ones should have started.
        limit: how many may run.
        running: how many run, `unclaimed` of them handed off and not begun.
        required_rate: starts per second that the deadlines of all that waits ask for.
        capacity_rate: starts per second that slots and limit allow.
    """

    use_case: str
    ready: int
    overdue: int
    scheduled: int
    oldest_overdue_seconds: float
    limit: int
    running: int
    unclaimed: int
    required_rate: float
    capacity_rate: float


class QueueLoad(NamedTuple):
    """What there is to run the jobs of one queue.

    Attributes:
        workers: those that live and receive it.
        slots: theirs; with other queues that they receive they share them.
        busy: how many of the slots jobs have begun in.
        unclaimed: jobs handed off on it and not begun.
        required: the slots that the deadlines of all ask for that share them, no more than their
            limits allow.
    """

    queue: str
    workers: int
    slots: int
    busy: int
    unclaimed: int
    required: float


class TenantShare(NamedTuple):
    """A tenant's part of what somebody waits for, from 0 to 1: by its weight, and what it has."""

    of: str
    tenant_id: str
    entitled: float
    used: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Surveyor:
    """Reckons from everything that was looked at, at one instant.

    Attributes:
        config: limits, late policies and weights.
        fleet: the slots there are.
        receiving: the queues that each live worker receives.
        counts: what runs.
        backlogs: what waits, by use case.
        run_seconds: returns how long jobs of a use case hold a slot.
        now: the instant.
    """

    config: Limits
    fleet: Fleet
    receiving: Collection[Collection[str]]
    counts: Collection[RunningCount]
    backlogs: Mapping[str, Backlog]
    run_seconds: Callable[[str], float]
    now: datetime

    def use_cases(self) -> Iterator[UseCaseLoad]:
        """Yield what waits and runs of each use case."""
        running, unclaimed = Counter[str](), Counter[str]()
        for count in self.counts:
            running[count.use_case] += count.claimed + count.unclaimed
            unclaimed[count.use_case] += count.unclaimed
        idle = self._idle()
        for name, config in self.config.use_case_configs.items():
            backlog, limit = self.backlogs.get(name, Backlog()), config.max_concurrent
            late = bisect_left(backlog.due, self.now)
            queue = queue_of(name, config)
            pool = self.fleet.pool_of(queue)
            slots = min(pool.reach(queue), limit)
            free = min(slots, idle(pool.queues), max(0, limit - running[name]))
            yield UseCaseLoad(
                use_case=name,
                ready=len(backlog.due) - late,
                overdue=late,
                scheduled=len(backlog.scheduled),
                oldest_overdue_seconds=(self.now - backlog.due[0]).total_seconds() if late else 0.0,
                limit=limit,
                running=running[name],
                unclaimed=unclaimed[name],
                required_rate=demand_bound(
                    dues(
                        (*backlog.due, *backlog.scheduled),
                        now=self.now,
                        late_policy=config.late_policy,
                    ),
                    free,
                ),
                capacity_rate=start_rate(slots, self.run_seconds(name)),
            )

    def queues(self) -> Iterator[QueueLoad]:
        """Yield what there is to run the jobs of each queue that a use case feeds."""
        configs = self.config.use_case_configs
        busy, unclaimed = Counter[str](), Counter[str]()
        for count in self.counts:
            busy[count.queue] += self._in_slots(count)
            unclaimed[count.queue] += count.unclaimed
        required = self._required()
        for queue in sorted({queue_of(name, each) for name, each in configs.items()}):
            pool = self.fleet.pool_of(queue)
            yield QueueLoad(
                queue=queue,
                workers=sum(queue in queues for queues in self.receiving),
                slots=pool.reach(queue),
                busy=min(pool.slots, sum(busy[each] for each in pool.queues)),
                unclaimed=unclaimed[queue],
                required=required[pool.queues],
            )

    def _in_slots(self, count: RunningCount) -> int:
        # Who died holds no slot that there still is; its jobs run until their leases end.
        return count.claimed - count.strays

    def _idle(self) -> Callable[[frozenset[str]], int]:
        """Return what tells how many slots of a pool no job holds or is under way to."""
        taken = Counter[frozenset[str]]()
        for count in self.counts:
            taken[self.fleet.pool_of(count.queue).queues] += self._in_slots(count) + count.unclaimed
        slots = {pool.queues: pool.slots for pool in self.fleet.pools}
        return lambda queues: max(0, slots.get(queues, 0) - taken[queues])

    def _required(self) -> defaultdict[frozenset[str], float]:
        """Return how many slots of each pool the deadlines ask for."""
        wanted = defaultdict[frozenset[str], list[Due]](list)
        limits = Counter[frozenset[str]]()
        for name, config in self.config.use_case_configs.items():
            if not config.max_concurrent:
                continue  # it is paused: slots do not help
            pool = self.fleet.pool_of(queue_of(name, config)).queues
            backlog = self.backlogs.get(name, Backlog())
            limits[pool] += config.max_concurrent
            wanted[pool] += dues(
                (*backlog.due, *backlog.scheduled),
                now=self.now,
                late_policy=config.late_policy,
                weight=self.run_seconds(name),
            )
        idle = self._idle()
        required = defaultdict[frozenset[str], float](float)
        for pool, jobs in wanted.items():
            required[pool] = min(demand_bound(jobs, idle(pool)), float(limits[pool]))
        return required

    def capacity_shares(self, memory: ServiceMemory) -> Iterator[TenantShare]:
        """Yield the shares of each use case's capacity that somebody waits for."""
        running = defaultdict[str, Counter[str]](Counter)
        for count in self.counts:
            running[count.use_case][count.tenant_id] += count.claimed + count.unclaimed
        for name in self.config.use_case_configs:
            yield from self._shares(name, memory.use_case(name), running[name])

    def slot_shares(self, memory: ServiceMemory) -> Iterator[TenantShare]:
        """Yield the shares of the slots that serve each queue, where somebody waits for them."""
        running = defaultdict[frozenset[str], Counter[str]](Counter)
        for count in self.counts:
            pool = self.fleet.pool_of(count.queue).queues
            running[pool][count.tenant_id] += count.claimed + count.unclaimed
        configs = self.config.use_case_configs
        for queue in sorted({queue_of(name, each) for name, each in configs.items()}):
            pool = self.fleet.pool_of(queue).queues
            yield from self._shares(queue, memory.pool(pool), running[pool])

    def _shares(
        self, of: str, contest: Contest, running: Mapping[str, int]
    ) -> Iterator[TenantShare]:
        if not contest.waiting:
            return
        contending = {tenant for tenant, count in running.items() if count} | contest.waiting
        weights = _weights(contending, self.config.per_tenant_quotas)
        whole, taken = sum(weights.values()), max(1, sum(running.values()))
        first = sorted(contending, key=lambda tenant: (-running.get(tenant, 0), tenant))
        for tenant in first[:SHARES_MAX]:
            yield TenantShare(of, tenant, weights[tenant] / whole, running.get(tenant, 0) / taken)


def _weights(tenants: Iterable[str], quotas: Quotas) -> dict[str, float]:
    return {each: float(exact_weight(quotas.get(each, UNLIMITED).weight)) for each in tenants}
