"""The system of record on Postgres."""

from __future__ import annotations

from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from typing import TypeVar
from uuid import UUID

import asyncpg

from async_jobs.adapters.postgres import adding
from async_jobs.adapters.postgres.apart import UNCHANGED, Apart, takes_a_key
from async_jobs.adapters.postgres.callers import connection_of, in_callers_transaction
from async_jobs.adapters.postgres.doorway import Doorway
from async_jobs.adapters.postgres.errors import is_full_queue, retried, translated
from async_jobs.adapters.postgres.pool import LOCK_TIMEOUT_SECONDS, borrowed, fetched, schema_of
from async_jobs.adapters.postgres.rows import (
    aside_columns,
    claimed_fields,
    encoded,
    jobs_of,
    save_columns,
)
from async_jobs.adapters.postgres.schemas import Whereabouts, looking_within
from async_jobs.adapters.postgres.statements import sql
from async_jobs.adapters.postgres.turn import PostgresTurn
from async_jobs.adapters.postgres.walking import Promotions, Purges
from async_jobs.domain.errors import StoreRefused, Unavailable
from async_jobs.domain.job import HandOff, Job, JobFilter, JobPage, JobStatus, Phase, UnreadableJob
from async_jobs.domain.lifecycle import Change, Claimed, holds
from async_jobs.domain.patience import KEPT_PAUSE
from async_jobs.ports.leases import Success
from async_jobs.ports.store import (
    AddResult,
    Applied,
    ToldUnreadable,
    Unreadable,
    Unwritable,
)
from async_jobs.ports.upkeep import Upcoming

T = TypeVar("T")
FIRST_ID, LAST_ID = UUID(int=0), UUID(int=2**128 - 1)


