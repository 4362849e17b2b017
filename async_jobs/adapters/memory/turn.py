"""A dispatch turn on the memory store."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from uuid import UUID

from async_jobs.adapters.memory.queue import MemoryJobQueue
from async_jobs.adapters.memory.waiting import round_trip
from async_jobs.domain.deadline import LatePolicy, is_late
from async_jobs.domain.job import HandOff, Job, JobStatus
from async_jobs.domain.lifecycle import Leased, advance
from async_jobs.domain.scheduling import Candidate, LeaseGrant, in_tenant_order
from async_jobs.domain.turns import RunningCount
from async_jobs.ports.leases import NOBODY, Heads, HeadsQuery
from async_jobs.ports.queue import Outbox


class MemoryTurn:
    """Implements `DispatchTurn`. What it leases is applied by the store when it ends well."""

    def __init__(
        self,
        *,
        use_cases: frozenset[str],
        tenants: frozenset[str],
        rows: Callable[[JobStatus], list[Job]],
        leasing: dict[UUID, asyncio.Event],
        held: AbstractSet[UUID] = frozenset(),
        controls: int = 0,
    ) -> None:
        self._use_cases = use_cases
        self._tenants = tenants
        self._rows = rows
        self._leasing = leasing
        self._held = held
        self._controls = controls
        self._leased: dict[UUID, Job] = {}
        self._handed_off: list[tuple[MemoryJobQueue, HandOff]] = []
        self._over = asyncio.Event()

    @property
    def use_cases(self) -> frozenset[str]:
        """See `DispatchTurn`."""
        return self._use_cases

    @property
    def tenants(self) -> frozenset[str]:
        """See `DispatchTurn`."""
        return self._tenants

    @property
    def controls(self) -> int:
        """See `DispatchTurn`."""
        return self._controls

    @property
    def refused(self) -> Collection[UUID]:
        """See `DispatchTurn`. Memory has no rules of its own."""
        return ()

    @property
    def pending(self) -> list[Job]:
        """What waits."""
        return self._rows(JobStatus.PENDING)

    async def running(self, workers: Mapping[str, int] = NOBODY) -> Sequence[RunningCount]:
        """See `DispatchTurn`."""
        await round_trip()
        claimed: Counter[tuple[str, str, str, int]] = Counter()
        unclaimed: Counter[tuple[str, str, str, int]] = Counter()
        strays: Counter[tuple[str, str, str, int]] = Counter()
        for row in [*self._rows(JobStatus.RUNNING), *self._leased.values()]:
            group = 0 if row.started_at is None else workers.get(row.worker_id or "", 0)
            alike = row.use_case, row.tenant_id, row.queue, group
            (unclaimed if row.started_at is None else claimed)[alike] += 1
            strays[alike] += row.started_at is not None and row.worker_id not in workers
        return [
            RunningCount(*alike[:3], claimed[alike], unclaimed[alike], strays[alike], alike[3])
            for alike in claimed.keys() | unclaimed.keys()
        ]

    async def heads(self, queries: Sequence[HeadsQuery], now: datetime) -> Mapping[str, Heads]:
        """See `DispatchTurn`."""
        await round_trip()
        ready: defaultdict[str, list[Job]] = defaultdict(list)
        for row in self._rows(JobStatus.PENDING):
            if row.run_at <= now and row.id not in self._leased and row.id not in self._held:
                ready[row.use_case].append(row)
        return {
            query.use_case: _heads(ready[query.use_case], query, now)
            for query in queries
            if query.use_case in self._use_cases
        }

    async def lease(
        self, grants: Sequence[LeaseGrant], *, onto: Sequence[Outbox] = ()
    ) -> frozenset[UUID]:
        """See `DispatchTurn`. `onto` are lanes of this adapter."""
        lanes = {lane.name: lane for lane in onto if isinstance(lane, MemoryJobQueue)}
        if len(lanes) < len(onto):
            raise TypeError("a turn hands off on queues of its own store only")
        await round_trip()
        pending = {row.id: row for row in self._rows(JobStatus.PENDING)}
        leased = set()
        for grant in grants:
            row = pending.get(grant.job_id)
            taken = grant.job_id in self._leasing
            if row is None or taken or row.lease_seq != grant.expected_lease_seq:
                continue
            self._leased[row.id] = advance(row, Leased(grant.until), now=grant.at)
            self._leasing[row.id] = self._over
            leased.add(row.id)
            if lane := lanes.get(row.queue):
                self._handed_off.append((lane, HandOff(row.id, grant.lease_seq, row.tenant_id)))
        return frozenset(leased)

    def hand_off(self) -> None:
        """Put on their lanes what was leased onto them: the turn has ended without an error."""
        for lane, handoff in self._handed_off:
            lane.put(handoff)

    def leased(self) -> list[Job]:
        """Return the jobs to store when the turn ends without an error."""
        return list(self._leased.values())

    def end(self) -> None:
        """Let go of the rows and wake whoever waits for them."""
        for job_id in self._leased:
            self._leasing.pop(job_id, None)
        self._over.set()


def _heads(ready: list[Job], query: HeadsQuery, now: datetime) -> Heads:
    """Return a bounded view, as an adapter over a million rows has to.

    The window of the `limit` most urgent jobs that can be on time shows whose work presses. Named
    tenants are shown as well, and a walk, `limit` of them at a time, shows those whom the backlog
    of others hides.
    """
    candidates = [candidate_of(row) for row in ready]
    candidates.sort(key=lambda c: (is_late(c.deadline_at, now), c.deadline_at, c.id))
    window = candidates[: query.limit]
    in_window = Counter(candidate.tenant_id for candidate in window)
    by_tenant: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        by_tenant.setdefault(candidate.tenant_id, []).append(candidate)
    walk = [tenant for tenant in sorted(by_tenant) if tenant > query.after][: query.limit]
    shown = (in_window.keys() | set(walk) | set(query.tenants)) & by_tenant.keys()
    extra = max(1, 2 * query.limit // max(1, len(shown)))
    seen: dict[UUID, Candidate] = {}
    for tenant in sorted(shown):
        lane = in_tenant_order(by_tenant[tenant], query.late_policy, now)
        for candidate in lane[: min(query.limit, in_window[tenant] + extra)]:
            seen[candidate.id] = candidate
    seen.update((candidate.id, candidate) for candidate in window)
    late: list[Candidate] = []
    if query.late_policy is LatePolicy.EXPIRE:
        late = [c for c in candidates if is_late(c.deadline_at, now)][: query.limit]
    resume = walk[-1] if len(walk) == query.limit else ""
    return Heads(ready=tuple(seen.values()), late=tuple(late), resume=resume)


def candidate_of(job: Job) -> Candidate:
    """Return what `heads` shows of a pending job that is due."""
    return Candidate(
        id=job.id,
        tenant_id=job.tenant_id,
        queue=job.queue,
        priority=job.priority,
        deadline_at=job.deadline_at,
        lease_seq=job.lease_seq,
        tolerance_seconds=job.delay_tolerance.total_seconds(),
        type=job.type,
    )
