"""Whether the database takes jobs just now."""

from __future__ import annotations

import re
from functools import cache

import asyncpg

from async_jobs.adapters.postgres.errors import translated
from async_jobs.adapters.postgres.migrate import get_ddl
from async_jobs.adapters.postgres.statements import sql
from async_jobs.domain.errors import ConfigurationError, MigrationDue

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
    row = await _asked(pool)
    if not row["takes"]:
        await pool.expire_connections()
    return bool(row["takes"])


async def check_outcomes(pool: asyncpg.Pool) -> None:
    """Refuse to work where what becomes of attempts could not be saved; else they run again.

    Raises:
        MigrationDue: tables or columns of this version are not there.
        ConfigurationError: the role lacks what a worker needs.
        AsyncJobsError: nobody answers.
    """
    row = await _asked(pool)
    if not row["saves"]:
        raise ConfigurationError(
            "the database's role may not save what becomes of attempts: it needs UPDATE on jobs"
            " and INSERT on attempts; repeat the grants after a migration"
        )


async def _asked(pool: asyncpg.Pool) -> asyncpg.Record:
    tables, names = zip(*columns(), strict=True)
    async with translated(pool):
        row = await pool.fetchrow(sql("takes_jobs"), tables, names)
    assert row is not None
    if row["lacks"]:
        raise MigrationDue(
            f"the database's schema is older than this version: it lacks {row['lacks']};"
            " run: async-jobs migrate"
        )
    return row
