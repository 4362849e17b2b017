"""Tallies on Postgres."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import asyncpg

from async_jobs.adapters.postgres.errors import retried, translated
from async_jobs.adapters.postgres.pool import fetched
from async_jobs.adapters.postgres.schemas import Whereabouts
from async_jobs.adapters.postgres.statements import sql
from async_jobs.domain.tallies import Batch, Dimension, Group, TallyQuery


class PostgresTallies:
    """Implements `Tallies` on the tables `tallies` and `tally_sources`."""

    def __init__(self, pool: asyncpg.Pool, *, whereabouts: Whereabouts | None = None) -> None:
        self._pool = pool
        self._whereabouts = whereabouts

    async def add(self, batch: Batch, *, at: datetime) -> None:
        """See `Tallies`."""
        groups = list(batch.sums)
        columns = [[group[place] for group in groups] for place in range(len(Group._fields))]
        sums = [f"{{{','.join(map(str, batch.sums[group]))}}}" for group in groups]
        await self._fetch("add_tallies", batch.source, batch.number, at, *columns, sums)

    async def sums(self, query: TallyQuery, *, limit: int) -> Mapping[Group, Sequence[int]]:
        """See `Tallies`."""
        rows = await self._fetch(
            "sum_tallies",
            query.since,
            query.until,
            None if query.step is None else int(query.step.total_seconds()),
            query.use_case,
            None if query.tenants is None else list(query.tenants),
            query.type,
            *(each in query.by for each in Dimension),
            limit,
        )
        return {Group(*row[:-1]): row["sums"] for row in rows}

    async def roll_up(self, before: datetime, *, limit: int) -> int:
        """See `Tallies`."""
        return await self._count("roll_up_tallies", before, limit)

    async def forget(self, before: datetime, *, limit: int) -> int:
        """See `Tallies`."""
        return await self._count("forget_tallies", before, limit)

    async def _count(self, statement: str, *arguments: object) -> int:
        (row,) = await self._fetch(statement, *arguments)
        done: int = row["done"]
        return done

    async def _fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        async def once() -> list[asyncpg.Record]:
            return await fetched(
                self._pool, sql(statement), *arguments, whereabouts=self._whereabouts
            )

        async with translated(self._pool):
            return await retried(once)