class PostgresJobStore:
    """Implements `Store` on the table `jobs`.

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
        self.pool = pool
        self.whereabouts = Whereabouts(schema_of(pool) if schema is None else schema)
        self._unreadable = unreadable or (lambda job_id, problem: None)
        self._apart = Apart(unwritable or (lambda job_id, problem: None))
        self._promotions = Promotions(self._fetch, self._apart)
        kept = Apart(unwritable or (lambda job_id, problem: None), pause=lambda times: KEPT_PAUSE)
        self._purges = Purges(self._fetch, kept)
        self._doorway = Doorway(pool.get_max_size())
        self._leases_apart = False
        """True after a turn whose leases were refused: the next one finds out which."""

    # --- adding ---

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

    async def _write(self, write: Callable[[], Awaitable[T]]) -> T:
        async with translated(self.pool):
            return await retried(write)

    # --- reading ---

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

    async def expired(self, now: datetime, *, limit: int) -> list[Job]:
        """See `Leases`."""
        # Rows that nobody can read, or write, stay where they are: look behind them.
        left_out = set(self._apart.left_alone(now))
        while True:
            rows = await self._fetch("expired_leases", now, limit, list(left_out))
            jobs = self.jobs_of(rows)
            unreadable = {row["id"] for row in rows} - {job.id for job in jobs}
            if jobs or not unreadable:
                return jobs
            left_out |= unreadable

    def jobs_of(self, rows: Sequence[asyncpg.Record]) -> list[Job]:
        """Return the jobs of rows, and tell of those that cannot be read."""
        return list(jobs_of(rows, self._tell_unreadable))

    def claimed_of(
        self, rows: Sequence[asyncpg.Record], claimed: Claimed, now: datetime
    ) -> list[Job]:
        """Return the jobs of the rows that a claim answers, which lack what it has made so."""
        return list(jobs_of(rows, self._tell_unreadable, known=claimed_fields(claimed, now)))

    def _tell_unreadable(self, row: UnreadableJob) -> None:
        self._unreadable(row.id, row.problem)

    def tell_unwritable(self, job_id: UUID, error: StoreRefused, *, at: datetime) -> None:
        """Tell, once, of a job whose row the database refuses to write; it is left alone then."""
        self._apart.tell(job_id, error, at=at)

    async def _fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        async def once() -> list[asyncpg.Record]:
            return await fetched(
                self.pool, sql(statement), *arguments, whereabouts=self.whereabouts
            )

        return await self._write(once)

    # --- changing ---

    def turn(
        self, use_cases: Collection[str], tenants: Collection[str] = ()
    ) -> AbstractAsyncContextManager[PostgresTurn]:
        """See `Leases`."""
        return self._turn(use_cases, tenants)

    @asynccontextmanager
    async def _turn(
        self, use_cases: Collection[str], tenants: Collection[str]
    ) -> AsyncIterator[PostgresTurn]:
        turn: PostgresTurn | None = None
        try:
            async with (
                translated(self.pool),
                borrowed(self.pool, self.whereabouts) as connection,
                # Nobody's default: by a snapshot older than its locks a turn would exceed caps.
                connection.transaction(isolation="read_committed"),
            ):
                turn = await PostgresTurn.take(connection, use_cases, tenants)
                turn.apart, turn.leases_apart = self._apart, self._leases_apart
                yield turn
        except StoreRefused:
            self._leases_apart = True
            raise
        except Unavailable as error:
            if turn is not None and is_full_queue(error):
                # The commit refused to notify: the next turn leaves that out.
                for lane in turn.handed_off:
                    lane.hush()
            raise
        self._leases_apart = bool(turn.refused)
        for lane in turn.handed_off:
            lane.wake()

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

    async def claim(
        self, handoffs: Sequence[HandOff], claimed: Claimed, *, now: datetime
    ) -> list[Job]:
        """See `Leases`."""
        if not handoffs:
            return []
        ordered = sorted(handoffs, key=lambda handoff: handoff.job_id)

        async def write(some: Sequence[HandOff]) -> list[asyncpg.Record]:
            return await self._fetch(
                "claim_jobs",
                [handoff.job_id for handoff in some],
                [handoff.lease_seq for handoff in some],
                claimed.worker_id,
                now,
                claimed.until,
            )

        rows = await self._apart.write(
            ordered,
            write,
            refused=lambda each, error: self.tell_unwritable(each.job_id, error, at=now),
        )
        return self.claimed_of(rows, claimed, now)

    async def succeed(self, successes: Sequence[Success], *, now: datetime) -> frozenset[UUID]:
        """See `Leases`."""
        if not successes:
            return frozenset()
        ordered = sorted(successes, key=lambda success: success.job_id)

        async def write(some: Sequence[Success]) -> list[asyncpg.Record]:
            return await self._fetch(
                "succeed_jobs",
                [success.job_id for success in some],
                [success.lease_seq for success in some],
                [None if each.result is None else encoded(each.result) for each in some],
                now,
                [success.worker_id for success in some],
            )

        rows = await self._apart.write(
            ordered,
            write,
            refused=lambda each, error: self.tell_unwritable(each.job_id, error, at=now),
        )
        succeeded = _ids(rows)
        lost = {s.job_id: s.lease_seq for s in ordered if s.job_id not in succeeded}
        if lost:
            # Nobody else can have ended that lease so: then an earlier call did, unheard.
            succeeded |= {
                job.id
                for job in await self.get(list(lost))
                if job.status is JobStatus.SUCCEEDED and job.lease_seq == lost[job.id]
            }
        return frozenset(succeeded)

    async def _save(self, changes: Sequence[Change]) -> Sequence[UUID]:
        columns = save_columns(changes)
        revived = adding.revived(changes)
        if not revived:
            return [*_ids(await self._fetch("save_jobs", *columns))]

        async def counted() -> set[UUID]:
            async with (
                borrowed(self.pool, self.whereabouts) as connection,
                connection.transaction(isolation="read_committed"),
            ):
                await adding.count_anew(connection, revived)
                return _ids(await connection.fetch(sql("save_jobs"), *columns))

        return [*await self._write(counted)]

    async def set_aside(self, now: datetime, *, until: datetime, limit: int) -> int:
        """See `Leases`. Only reading shows which rows cannot be read."""
        seen = set(self._apart.left_alone(now))
        unreadable: list[asyncpg.Record] = []
        while len(unreadable) < limit:
            rows = await self._fetch("expired_leases", now, limit, list(seen))
            readable = {job.id for job in self.jobs_of(rows)}
            unreadable += [row for row in rows if row["id"] not in readable]
            seen |= {row["id"] for row in rows}
            if len(rows) < limit:
                break
        if not unreadable:
            return 0

        async def write(some: Sequence[asyncpg.Record]) -> list[asyncpg.Record]:
            return await self._fetch("set_aside", *aside_columns(some, now, until))

        return len(
            await self._apart.write(
                unreadable[:limit],
                write,
                refused=lambda row, error: self.tell_unwritable(row["id"], error, at=now),
            )
        )

    async def promote(
        self, now: datetime, *, limit: int, sidelined: Collection[str] = ()
    ) -> Upcoming:
        """See `Upkeep`. A row that cannot be written does not keep the others back."""
        return await self._promotions.promote(now, limit=limit, sidelined=sidelined)

    async def purge(self, use_case: str, *, before: datetime, limit: int) -> int:
        """See `Upkeep`. Rows that other tables refer to are told of, and stay."""
        return await self._purges.purge(use_case, before=before, limit=limit)

    async def oldest_finished(self) -> Mapping[str, datetime]:
        """See `Upkeep`."""
        rows = await self._fetch("oldest_finished")
        return {row["use_case"]: row["finished_at"] for row in rows}


def _ids(rows: Sequence[asyncpg.Record]) -> set[UUID]:
    return {row["id"] for row in rows}
