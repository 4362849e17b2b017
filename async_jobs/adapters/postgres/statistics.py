"""Statistics of jobs on Postgres."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

import asyncpg

from async_jobs.adapters.postgres.errors import retried, translated
from async_jobs.adapters.postgres.pool import fetched
from async_jobs.adapters.postgres.schemas import Whereabouts
from async_jobs.adapters.postgres.statements import sql
from async_jobs.domain.outlook import Counted


class PostgresStatistics:
    """Implements `Statistics` on the table `jobs`."""

    def __init__(self, pool: asyncpg.Pool, *, whereabouts: Whereabouts | None = None) -> None:
        self._pool = pool
        self._whereabouts = whereabouts

    async def due_by(
        self, use_cases: Collection[str], instant: datetime, *, limit: int
    ) -> Mapping[str, Counted]:
        """See `Statistics`."""

        async def once() -> list[asyncpg.Record]:
            return await fetched(
                self._pool,
                sql("due_by"),
                list(set(use_cases)),
                instant,
                limit,
                whereabouts=self._whereabouts,
            )

        async with translated(self._pool):
            rows = await retried(once)
        return {row["use_case"]: _counted(row, limit) for row in rows}

    async def use_cases(self) -> Collection[str]:
        """See `Statistics`."""

        async def once() -> list[asyncpg.Record]:
            return await fetched(self._pool, sql("use_cases"), whereabouts=self._whereabouts)

        async with translated(self._pool):
            rows = await retried(once)
        return [row["use_case"] for row in rows]


def _counted(row: asyncpg.Record, limit: int) -> Counted:
    count = row["jobs"]
    return Counted(min(count, limit), count >= limit or row["is_cut"])
