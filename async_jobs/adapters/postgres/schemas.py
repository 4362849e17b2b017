"""A schema of one's own for the tables. Statements name none: the search path leads to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from async_jobs.adapters.postgres.errors import translated
from async_jobs.domain.errors import ConfigurationError

# As SET LOCAL, which takes no parameters.
LOOK_WITHIN = "SELECT set_config('search_path', $1, true)"


def quoted(schema: str) -> str:
    """Return a schema's name as SQL has it, whatever characters are in it."""
    return '"' + schema.replace('"', '""') + '"'


async def check_schema(pool: asyncpg.Pool, schema: str) -> None:
    """Make sure that a pool's statements reach the tables of a schema and no others.

    Raises:
        ConfigurationError: they would not, with what is to be done.
    """
    async with translated(pool):
        found = await pool.fetchval("SELECT current_schema()")
        exists = await pool.fetchval("SELECT to_regnamespace($1) IS NOT NULL", quoted(schema))
    if found == schema:
        return
    if not exists:
        raise ConfigurationError(
            f"ASYNC_JOBS_DB_SCHEMA: there is no schema {schema!r}; run: async-jobs migrate"
        )
    raise ConfigurationError(
        f"ASYNC_JOBS_DB_SCHEMA: connections look in {found!r}, not in {schema!r}: grant the role"
        f" USAGE on it, and where a pooler refuses session settings let the role look there:"
        f" ALTER ROLE … SET search_path = {quoted(schema)}"
    )


@asynccontextmanager
async def looking_within(
    connection: asyncpg.Connection | PoolConnectionProxy, schema: str | None
) -> AsyncIterator[None]:
    """Let the statements of a block, in somebody's open transaction, find a schema's tables.

    Afterwards the transaction looks where it did before. A statement that was prepared before is
    planned anew by the server when the path has changed.
    """
    if schema is None:
        yield
        return
    before = await connection.fetchval("SELECT current_setting('search_path')")
    await connection.execute(LOOK_WITHIN, quoted(schema))
    try:
        yield
    except BaseException:
        # The server takes no statement after an error of its own, and brings the old path back
        # when the transaction or the savepoint around it ends.
        with suppress(asyncpg.PostgresError, asyncpg.InterfaceError):
            await connection.execute(LOOK_WITHIN, before)
        raise
    await connection.execute(LOOK_WITHIN, before)
