"""The system of record on Postgres."""

from __future__ import annotations

from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from typing import TypeVar
from uuid import UUID

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from async_jobs.adapters.postgres.errors import retried, translated
from async_jobs.adapters.postgres.pool import AnyConnection
from async_jobs.adapters.postgres.rows import aside_columns, jobs_of, new_columns, save_columns
from async_jobs.adapters.postgres.statements import sql
from async_jobs.adapters.postgres.turn import PostgresTurn, lock_key
from async_jobs.domain.errors import Unavailable
from async_jobs.domain.job import HandOff, Job, JobFilter, JobPage, JobStatus
from async_jobs.domain.lifecycle import Change, Claimed
from async_jobs.domain.quota import Refused, admit
from async_jobs.ports.store import (
    Added,
    AddResult,
    Applied,
    Duplicate,
    Invalid,
    Unreadable,
    Upcoming,
)

T = TypeVar("T")
INSERT_ROUNDS_MAX = 10
FIRST_ID, LAST_ID = UUID(int=0), UUID(int=2**128 - 1)


class _TurnedAwayError(Exception):
    """Carries the reason out of a transaction, so that leaving it rolls everything back."""

    def __init__(self, reason: Refused | Invalid) -> None:
        self.reason = reason


class PostgresJobStore:
    """Implements `JobStore` on the table `jobs`.

    Args:
        pool: an asyncpg pool, by `create_pool` or the caller's own.
        unreadable: told of every row that is no job any more.
    """

    def __init__(self, pool: asyncpg.Pool, *, unreadable: Unreadable | None = None) -> None:
        self.pool = pool
        self._unreadable = unreadable or (lambda job_id, problem: None)

    # --- adding ---

    async def add(
        self, jobs: Sequence[Job], limits: Mapping[str, int], *, within: object | None = None
    ) -> list[AddResult]:
        """See `JobStore`. `within` is an asyncpg connection with an open transaction."""
        if not jobs:
            return []
        if within is not None:
            if not isinstance(within, asyncpg.Connection | PoolConnectionProxy):
                raise TypeError("within must be an asyncpg connection in a transaction")
            async with translated():
                return await self._add(within, jobs, limits)

        async def on_own_connection() -> list[AddResult]:
            async with self.pool.acquire() as connection:
                return await self._add(connection, jobs, limits)

        return await self._write(on_own_connection)

    async def _write(self, write: Callable[[], Awaitable[T]]) -> T:
        async with translated(self.pool):
            return await retried(write)

    async def _add(
        self, connection: AnyConnection, jobs: Sequence[Job], limits: Mapping[str, int]
    ) -> list[AddResult]:
        if len(jobs) == 1 and not limits:
            # Nothing that could have to be undone: one statement, one round trip.
            return _answers(jobs, *await self._insert(connection, jobs), None)
        inserted: set[UUID] = set()
        twins: dict[UUID, AddResult] = {}
        try:
            async with connection.transaction():
                if limits:
                    keys = sorted(lock_key("admission", tenant) for tenant in limits)
                    await connection.execute(sql("lock_tenants"), keys)
                inserted, twins = await self._insert(connection, jobs)
                await self._check_admission(connection, jobs, inserted, twins, limits)
        except _TurnedAwayError as away:
            # What the call found before it was undone still tells duplicates from new jobs.
            return _answers(jobs, inserted, twins, away.reason)
        return _answers(jobs, inserted, twins, None)

    async def _insert(
        self, connection: AnyConnection, jobs: Sequence[Job]
    ) -> tuple[set[UUID], dict[UUID, AddResult]]:
        """Insert what is new; returns its ids, and for every other job who stood in its way."""
        inserted: set[UUID] = set()
        twins: dict[UUID, AddResult] = {}
        # In one order for everybody, so that calls with the same keys wait, but not in a ring.
        waiting = sorted(jobs, key=lambda job: (job.tenant_id, job.dedupe_key or "", job.id))
        for _ in range(INSERT_ROUNDS_MAX):
            rows = await connection.fetch(sql("add_jobs"), *new_columns(waiting))
            inserted |= {row["id"] for row in rows}
            waiting = [job for job in waiting if job.id not in inserted]
            if waiting:
                twins |= await self._twins(connection, waiting)
                # Whoever stood in the way may have finished before it could be seen.
                waiting = [job for job in waiting if job.id not in twins]
            if not waiting:
                return inserted, twins
        raise Unavailable("a dedupe key changed hands too often while a job was being added")

    async def _twins(self, connection: AnyConnection, jobs: Sequence[Job]) -> dict[UUID, AddResult]:
        keyed = [job for job in jobs if job.dedupe_key is not None]
        rows = await connection.fetch(
            sql("find_twins"),
            [job.id for job in jobs],
            [job.tenant_id for job in keyed],
            [job.dedupe_key for job in keyed],
        )
        owners = {row["id"]: row["tenant_id"] for row in rows if row["dedupe_key"] is None}
        holders = {
            (row["tenant_id"], row["dedupe_key"]): row["id"]
            for row in rows
            if row["dedupe_key"] is not None
        }
        twins: dict[UUID, AddResult] = {}
        for job in jobs:
            holder = holders.get((job.tenant_id, job.dedupe_key))
            if owners.get(job.id, job.tenant_id) != job.tenant_id:
                twins[job.id] = Invalid(job.id, "id", "is taken; choose another")
            elif job.id in owners:
                twins[job.id] = Duplicate(job.id)
            elif holder is not None:
                twins[job.id] = Duplicate(holder)
        return twins

    async def _check_admission(
        self,
        connection: AnyConnection,
        jobs: Sequence[Job],
        inserted: set[UUID],
        twins: Mapping[UUID, AddResult],
        limits: Mapping[str, int],
    ) -> None:
        for twin in twins.values():
            if isinstance(twin, Invalid):
                raise _TurnedAwayError(twin)
        if not limits:
            return
        # By id, because a call may hold the same job twice.
        new = list({job.id: job.tenant_id for job in jobs if job.id in inserted}.values())
        rows = await connection.fetch(sql("count_pending"), list(limits))
        pending = {row["tenant_id"]: row["pending"] for row in rows}
        # The count includes what was just inserted; the rule wants it without.
        before = {tenant: count - new.count(tenant) for tenant, count in pending.items()}
        if (refused := admit(new, before, limits)) is not None:
            raise _TurnedAwayError(refused)

    # --- reading ---

    async def get(self, ids: Collection[UUID], *, tenant_id: str | None = None) -> list[Job]:
        """See `JobStore`."""
        return list(self._jobs(await self._fetch("get_jobs", list(ids), tenant_id)))

    async def find(self, criteria: JobFilter, *, limit: int, before: UUID | None = None) -> JobPage:
        """See `JobStore`."""
        if before == FIRST_ID:
            return JobPage((), None)
        last = LAST_ID if before is None else UUID(int=before.int - 1)
        status = None if criteria.status is None else criteria.status.value
        if criteria.tenant_id is None:
            rows = await self._fetch("find_jobs", last, criteria.use_case, status, limit + 1)
        else:
            statuses = [status] if status else [each.value for each in JobStatus]
            rows = await self._fetch(
                "find_tenant_jobs",
                criteria.tenant_id,
                statuses,
                last,
                criteria.use_case,
                limit + 1,
            )
        page = rows[:limit]
        cursor = page[-1]["id"] if len(rows) > limit else None
        return JobPage(tuple(self._jobs(page)), cursor)

    async def expired(self, now: datetime, *, limit: int) -> list[Job]:
        """See `JobStore`."""
        unreadable: set[UUID] = set()
        while True:
            rows = await self._fetch("expired_leases", now, limit, list(unreadable))
            jobs = list(self._jobs(rows))
            skipped = {row["id"] for row in rows} - {job.id for job in jobs}
            if jobs or not skipped:
                return jobs
            # Rows that nobody can read stay where they are: look behind them.
            unreadable |= skipped

    def _jobs(self, rows: Sequence[asyncpg.Record]) -> Iterator[Job]:
        return jobs_of(rows, self._unreadable)

    async def _fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        async def once() -> list[asyncpg.Record]:
            return await self.pool.fetch(sql(statement), *arguments)

        return await self._write(once)

    # --- changing ---

    def turn(
        self, use_cases: Collection[str], tenants: Collection[str] = ()
    ) -> AbstractAsyncContextManager[PostgresTurn]:
        """See `JobStore`."""
        return self._turn(use_cases, tenants)

    @asynccontextmanager
    async def _turn(
        self, use_cases: Collection[str], tenants: Collection[str]
    ) -> AsyncIterator[PostgresTurn]:
        async with (
            translated(self.pool),
            self.pool.acquire() as connection,
            connection.transaction(),
        ):
            yield await PostgresTurn.take(connection, use_cases, tenants)

    async def save(self, changes: Sequence[Change]) -> Applied:
        """See `JobStore`."""
        if not changes:
            return Applied(frozenset())
        ordered = sorted(changes, key=lambda change: change.job.id)
        try:
            applied = await self._save(ordered)
        except asyncpg.UniqueViolationError:
            return await self._save_one_by_one(ordered)
        lost = [change for change in ordered if change.job.id not in applied]
        if lost:
            applied |= await self._already_applied(lost)
        return Applied(frozenset(applied))

    async def claim(
        self, handoffs: Sequence[HandOff], claimed: Claimed, *, now: datetime
    ) -> list[Job]:
        """See `JobStore`."""
        if not handoffs:
            return []
        ordered = sorted(handoffs, key=lambda handoff: handoff.job_id)
        rows = await self._fetch(
            "claim_jobs",
            [handoff.job_id for handoff in ordered],
            [handoff.lease_seq for handoff in ordered],
            claimed.worker_id,
            now,
            claimed.until,
        )
        return list(self._jobs(rows))

    async def _save(self, changes: Sequence[Change]) -> set[UUID]:
        rows = await self._fetch("save_jobs", *save_columns(changes))
        return {row["id"] for row in rows}

    async def _already_applied(self, lost: Sequence[Change]) -> set[UUID]:
        """Return which of the losers were applied before, by a save whose reply was lost."""
        stored = {job.id: job for job in await self.get([change.job.id for change in lost])}
        return {change.job.id for change in lost if stored.get(change.job.id) == change.job}

    async def _save_one_by_one(self, changes: Sequence[Change]) -> Applied:
        """Find out whose dedupe key is taken; only an operator's retry can meet that."""
        applied: set[UUID] = set()
        conflicting: set[UUID] = set()
        for change in changes:
            try:
                applied |= (await self._save([change])) or await self._already_applied([change])
            except asyncpg.UniqueViolationError:
                conflicting.add(change.job.id)
        return Applied(frozenset(applied), frozenset(conflicting))

    async def set_aside(self, now: datetime, *, until: datetime, limit: int) -> int:
        """See `JobStore`. Only reading shows which rows cannot be read."""
        seen: set[UUID] = set()
        unreadable: list[asyncpg.Record] = []
        while len(unreadable) < limit:
            rows = await self._fetch("expired_leases", now, limit, list(seen))
            readable = {job.id for job in self._jobs(rows)}
            unreadable += [row for row in rows if row["id"] not in readable]
            seen |= {row["id"] for row in rows}
            if len(rows) < limit:
                break
        if not unreadable:
            return 0
        columns = aside_columns(unreadable[:limit], now, until)
        return len(await self._fetch("set_aside", *columns))

    async def promote(
        self, now: datetime, *, limit: int, sidelined: Collection[str] = ()
    ) -> Upcoming:
        """See `JobStore`."""
        (row,) = await self._fetch("promote_due", now, limit)
        if sidelined:
            await self._fetch("sideline_late", now, list(sidelined), limit)
        return Upcoming(now if row["promoted"] >= limit else row["next_run_at"])

    async def purge(self, use_case: str, *, before: datetime, limit: int) -> int:
        """See `JobStore`."""
        (row,) = await self._fetch("purge_jobs", use_case, before, limit)
        return int(row["purged"])


def _answers(
    jobs: Sequence[Job],
    inserted: Collection[UUID],
    twins: Mapping[UUID, AddResult],
    away: Refused | Invalid | None,
) -> list[AddResult]:
    """Return one result per job in order; `away` takes the place of all but duplicates."""
    answered: set[UUID] = set()
    results: list[AddResult] = []
    for job in jobs:
        twin = twins.get(job.id)
        if twin is None:
            # The same id twice in one call: the first is the job, the second its duplicate.
            twin = Duplicate(job.id) if job.id in answered else Added(job.id)
        answered.add(job.id)
        stood_before = isinstance(twin, Duplicate) and twin.of not in inserted
        results.append(twin if away is None or stood_before else away)
    return results
