"""Whether the database takes jobs just now."""

from __future__ import annotations

import re
from functools import cache

import asyncpg

from async_jobs.adapters.postgres.errors import translated
from async_jobs.adapters.postgres.migrate import get_ddl
from async_jobs.adapters.postgres.statements import sql
from async_jobs.domain.errors import MigrationDue

_TABLE = re.compile(r"^CREATE (?:UNLOGGED )?TABLE (\w+) \(\n(.*?)^\)", re.MULTILINE | re.DOTALL)
_COLUMN = re.compile(r"^ {4}([a-z_]+) +[a-z]", re.MULTILINE)


@cache
def columns() -> list[tuple[str, str]]:
    """Return the tables' columns that this version relies on, each with the table's name."""
    tables = _TABLE.findall(get_ddl())
    return [(table, column) for table, body in tables for column in _COLUMN.findall(body)]


async def takes_jobs(pool: asyncpg.Pool) -> bool:
    """Tell whether an enqueue can succeed, without one.

    Connections that lead to a server that only reads are replaced.

    Raises:
        MigrationDue: tables or columns of this version are not there.
        AsyncJobsError: nobody answers, or access is refused.
    """
    tables, names = zip(*columns(), strict=True)
    async with translated(pool):
        row = await pool.fetchrow(sql("takes_jobs"), tables, names)
        if row is not None and row["lacks"]:
            raise MigrationDue(
                f"the database's schema is older than this version: it lacks {row['lacks']};"
                " run: async-jobs migrate"
            )
        takes = row is not None and bool(row["takes"])
        if not takes:
            await pool.expire_connections()
        return takes
