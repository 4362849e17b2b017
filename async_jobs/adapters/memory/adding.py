"""Adding jobs in memory, within a transaction: all of a call, or none of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

from async_jobs.adapters.memory.rows import MemoryRows, copy_of
from async_jobs.adapters.memory.transaction import MemoryTransaction
from async_jobs.adapters.memory.waiting import round_trip
from async_jobs.domain.job import Job, JobStatus
from async_jobs.domain.quota import Refused, admit
from async_jobs.ports.store import Added, AddResult, Duplicate, Invalid, Unreadable


class MemoryAdding(MemoryRows):
    """Implements `JobStore.add`, and the transactions that it takes part in."""

    def __init__(self, *, unreadable: Unreadable | None = None) -> None:
        super().__init__(unreadable=unreadable)
        self._tenant_locks: dict[str, asyncio.Lock] = {}

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[MemoryTransaction]:
        """Open a transaction to pass as `within`; an error on the way out rolls it back."""
        transaction = MemoryTransaction(self._tenant_locks)
        committed = False
        try:
            yield transaction
            committed = True
        except BaseException:
            for job_id in transaction.added:
                self._forget(job_id)
            raise
        finally:
            for job_id in transaction.added:
                self._uncommitted.pop(job_id, None)
            transaction.end(committed=committed)

    async def add(
        self,
        jobs: Sequence[Job],
        limits: Mapping[str, int],
        *,
        within: object | None = None,
        apart: bool = False,
    ) -> list[AddResult]:
        """See `JobStore`."""
        if within is None:
            async with self.transaction() as own:
                return await self._add(jobs, limits, own, apart=apart)
        return await self._add(jobs, limits, MemoryTransaction.of(within), apart=apart)

    async def _add(
        self,
        jobs: Sequence[Job],
        limits: Mapping[str, int],
        transaction: MemoryTransaction,
        *,
        apart: bool,
    ) -> list[AddResult]:
        await transaction.lock_tenants(limits)
        await round_trip()
        while blocker := self._blocker(jobs, transaction):
            await blocker.over.wait()
        fresh: dict[UUID, Job] = {}
        results = [self._judge(job, fresh) for job in jobs]
        invalid = next((r for r in results if isinstance(r, Invalid) and not apart), None)
        pending = Counter(row.tenant_id for row in self._in_status(JobStatus.PENDING, hidden=True))
        refusal = invalid or admit((job.tenant_id for job in fresh.values()), pending, limits)
        if refusal:
            return [refusal if _falls(result, refusal, fresh) else result for result in results]
        for job in fresh.values():
            self._put(copy_of(job))
            self._uncommitted[job.id] = transaction
            transaction.added.add(job.id)
        return results

    def _blocker(
        self, jobs: Sequence[Job], transaction: MemoryTransaction
    ) -> MemoryTransaction | None:
        """Return another open transaction whose outcome decides about one of `jobs`."""
        for job in jobs:
            for known in (job.id, self._keys.get((job.tenant_id, job.dedupe_key or ""))):
                holder = self._uncommitted.get(known) if known else None
                if holder is not None and holder is not transaction:
                    return holder
        return None

    def _judge(self, job: Job, fresh: dict[UUID, Job]) -> AddResult:
        known = self._rows.get(job.id) or fresh.get(job.id)
        if known is not None and known.tenant_id == job.tenant_id:
            return Duplicate(job.id)
        if known is not None:
            return Invalid(job.id, "id", "is taken; choose another")
        if job.dedupe_key is not None:
            key = (job.tenant_id, job.dedupe_key)
            twins = (each for each in fresh.values() if (each.tenant_id, each.dedupe_key) == key)
            holder = self._keys.get(key) or next((each.id for each in twins), None)
            if holder is not None:
                return Duplicate(holder)
        fresh[job.id] = job
        return Added(job.id)


def _falls(result: AddResult, refusal: Refused | Invalid, fresh: Collection[UUID]) -> bool:
    """Tell whether a job that was judged so is turned away with its call."""
    if isinstance(result, Duplicate):
        return result.of in fresh
    return isinstance(refusal, Invalid) or not isinstance(result, Invalid)
