"""The system of record, in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from uuid import UUID

from async_jobs.adapters.memory.adding import MemoryAdding
from async_jobs.adapters.memory.leases import MemoryLeases
from async_jobs.adapters.memory.rows import copy_of, unreadable_of
from async_jobs.adapters.memory.upkeep import MemoryUpkeep
from async_jobs.adapters.memory.waiting import round_trip
from async_jobs.domain.job import LIVE, Job, JobFilter, JobPage
from async_jobs.domain.lifecycle import Change, holds
from async_jobs.ports.store import Applied, ToldUnreadable


class MemoryJobStore(MemoryAdding, MemoryLeases, MemoryUpkeep):
    """Implements `Store`: `JobStore` here and in `MemoryAdding`, and the two others.

    Between reading and writing it lets other tasks run, as a database would, and keeps its
    promises by the same means: locks around admission, turns, and compare-and-set.
    """

    async def get(
        self,
        ids: Collection[UUID],
        *,
        tenant_id: str | None = None,
        unreadable: ToldUnreadable | None = None,
    ) -> list[Job]:
        """See `JobStore`."""
        await round_trip()
        rows = [self._rows[job_id] for job_id in dict.fromkeys(ids) if job_id in self._rows]
        rows = [row for row in rows if tenant_id is None or row.tenant_id == tenant_id]
        for row in rows:
            if unreadable is not None and row.id in self._corrupt:
                unreadable(unreadable_of(row))
        return [copy_of(row) for row in self._readable(rows)]

    async def find(self, criteria: JobFilter, *, limit: int, before: UUID | None = None) -> JobPage:
        """See `JobStore`."""
        await round_trip()
        matching = [
            row
            for row in self._rows.values()
            if (before is None or row.id < before)
            and criteria.tenant_id in (None, row.tenant_id)
            and criteria.use_case in (None, row.use_case)
            and criteria.status in (None, row.status)
            and row.id not in self._uncommitted
        ]
        matching.sort(key=lambda row: row.id, reverse=True)
        page = matching[:limit]
        cursor = page[-1].id if len(matching) > limit else None
        unreadable = tuple(unreadable_of(row) for row in page if row.id in self._corrupt)
        return JobPage(tuple(copy_of(row) for row in self._readable(page)), cursor, unreadable)

    async def save(self, changes: Sequence[Change]) -> Applied:
        """See `JobStore`."""
        await round_trip()
        for change in changes:
            while over := self._leasing.get(change.job.id) or self._key_in_doubt(change.job):
                await over.wait()
        applied: set[UUID] = set()
        conflicting: set[UUID] = set()
        for change in changes:
            row = self._rows.get(change.job.id)
            if row is None or row.id in self._uncommitted:
                continue
            if not holds(change, row):
                applied |= {row.id} if row == change.job else set()
            elif self._key_taken(change.job):
                conflicting.add(row.id)
            else:
                self._set(change)
                applied.add(row.id)
        return Applied(frozenset(applied), frozenset(conflicting))

    def _key_taken(self, job: Job) -> bool:
        return job.status in LIVE and self._key_holder(job) not in (None, job.id)

    def _key_in_doubt(self, job: Job) -> asyncio.Event | None:
        """Return what ends when an open transaction has decided about the job's key."""
        holder = self._key_holder(job)
        open_one = self._uncommitted.get(holder) if holder is not None else None
        return None if open_one is None or job.status not in LIVE else open_one.over

    def _key_holder(self, job: Job) -> UUID | None:
        return None if job.dedupe_key is None else self._keys.get((job.tenant_id, job.dedupe_key))
