"""Whether the database takes jobs just now."""

from __future__ import annotations

import asyncpg

from async_jobs.adapters.postgres.errors import translated
from async_jobs.adapters.postgres.statements import sql


async def takes_jobs(pool: asyncpg.Pool) -> bool:
    """Tell whether an enqueue can succeed, without one.

    Connections that lead to a server that only reads are replaced.

    Raises:
        AsyncJobsError: nobody answers, or the schema is not there.
    """
    async with translated(pool):
        row = await pool.fetchrow(sql("takes_jobs"))
        takes = row is not None and bool(row["takes"])
        if not takes:
            await pool.expire_connections()
        return takes
