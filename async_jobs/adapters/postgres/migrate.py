"""The schema: numbered migrations, and the whole of it for teams with a tool of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources

import asyncpg

from async_jobs.adapters.postgres.dsn import address_of
from async_jobs.adapters.postgres.errors import connecting, translated
from async_jobs.adapters.postgres.turn import lock_key
from async_jobs.domain.errors import ConfigurationError

CONNECT_TIMEOUT_SECONDS = 10.0
_APPLIED_TABLE = """
CREATE TABLE IF NOT EXISTS async_jobs_migrations (
    name       text        PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""


def migrations() -> list[tuple[str, str]]:
    """Return the name and text of every migration, in order."""
    files = resources.files(f"{__package__}.migrations").iterdir()
    named = sorted((file.name, file) for file in files if file.name.endswith(".sql"))
    return [(name.removesuffix(".sql"), file.read_text("utf-8")) for name, file in named]


def get_ddl() -> str:
    """Return the whole schema as one script, for teams that migrate with a tool of their own.

    It is what all migrations together make, for an empty schema.
    """
    return (resources.files("async_jobs.adapters.postgres") / "schema.sql").read_text("utf-8")


async def migrate(database: str | asyncpg.Connection) -> list[str]:
    """Apply the migrations that the database lacks; returns their names.

    Idempotent, and safe to run from several processes at once: they queue for a lock, and
    whoever comes later finds nothing left to do. Either all are applied or none.

    Args:
        database: a DSN, or a connection without an open transaction.

    Raises:
        Unavailable: the database does not answer.
        ConfigurationError: the address is malformed, the database refuses the credentials, the
            privileges are missing, the encoding is not UTF8, or the names of our tables are taken.
    """
    async with (
        translated(),
        _connected(database) as connection,
        _names_free(),
        connection.transaction(),
    ):
        await _check_encoding(connection)
        await connection.execute("SELECT pg_advisory_xact_lock($1)", lock_key("migrate", ""))
        await connection.execute(_APPLIED_TABLE)
        rows = await connection.fetch("SELECT name FROM async_jobs_migrations")
        applied = {row["name"] for row in rows}
        missing = [(name, text) for name, text in migrations() if name not in applied]
        for name, text in missing:
            await connection.execute(text)
            await connection.execute("INSERT INTO async_jobs_migrations VALUES ($1)", name)
    return [name for name, _ in missing]


async def _check_encoding(connection: asyncpg.Connection) -> None:
    encoding = await connection.fetchval("SHOW server_encoding")
    if encoding != "UTF8":
        raise ConfigurationError(
            f"the database's encoding is {encoding}, in which not every payload, name and error"
            " can be written: make one by CREATE DATABASE … TEMPLATE template0 ENCODING 'UTF8'"
        )


@asynccontextmanager
async def _names_free() -> AsyncIterator[None]:
    try:
        yield
    except (asyncpg.DuplicateTableError, asyncpg.DuplicateObjectError) as error:
        raise ConfigurationError(
            f"the schema holds something of that name already ({error}): give async_jobs one of"
            " its own by CREATE SCHEMA, and search_path=… in the database's address"
        ) from error
    except asyncpg.InvalidSchemaNameError as error:
        raise ConfigurationError(
            f"no schema of the search_path exists ({error}): CREATE SCHEMA makes it"
        ) from error


@asynccontextmanager
async def _connected(database: str | asyncpg.Connection) -> AsyncIterator[asyncpg.Connection]:
    if not isinstance(database, str):
        yield database
        return
    async with connecting(database):
        address = address_of(database)
        connection = await asyncpg.connect(
            address.dsn,
            timeout=address.connect_seconds or CONNECT_TIMEOUT_SECONDS,
            statement_cache_size=0,
            **address.options(),
        )
    try:
        yield connection
    finally:
        await connection.close(timeout=CONNECT_TIMEOUT_SECONDS)
