"""Bulk operations, in memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from async_jobs.adapters.memory.rows import copy_of
from async_jobs.adapters.memory.store import MemoryJobStore
from async_jobs.adapters.memory.waiting import round_trip
from async_jobs.domain.audit import Operation
from async_jobs.domain.bulk import (
    Batch,
    BulkAction,
    BulkOperation,
    BulkState,
    Changed,
    Deleted,
    after_batch,
    statuses_of,
    stopped,
)
from async_jobs.domain.filters import JobQuery
from async_jobs.domain.job import Job
from async_jobs.ports.bulk import Decide, Stepped


class _Cancelled(NamedTuple):
    """What one batch has cancelled, and when."""

    at: datetime
    ids: Sequence[UUID]


class _Page(NamedTuple):
    """The jobs of a batch, where the next one goes on, and whether there is none."""

    ids: Sequence[UUID]
    cursor: UUID | None
    is_last: bool
    cancelled_at: datetime | None = None


class MemoryBulk:
    """Implements `Bulk` beside a `MemoryJobStore`."""

    def __init__(self, store: MemoryJobStore) -> None:
        self._store = store
        self._operations: dict[UUID, BulkOperation] = {}
        self._cancelled: dict[UUID, list[_Cancelled]] = {}
        self._busy: set[UUID] = set()

    async def create(self, operation: BulkOperation, audit: Operation) -> BulkOperation:
        """See `Bulk`."""
        await round_trip()
        if operation.id not in self._operations:
            self._operations[operation.id] = operation
            self._store.controls.write(audit)
        return self._operations[operation.id]

    async def get(self, operation_id: UUID) -> BulkOperation | None:
        """See `Bulk`."""
        await round_trip()
        return self._operations.get(operation_id)

    async def operations(
        self,
        *,
        limit: int,
        before: UUID | None = None,
        tenants: Collection[str] | None = None,
    ) -> Sequence[BulkOperation]:
        """See `Bulk`."""
        await round_trip()
        matching = [
            each
            for each in self._operations.values()
            if (before is None or each.id < before)
            and (tenants is None or each.criteria.tenant_id in tenants)
        ]
        return sorted(matching, key=lambda each: each.id, reverse=True)[:limit]

    async def count(self, action: BulkAction, criteria: JobQuery, *, limit: int) -> int:
        """See `Bulk`."""
        await round_trip()
        query = replace(criteria, statuses=statuses_of(action, criteria))
        return min(limit, sum(self._matches(query, row) for row in self._store.committed()))

    async def step(
        self, now: datetime, *, limit: int, decide: Decide, pause: Callable[[int], timedelta]
    ) -> Stepped:
        """See `Bulk`."""
        await round_trip()
        way = [each for each in self._operations.values() if each.state is BulkState.RUNNING]
        due = [each for each in way if each.due_at <= now and each.id not in self._busy]
        if not due:
            return Stepped(None, frozenset(), self._next_due())
        operation = min(due, key=lambda each: (each.due_at, each.id))
        self._busy.add(operation.id)
        try:
            outcome, changed = await self._batch(operation, now, limit, decide)
            # Nobody else runs between the changes and this. Who stops it waits for no batch here.
            after = after_batch(
                self._operations[operation.id], outcome, now=now, pause=pause(len(way))
            )
            if self._operations[operation.id].state is not BulkState.RUNNING:
                stands = self._operations[operation.id]
                after = replace(after, state=stands.state, ended_at=stands.ended_at)
            self._operations[operation.id] = after
        finally:
            self._busy.discard(operation.id)
        return Stepped(after, changed, self._next_due())

    async def stop(self, operation_id: UUID, audit: Operation) -> BulkOperation | None:
        """See `Bulk`."""
        await round_trip()
        operation = self._operations.get(operation_id)
        if operation is None:
            return None
        after = stopped(operation, now=audit.at)
        if after is not operation:
            self._operations[operation_id] = after
            self._store.controls.write(audit, raises=False)
        return after

    async def forget(self, before: datetime, *, limit: int) -> int:
        """See `Bulk`."""
        await round_trip()
        old = sorted(
            (each.ended_at, each.id)
            for each in self._operations.values()
            if each.ended_at is not None and each.ended_at < before
        )[:limit]
        for _, operation_id in old:
            del self._operations[operation_id]
            self._cancelled.pop(operation_id, None)
        return len(old)

    def _next_due(self) -> datetime | None:
        way = [each for each in self._operations.values() if each.state is BulkState.RUNNING]
        return min((each.due_at for each in way), default=None)

    def _matches(self, query: JobQuery, row: Job) -> bool:
        errors = [
            each.fingerprint
            for each in self._store.records
            if query.error_group is not None and each.job_id == row.id and each.fingerprint
        ]
        return query.matches(row, errors)

    async def _batch(
        self, operation: BulkOperation, now: datetime, limit: int, decide: Decide
    ) -> tuple[Batch, frozenset[UUID]]:
        if operation.action is BulkAction.UNDO:
            page = self._undone(operation)
        else:
            page = self._found(operation, min(limit, operation.left))
        jobs, unreadable = self._read(page)
        decisions = await decide(operation, jobs) if jobs else []
        changes = [each.change for each in decisions if isinstance(each, Changed)]
        applied = await self._store.save(changes)
        changed = set(applied.ids)
        for each in decisions:
            if isinstance(each, Deleted) and self._store.delete(each.job):
                changed.add(each.job.id)
        if operation.action is BulkAction.CANCEL and changed:
            self._cancelled.setdefault(operation.id, []).append(_Cancelled(now, sorted(changed)))
        failed = unreadable + len(applied.refused)
        return Batch(
            done=len(changed),
            skipped=len(page.ids) - len(changed) - failed,
            failed=failed,
            cursor=page.cursor,
            is_last=page.is_last,
            problem="a row that is no job any more: corrupt" if unreadable else None,
        ), frozenset(changed)

    def _found(self, operation: BulkOperation, limit: int) -> _Page:
        query = replace(operation.criteria, statuses=operation.statuses)
        ids = sorted(
            (
                row.id
                for row in self._store.committed()
                if row.created_at <= operation.created_at
                and (operation.cursor is None or row.id < operation.cursor)
                and self._matches(query, row)
            ),
            reverse=True,
        )
        page = ids[:limit]
        return _Page(page, page[-1] if page else None, len(ids) <= limit)

    def _undone(self, operation: BulkOperation) -> _Page:
        assert operation.undoes is not None
        left = [
            each
            for each in self._cancelled.get(operation.undoes, ())
            if operation.cursor is None or each.ids[0] < operation.cursor
        ]
        if not left:
            return _Page((), None, True)
        return _Page(left[0].ids, left[0].ids[0], len(left) == 1, left[0].at)

    def _read(self, page: _Page) -> tuple[list[Job], int]:
        rows = [row for row in self._store.committed() if row.id in set(page.ids)]
        jobs = [copy_of(row) for row in self._store.readable(rows)]
        at = page.cancelled_at
        return [job for job in jobs if at is None or job.finished_at == at], len(rows) - len(jobs)
