"""Checkpoints on Postgres."""

from __future__ import annotations

from collections.abc import Mapping

import asyncpg

from async_jobs.adapters.postgres.errors import retried, translated
from async_jobs.adapters.postgres.pool import fetched
from async_jobs.adapters.postgres.rows import decoded, encoded
from async_jobs.adapters.postgres.statements import sql
from async_jobs.domain.job import JsonValue


class PostgresCheckpoints:
    """Implements `Checkpoints` on the table `checkpoints`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def save(self, name: str, state: Mapping[str, JsonValue]) -> None:
        """See `Checkpoints`."""
        await self._fetch("save_checkpoint", name, encoded(dict(state)))

    async def load(self, name: str) -> Mapping[str, JsonValue] | None:
        """See `Checkpoints`. What somebody has damaged is not known."""
        rows = await self._fetch("load_checkpoint", name)
        state = decoded(rows[0]["state"]) if rows else None
        return state if isinstance(state, dict) else None

    async def _fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        async def once() -> list[asyncpg.Record]:
            return await fetched(self._pool, sql(statement), *arguments)

        async with translated(self._pool):
            return await retried(once)
