"""A schema of one's own for the tables. Statements name none: the search path leads to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from async_jobs.adapters.postgres.errors import translated
from async_jobs.domain.errors import ConfigurationError, MigrationDue

# As SET LOCAL, which takes no parameters.
LOOK_WITHIN = "SELECT set_config('search_path', $1, true)"
_WHERE_THE_TABLES_ARE: Final = """
SELECT
    (SELECT nspname::text FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
     WHERE c.oid = to_regclass('jobs')) AS found,
    to_regclass($1) IS NOT NULL AS is_there
"""


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


class Whereabouts:
    """The schema that a store's tables are in, and whether its pool was seen to lead there.

    Args:
        schema: its name; None for wherever a connection looks.
    """

    def __init__(self, schema: str | None) -> None:
        self.schema = schema
        self._is_found = schema is None

    async def check(self, connection: asyncpg.Connection | PoolConnectionProxy) -> None:
        """Refuse a pool's connection that finds other tables; asks until one has found these.

        Raises:
            MigrationDue: the schema has no tables.
            ConfigurationError: it finds others, or none, with what is to be done.
        """
        if self.schema is None or self._is_found:
            return
        row = await connection.fetchrow(_WHERE_THE_TABLES_ARE, f"{quoted(self.schema)}.jobs")
        assert row is not None
        if row["found"] != self.schema:
            raise _elsewhere(self.schema, row["found"], is_there=row["is_there"])
        self._is_found = True


def _elsewhere(schema: str, found: str | None, *, is_there: bool) -> ConfigurationError:
    """Return what is to be done about a pool that does not lead to a schema's tables."""
    if not is_there:
        return MigrationDue(
            f"the schema {schema!r} has no tables of async_jobs; run: async-jobs migrate, with"
            f" ASYNC_JOBS_DB_SCHEMA={schema}"
        )
    tables = "no table jobs" if found is None else f"the table jobs of {found!r}"
    return ConfigurationError(
        f"the store is for the schema {schema!r}, and the connections of its pool find {tables}:"
        f" their search_path does not lead to {schema!r}. Make the pool by create_pool(dsn,"
        f" schema={schema!r}), or with server_settings={{'search_path': {quoted(schema)!r}}}; where"
        f" a pooler refuses that, ALTER ROLE … SET search_path = {quoted(schema)}"
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
