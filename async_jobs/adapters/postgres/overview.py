"""What a turn would see of the jobs on Postgres, in a transaction that only reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from datetime import datetime

import asyncpg

from async_jobs.adapters.postgres.errors import translated
from async_jobs.adapters.postgres.pool import AnyConnection, borrowed
from async_jobs.adapters.postgres.schemas import Whereabouts
from async_jobs.adapters.postgres.statements import sql
from async_jobs.adapters.postgres.turn import PostgresTurn
from async_jobs.domain.backlog import Backlog
from async_jobs.domain.job import Job
from async_jobs.domain.limits import Limits
from async_jobs.domain.outlook import Counted
from async_jobs.ports.overview import Coming


class PostgresLook(PostgresTurn):
    """Implements `Look` within a transaction that only reads."""

    def __init__(self, connection: AnyConnection, use_cases: Collection[str]) -> None:
        super().__init__(connection, frozenset(use_cases), frozenset())

    async def ahead(self, job: Job, config: Limits, now: datetime, *, limit: int) -> Counted | None:
        """See `Look`. The order of the rows knows what is late."""
        row = await self._connection.fetchrow(
            sql("jobs_ahead"), job.use_case, job.tenant_id, job.id, limit + 1
        )
        assert row is not None
        if row["place"] is not None:
            return Counted(row["place"] - 1)
        return Counted(limit, at_least=True) if row["jobs"] > limit else None

    async def pending_of(
        self, tenants: Collection[str], *, limit: int
    ) -> Mapping[str, Mapping[str, Counted]]:
        """See `Look`."""
        wanted = list(dict.fromkeys(tenants))
        rows = await self._connection.fetch(sql("pending_of_tenants"), wanted, limit + 1)
        read = Counter[str]()
        for row in rows:
            read[row["tenant_id"]] += row["jobs"]
        counts: dict[str, dict[str, Counted]] = {tenant: {} for tenant in wanted}
        for row in rows:
            tenant, cut = row["tenant_id"], read[row["tenant_id"]] > limit
            counts[tenant][row["use_case"]] = Counted(min(row["jobs"], limit), cut)
        return counts

    async def coming(self, now: datetime, *, limit: int) -> Collection[Coming]:
        """See `Look`."""
        rows = await self._connection.fetch(sql("coming_jobs"), now, limit)
        return [Coming(*row) for row in rows]

    async def backlog(
        self, use_cases: Collection[str], now: datetime, *, limit: int
    ) -> Mapping[str, Backlog]:
        """See `Look`."""
        wanted = list(dict.fromkeys(use_cases))
        rows = await self._connection.fetch(sql("backlog"), wanted, now, limit)
        return {
            row["use_case"]: Backlog(sorted(row["due"])[:limit], sorted(row["scheduled"]))
            for row in rows
        }


class PostgresOverview:
    """Implements `Overview` on the table `jobs`."""

    def __init__(self, pool: asyncpg.Pool, *, whereabouts: Whereabouts | None = None) -> None:
        self._pool = pool
        self._whereabouts = whereabouts

    @asynccontextmanager
    async def looking(self, use_cases: Collection[str]) -> AsyncIterator[PostgresLook]:
        """See `Overview`. All of it is of one snapshot."""
        async with (
            translated(self._pool),
            borrowed(self._pool, self._whereabouts) as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            yield PostgresLook(connection, use_cases)
