"""Who may run a job, on the table `jobs`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from uuid import UUID

import asyncpg

from async_jobs.adapters.postgres.errors import is_full_queue, translated
from async_jobs.adapters.postgres.pool import borrowed
from async_jobs.adapters.postgres.records import aside_records
from async_jobs.adapters.postgres.rows import aside_columns, encoded
from async_jobs.adapters.postgres.table import JobsTable, ids_of
from async_jobs.adapters.postgres.turn import PostgresTurn
from async_jobs.domain.errors import StoreRefused, Unavailable
from async_jobs.domain.job import HandOff, Job, JobStatus
from async_jobs.domain.lifecycle import Claimed
from async_jobs.ports.leases import Success


class PostgresLeases(JobsTable):
    """Implements `Leases`."""

    _leases_apart = False
    """True after a turn whose leases were refused: the next one finds out which."""

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
        succeeded = ids_of(rows)
        lost = {s.job_id: s.lease_seq for s in ordered if s.job_id not in succeeded}
        if lost:
            # Nobody else can have ended that lease so: then an earlier call did, unheard.
            succeeded |= {
                job.id
                for job in self.jobs_of(await self._fetch("get_jobs", list(lost), None))
                if job.status is JobStatus.SUCCEEDED and job.lease_seq == lost[job.id]
            }
        return frozenset(succeeded)

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
            records = aside_records(some, now)
            return await self._fetch("set_aside", *aside_columns(some, now, until), records)

        return len(
            await self._apart.write(
                unreadable[:limit],
                write,
                refused=lambda row, error: self.tell_unwritable(row["id"], error, at=now),
            )
        )
