"""What a turn would see of the jobs in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from datetime import datetime

from async_jobs.adapters.memory.store import MemoryJobStore
from async_jobs.adapters.memory.turn import MemoryTurn, candidate_of
from async_jobs.adapters.memory.waiting import round_trip
from async_jobs.domain.backlog import Backlog
from async_jobs.domain.job import Job
from async_jobs.domain.limits import Limits
from async_jobs.domain.outlook import Counted
from async_jobs.domain.scheduling import in_tenant_order
from async_jobs.ports.overview import Coming


class MemoryLook(MemoryTurn):
    """Implements `Look`."""

    async def ahead(self, job: Job, config: Limits, now: datetime, *, limit: int) -> Counted | None:
        """See `Look`."""
        await round_trip()
        policy = config.use_case_configs[job.use_case].late_policy
        lane = [
            candidate_of(row)
            for row in self.pending
            if (row.use_case, row.tenant_id) == (job.use_case, job.tenant_id) and row.run_at <= now
        ]
        ids = [candidate.id for candidate in in_tenant_order(lane, policy, now)]
        if job.id not in ids:
            return None
        place = ids.index(job.id)
        return Counted(min(place, limit), place > limit)

    async def pending_of(
        self, tenants: Collection[str], *, limit: int
    ) -> Mapping[str, Mapping[str, Counted]]:
        """See `Look`."""
        await round_trip()
        counts: dict[str, Mapping[str, Counted]] = {}
        for tenant in tenants:
            names = [row.use_case for row in self.pending if row.tenant_id == tenant]
            cut = len(names) > limit
            counts[tenant] = {
                name: Counted(count, cut) for name, count in Counter(names[:limit]).items()
            }
        return counts

    async def coming(self, now: datetime, *, limit: int) -> Collection[Coming]:
        """See `Look`."""
        await round_trip()
        later = sorted((row.run_at, row.id, row) for row in self.pending if row.run_at > now)
        return {Coming(row.tenant_id, row.queue, row.type) for *_, row in later[:limit]}

    async def backlog(
        self, use_cases: Collection[str], now: datetime, *, limit: int
    ) -> Mapping[str, Backlog]:
        """See `Look`."""
        await round_trip()
        pending = [row for row in self.pending if row.id not in self._held]
        later = sorted((row.run_at, row.id, row) for row in pending if row.run_at > now)
        scheduled = [row for *_, row in later[:limit]]
        return {
            name: Backlog(
                sorted(r.deadline_at for r in pending if r.use_case == name and r.run_at <= now)[
                    :limit
                ],
                sorted(row.deadline_at for row in scheduled if row.use_case == name),
            )
            for name in use_cases
        }


class MemoryOverview:
    """Implements `Overview` over the jobs of a store."""

    def __init__(self, store: MemoryJobStore) -> None:
        self._store = store

    @asynccontextmanager
    async def looking(self, use_cases: Collection[str]) -> AsyncIterator[MemoryLook]:
        """See `Overview`."""
        yield MemoryLook(
            use_cases=frozenset(use_cases),
            tenants=frozenset(),
            rows=self._store.visible,
            leasing={},
            held=self._store.held,
        )
