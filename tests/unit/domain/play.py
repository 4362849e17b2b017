"""A tiny world around the policy: slots, jobs that run, and time that passes from event to event.

Nothing is late, lost or wrong in it: a turn is taken whenever something comes or ends, all that
waits is shown, and what is leased begins at once if there is an idle slot. Instants are whole
milliseconds after `NOW`, so that what tenants have had is counted exactly, apart from the policy.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from uuid import UUID

from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.dispatching import TurnView
from async_jobs.domain.fairness import ServiceMemory
from async_jobs.domain.limits import TenantQuota, UseCaseConfig
from async_jobs.domain.pools import Fleet
from async_jobs.domain.rounds import PARTS_OF_A_ROUND, ROUND_SECONDS
from async_jobs.domain.scheduling import Candidate
from async_jobs.domain.turns import RunningCount, Seen
from async_jobs.testing.builders import SimpleLimits
from tests.unit.domain.builders import NOW

HUGE = 100_000
SHOWN = 12
"""How many jobs that are alike a turn is shown: more than it has slots for."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """A job to be: who asks for it, when it comes, and how long it really runs, in milliseconds.

    When it comes, so much of its tolerance is `used` up already.
    """

    tenant: str = "acme"
    use_case: str = "mail"
    queue: str = "lane"
    type: str = "work"
    at: int = 0
    run: int = 1_000
    tolerance: int = 60_000
    used: int = 0
    priority: int = 0

    @property
    def deadline(self) -> int:
        return self.at + self.tolerance - self.used

    @property
    def kind(self) -> tuple[object, ...]:
        """What jobs have in common that come and go in order."""
        traits = (self.tolerance, self.used, self.priority, self.type)
        return (self.tenant, self.use_case, self.queue, *traits)


@dataclass(kw_only=True)
class Job:
    """A job that waits or runs."""

    work: Work
    candidate: Candidate
    since: int
    started: int | None = None
    worker: int | None = None


@dataclass(kw_only=True)
class Play:
    """The world.

    Attributes:
        workers: the queues each receives, and its slots.
        use_cases, weights, max_running: the limits.
        hand_off_seconds: what slots begin within that time may wait ahead of them.
        after_turn: told after every turn.
        now: milliseconds since the beginning.
        starts: every job that began, in order.
        service: slot-milliseconds ÷ weight that each tenant has had.
        longest_round: the longest run time that the policy expected so far, in seconds, and so
            the longest that a round may have been.
    """

    workers: list[tuple[tuple[str, ...], int]] = field(default_factory=lambda: [(("lane",), 4)])
    use_cases: Mapping[str, UseCaseConfig] = field(
        default_factory=lambda: {"mail": UseCaseConfig(max_concurrent=HUGE)}
    )
    weights: Mapping[str, float] = field(default_factory=dict)
    max_running: Mapping[str, int] = field(default_factory=dict)
    run_times: Mapping[str, float] = field(default_factory=dict)
    hand_off_seconds: float = 0.1
    after_turn: Callable[[Play], None] = lambda play: None

    def __post_init__(self) -> None:
        quotas = {
            tenant: TenantQuota(
                weight=self.weights.get(tenant, 1.0), max_running=self.max_running.get(tenant)
            )
            for tenant in {*self.weights, *self.max_running}
        }
        self.limits = SimpleLimits(use_case_configs=self.use_cases, per_tenant_quotas=quotas)
        self._fleet = Fleet.of(
            {str(number): worker for number, worker in enumerate(self.workers)},
            run_times=self.run_times,
            hand_off_seconds=self.hand_off_seconds,
        )
        self._free = [slots for _, slots in self.workers]
        # Who receives more queues is quicker, and so in the way of the others where it can be.
        self._quick = sorted(range(len(self.workers)), key=lambda n: -len(self.workers[n][0]))
        self.memory = ServiceMemory()
        self.now = 0
        self.waiting: dict[UUID, Job] = {}
        self.handed_off: list[Job] = []
        self.running: list[tuple[int, int, Job]] = []
        self.starts: list[Job] = []
        self.service: defaultdict[str, float] = defaultdict(float)
        self._weight = defaultdict(lambda: 1.0, self.weights)
        self.longest_round = 0.0
        self.turns = 0
        self._coming: list[tuple[int, int, Work]] = []
        self._number = 0
        # Of jobs alike the first ones show as much as all: they come and go in order.
        self._lanes: defaultdict[tuple[object, ...], dict[UUID, Candidate]] = defaultdict(dict)
        self._overdue: defaultdict[tuple[object, ...], dict[UUID, Candidate]] = defaultdict(dict)

    # --- what there is ---

    @property
    def slots(self) -> int:
        return sum(slots for _, slots in self.workers)

    @property
    def instant(self) -> datetime:
        return NOW + timedelta(milliseconds=self.now)

    def weight(self, tenant: str) -> float:
        return self._weight[tenant]

    def idle(self, queue: str = "lane") -> int:
        """Return how many slots receive a queue and run nothing."""
        receives = [queue in queues for queues, _ in self.workers]
        return sum(free for free, is_one in zip(self._free, receives, strict=True) if is_one)

    def is_eligible(self, job: Job) -> bool:
        """Tell whether nothing but slots keeps a waiting job from running."""
        runs = [each.work for each in (*[job for *_, job in self.running], *self.handed_off)]
        cap = self.use_cases[job.work.use_case].max_concurrent
        limit = self.max_running.get(job.work.tenant, HUGE)
        return (
            sum(work.use_case == job.work.use_case for work in runs) < cap
            and sum(work.tenant == job.work.tenant for work in runs) < limit
        )

    # --- what happens ---

    def add(self, works: Iterable[Work]) -> None:
        """Let jobs come, each at its time."""
        for work in works:
            self._number += 1
            heapq.heappush(self._coming, (work.at, self._number, work))

    def go_on(self, until: int) -> None:
        """Let time pass up to an instant, event by event."""
        while self._coming or self.running:
            at = min(self._coming[0][0] if self._coming else until + 1, self._next_end(until + 1))
            if at > until:
                break
            self._pass(at - self.now)
            self._come()
            self._end()
            self._begin()
            self.turn()
        self._pass(until - self.now)

    def _next_end(self, otherwise: int) -> int:
        return self.running[0][0] if self.running else otherwise

    def _pass(self, elapsed: int) -> None:
        for *_, job in self.running:
            self.service[job.work.tenant] += elapsed / self.weight(job.work.tenant)
        for job in self.handed_off:
            self.service[job.work.tenant] += elapsed / self.weight(job.work.tenant)
        self.now += elapsed

    def _come(self) -> None:
        while self._coming and self._coming[0][0] <= self.now:
            _, number, work = heapq.heappop(self._coming)
            candidate = Candidate(
                id=UUID(int=number),
                tenant_id=work.tenant,
                queue=work.queue,
                priority=work.priority,
                deadline_at=NOW + timedelta(milliseconds=work.deadline),
                lease_seq=0,
                tolerance_seconds=work.tolerance / 1_000,
                type=work.type,
            )
            self.waiting[candidate.id] = Job(work=work, candidate=candidate, since=self.now)
            self._lanes[work.kind][candidate.id] = candidate

    def _end(self) -> None:
        while self.running and self.running[0][0] <= self.now:
            *_, job = heapq.heappop(self.running)
            assert job.worker is not None
            self._free[job.worker] += 1

    def _begin(self) -> None:
        waiting = self.handed_off
        self.handed_off = []
        for job in waiting:
            able = [n for n in self._quick if job.work.queue in self.workers[n][0]]
            job.worker = next((number for number in able if self._free[number]), None)
            if job.worker is not None:
                self._free[job.worker] -= 1
                job.started = self.now
                end = self.now + job.work.run
                heapq.heappush(self.running, (end, job.candidate.id.int, job))
            else:
                self.handed_off.append(job)

    # --- turns ---

    def turn(self) -> None:
        """Take a turn, and what must follow at once."""
        while self._take_turn():
            pass
        self.after_turn(self)

    def _take_turn(self) -> bool:
        self.turns += 1
        view = TurnView(
            self.limits,
            self._counts(),
            self._fleet,
            self.memory,
            tenants_unheld=frozenset(),
            limit=1_000,
            now=self.instant,
        )
        expected = [self.memory.turnover(n).expected(ROUND_SECONDS) for n in self.use_cases]
        self.longest_round = max(self.longest_round, *expected, *self.run_times.values())
        shown: dict[str, list[Candidate]] = {name: [] for name in self.use_cases}
        for kind, lane in self._lanes.items():
            overdue = self._overdue[kind]
            while lane and (first := next(iter(lane.values()))).deadline_at < self.instant:
                overdue[first.id] = lane.pop(first.id)
            for candidate in (*islice(lane.values(), SHOWN), *islice(overdue.values(), SHOWN)):
                shown[self.waiting[candidate.id].work.use_case].append(candidate)
        tenants = {job.work.tenant for job in self.waiting.values()} if self.waiting else ()
        seen = {
            name: Seen(ready=ready, named=tenants)
            for name, ready in shown.items()
            if view.free(name) > 0
        }
        chosen = view.choose(seen)
        for candidate in chosen.expired:
            self._take_out(candidate)
        for _, candidate in chosen.chosen:
            job = self._take_out(candidate)
            self.starts.append(job)
            self.handed_off.append(job)
        self._begin()
        # What waits for slots that others took is known at the next turn.
        return bool(chosen.chosen) and (chosen.more or bool(self.handed_off))

    def _take_out(self, candidate: Candidate) -> Job:
        job = self.waiting.pop(candidate.id)
        self._lanes[job.work.kind].pop(candidate.id, None)
        self._overdue[job.work.kind].pop(candidate.id, None)
        return job

    def _counts(self) -> list[RunningCount]:
        claimed: Counter[tuple[str, str, str, int]] = Counter()
        unclaimed: Counter[tuple[str, str, str, int]] = Counter()
        for *_, job in self.running:
            group = self._fleet.workers[str(job.worker)]
            claimed[job.work.use_case, job.work.tenant, job.work.queue, group] += 1
        for job in self.handed_off:
            unclaimed[job.work.use_case, job.work.tenant, job.work.queue, 0] += 1
        return [
            RunningCount(*alike[:3], claimed[alike], unclaimed[alike], 0, alike[3])
            for alike in claimed.keys() | unclaimed.keys()
        ]

    # --- verdicts ---

    def is_late(self, job: Job) -> bool:
        """Tell whether a job has begun, or can only begin, after its deadline."""
        at = self.now if job.started is None else job.started
        return at > job.work.deadline

    def presses(self, job: Job) -> bool:
        """Tell whether a waiting job presses."""
        left = job.work.deadline - self.now
        sidelined = self.use_cases[job.work.use_case].late_policy is LatePolicy.SIDELINE
        if left < 0 and sidelined:
            return False
        return left <= max(10_000, job.work.tolerance / 2)


def lead_bound(play: Play, one: str, other: str, longest: int, *, borrowed: int = 0) -> float:
    """Return by how much one tenant's service ÷ weight may be ahead of another's who waits, in ms.

    A start goes to `one` only while it would end in no later quarter of a round than the other's
    next job does, or in rounds that it may borrow. So at a start it is less than a quarter, and the
    other's own step, ahead (a round R is the mean of what jobs are expected to run). From then on
    it only gains what it has running: of the slots it has some, where each counts for a longest job
    L, and the other has the rest, where each counts for a round that it was held to have had.
    """
    round_ms = min(60.0, max(play.longest_round, 0.001)) * 1_000
    of_other = round_ms / play.weight(other)
    running = play.slots * max(longest / play.weight(one), of_other)
    return (1 / PARTS_OF_A_ROUND + borrowed) * round_ms + of_other + running + 1
