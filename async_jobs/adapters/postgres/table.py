"""The table `jobs` as a store reaches it: its pool, its statements, and rows that are no jobs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import TypeVar
from uuid import UUID

import asyncpg

from async_jobs.adapters.postgres.apart import Apart
from async_jobs.adapters.postgres.errors import retried, translated
from async_jobs.adapters.postgres.pool import fetched, schema_of
from async_jobs.adapters.postgres.rows import claimed_fields, jobs_of
from async_jobs.adapters.postgres.schemas import Whereabouts
from async_jobs.adapters.postgres.statements import sql
from async_jobs.domain.errors import StoreRefused
from async_jobs.domain.job import Job, UnreadableJob
from async_jobs.domain.lifecycle import Claimed
from async_jobs.ports.store import Unreadable, Unwritable

T = TypeVar("T")


def _tell_nobody(job_id: UUID, problem: str) -> None:
    pass


class JobsTable:
    """The common ground of a store's three ports.

    Args:
        pool, unreadable, unwritable, schema: see `PostgresJobStore`.
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
        self._unreadable = unreadable or _tell_nobody
        self._unwritable = unwritable or _tell_nobody
        self._apart = Apart(self._unwritable)

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

    async def _write(self, write: Callable[[], Awaitable[T]]) -> T:
        async with translated(self.pool):
            return await retried(write)


def ids_of(rows: Sequence[asyncpg.Record]) -> set[UUID]:
    return {row["id"] for row in rows}
