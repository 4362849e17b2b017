"""The schema: numbered migrations, and the whole of it for teams with a tool of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib import resources

import asyncpg

from async_jobs.adapters.postgres.dsn import address_of
from async_jobs.adapters.postgres.errors import connecting, translated
from async_jobs.adapters.postgres.pool import Password
from async_jobs.adapters.postgres.schemas import LOOK_WITHIN, quoted
from async_jobs.adapters.postgres.turn import lock_key
from async_jobs.domain.errors import ConfigurationError

CONNECT_TIMEOUT_SECONDS = 10.0
_APPLIED_TABLE = """
CREATE TABLE async_jobs_migrations (
    name       text        PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""


def migrations() -> list[tuple[str, str]]:
    """Return the name and text of every migration, in order."""
    files = resources.files(f"{__package__}.migrations").iterdir()
    named = sorted((file.name, file) for file in files if file.name.endswith(".sql"))
    return [(name.removesuffix(".sql"), file.read_text("utf-8")) for name, file in named]


def get_ddl(schema: str | None = None) -> str:
    """Return the whole schema as one script, for teams that migrate with a tool of their own.

    It is what all migrations together make, for an empty schema.

    Args:
        schema: the schema to hold the tables; None for the first one of the search path.
    """
    files = resources.files("async_jobs.adapters.postgres")
    ddl = (files / "schema.sql").read_text("utf-8")
    if schema is None:
        return ddl
    name = quoted(schema)
    return f"CREATE SCHEMA IF NOT EXISTS {name};\nSET search_path TO {name};\n\n{ddl}"


async def migrate(
    database: str | asyncpg.Connection,
    *,
    schema: str | None = None,
    password: Password | None = None,
) -> list[str]:
    """Apply the migrations that the database lacks; returns their names.

    Idempotent, and safe to run from several processes at once: they queue for a lock, and
    whoever comes later finds nothing left to do. Either all are applied or none. Where nothing is
    to be done, a role that may read `async_jobs_migrations` needs no other right.

    Args:
        database: a DSN, or a connection without an open transaction.
        schema: the schema that holds the tables, made if it is missing; None for the first one of
            the search path.
        password: asked for the password of a DSN that has none.

    Raises:
        Unavailable: the database does not answer.
        ConfigurationError: the address is malformed, the database refuses the credentials, the
            privileges are missing, the encoding is not UTF8, or the schema holds tables of somebody
            else by our names.
    """
    async with (
        translated(),
        _connected(database, password) as connection,
        _names_free(),
        connection.transaction(),
    ):
        await _check_encoding(connection)
        await connection.execute("SELECT pg_advisory_xact_lock($1)", lock_key("migrate", ""))
        if schema is not None:
            await _enter(connection, schema)
        applied = await _applied(connection)
        missing = [(name, text) for name, text in migrations() if name not in applied]
        if missing:
            await _apply(connection, missing)
    return [name for name, _ in missing]


async def _enter(connection: asyncpg.Connection, schema: str) -> None:
    """Make all that follows in the transaction happen within a schema."""
    if await connection.fetchval("SELECT to_regnamespace($1)", quoted(schema)) is None:
        await connection.execute(f"CREATE SCHEMA {quoted(schema)}")
    await connection.execute(LOOK_WITHIN, quoted(schema))


async def _applied(connection: asyncpg.Connection) -> set[str]:
    """Return what was applied before; makes the table that tells, where there is none."""
    # Asked for first: CREATE TABLE IF NOT EXISTS wants the right to create in any case.
    if await connection.fetchval("SELECT to_regclass('async_jobs_migrations')") is None:
        await connection.execute(_APPLIED_TABLE)
    rows = await connection.fetch("SELECT name FROM async_jobs_migrations")
    return {row["name"] for row in rows}


async def _apply(connection: asyncpg.Connection, missing: Sequence[tuple[str, str]]) -> None:
    for name, text in missing:
        await connection.execute(text)
        await connection.execute("INSERT INTO async_jobs_migrations VALUES ($1)", name)


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
            f"the database has tables of somebody else by our names ({error}): set"
            " ASYNC_JOBS_DB_SCHEMA, for example to async_jobs, for a schema of our own"
        ) from error
    except asyncpg.InvalidSchemaNameError as error:
        raise ConfigurationError(
            f"no schema of the search_path exists ({error}): CREATE SCHEMA makes it"
        ) from error


@asynccontextmanager
async def _connected(
    database: str | asyncpg.Connection, password: Password | None
) -> AsyncIterator[asyncpg.Connection]:
    if not isinstance(database, str):
        yield database
        return
    async with connecting(database):
        address = address_of(database)
        connection = await asyncpg.connect(
            address.dsn,
            timeout=address.connect_seconds or CONNECT_TIMEOUT_SECONDS,
            statement_cache_size=0,
            password=password,
            **address.options(),
        )
    try:
        yield connection
    finally:
        await connection.close(timeout=CONNECT_TIMEOUT_SECONDS)
