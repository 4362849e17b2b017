"""The system of record on Postgres."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

import asyncpg

from async_jobs.adapters.postgres import adding
from async_jobs.adapters.postgres.apart import UNCHANGED, takes_a_key
from async_jobs.adapters.postgres.callers import connection_of, in_callers_transaction
from async_jobs.adapters.postgres.doorway import Doorway
from async_jobs.adapters.postgres.leases import PostgresLeases
from async_jobs.adapters.postgres.pool import LOCK_TIMEOUT_SECONDS, borrowed
from async_jobs.adapters.postgres.records import records_json
from async_jobs.adapters.postgres.rows import jobs_of, save_columns
from async_jobs.adapters.postgres.schemas import looking_within
from async_jobs.adapters.postgres.statements import sql
from async_jobs.adapters.postgres.table import ids_of
from async_jobs.adapters.postgres.upkeep import PostgresUpkeep
from async_jobs.domain.errors import StoreRefused
from async_jobs.domain.job import Job, JobFilter, JobPage, JobStatus, Phase, UnreadableJob
from async_jobs.domain.lifecycle import Change, holds
from async_jobs.ports.store import AddResult, Applied, ToldUnreadable, Unreadable, Unwritable

FIRST_ID, LAST_ID = UUID(int=0), UUID(int=2**128 - 1)


class PostgresJobStore(PostgresLeases, PostgresUpkeep):
    """Implements `Store` on the table `jobs`: `JobStore` here, and the two others.

    Args:
        pool: an asyncpg pool, by `create_pool` or the caller's own.
        unreadable: told of every row that is no job any more.
        unwritable: told of every row that a trigger or a constraint of the application keeps as it
            is; the rest of its batch is written. Such a row is left out of what is looked at next,
            for a while that grows each time (`domain.patience.refused_pause`).
        schema: where the tables are; by default where `create_pool` was told. The pool's own
            connections have to find them by their search path, which the first call makes sure of;
            those of the caller's are led there. None for wherever each connection looks.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        *,
        unreadable: Unreadable | None = None,
        unwritable: Unwritable | None = None,
        schema: str | None = None,
    ) -> None:
        super().__init__(pool, unreadable=unreadable, unwritable=unwritable, schema=schema)
        self._doorway = Doorway(pool.get_max_size())

    async def add(
        self,
        jobs: Sequence[Job],
        limits: Mapping[str, int],
        *,
        within: object | None = None,
        apart: bool = False,
    ) -> list[AddResult]:
        """See `JobStore`. `within` is what `connection_of` takes."""
        if not jobs:
            return []
        if within is not None:
            connection = await connection_of(within)
            async with (
                in_callers_transaction(connection),
                looking_within(connection, self.whereabouts.schema),
            ):
                return await adding.add(connection, jobs, limits, apart=apart)

        async def on_own_connection() -> list[AddResult]:
            async with borrowed(self.pool, self.whereabouts) as connection:
                return await adding.add(connection, jobs, limits, apart=apart)

        tenants = adding.may_wait_for(jobs, limits)
        if not tenants:
            return await self._write(on_own_connection)
        async with self._doorway.passing(tenants, wait_seconds=LOCK_TIMEOUT_SECONDS):
            return await self._write(on_own_connection)

    async def get(
        self,
        ids: Collection[UUID],
        *,
        tenant_id: str | None = None,
        unreadable: ToldUnreadable | None = None,
    ) -> list[Job]:
        """See `JobStore`."""
        rows = await self._fetch("get_jobs", list(ids), tenant_id)
        found: list[UnreadableJob] = []
        jobs = list(jobs_of(rows, found.append))
        for row in found:
            self._tell_unreadable(row)
            if unreadable is not None:
                unreadable(row)
        return jobs

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
        unreadable: list[UnreadableJob] = []
        jobs = tuple(jobs_of(page, unreadable.append))
        for row in unreadable:
            self._tell_unreadable(row)
        return JobPage(jobs, cursor, tuple(unreadable))

    async def save(self, changes: Sequence[Change]) -> Applied:
        """See `JobStore`."""
        if not changes:
            return Applied(frozenset())
        ordered = sorted(changes, key=lambda change: change.job.id)
        conflicting: set[UUID] = set()
        refusals: dict[UUID, str] = {}

        def refused(change: Change, error: StoreRefused) -> None:
            if takes_a_key(error):  # only an operator's retry can meet that
                conflicting.add(change.job.id)
            else:
                refusals[change.job.id] = error.refusal
                job, was = change.job, change.fence.phase
                pending_in = job.use_case if was is Phase.PENDING else ""
                self._apart.tell(job.id, error, at=job.updated_at, pending_in=pending_in)

        applied = set(await self._apart.write(ordered, self._save, refused=refused))
        known = applied | conflicting | refusals.keys()
        lost = [change for change in ordered if change.job.id not in known]
        stored = {job.id: job for job in await self.get([c.job.id for c in lost])} if lost else {}
        for change in lost:
            job = stored.get(change.job.id)
            if job == change.job:  # by an earlier save whose reply was lost
                applied.add(change.job.id)
            elif job is not None and holds(change, job):
                refused(change, UNCHANGED)
        return Applied(frozenset(applied), frozenset(conflicting), refusals)

    async def _save(self, changes: Sequence[Change]) -> Sequence[UUID]:
        columns = (*save_columns(changes), records_json(change.record for change in changes))
        revived = adding.revived(changes)
        if not revived:
            return [*ids_of(await self._fetch("save_jobs", *columns))]

        async def counted() -> set[UUID]:
            async with (
                borrowed(self.pool, self.whereabouts) as connection,
                connection.transaction(isolation="read_committed"),
            ):
                await adding.count_anew(connection, revived)
                return ids_of(await connection.fetch(sql("save_jobs"), *columns))

        return [*await self._write(counted)]
