"""The schema: numbered migrations, and the whole of it for teams with a tool of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources

import asyncpg

from async_jobs.adapters.postgres.errors import connecting, translated
from async_jobs.adapters.postgres.turn import lock_key

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
        ConfigurationError: the address is malformed, the database refuses the credentials, or
            the privileges are missing.
    """
    async with translated(), _connected(database) as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", lock_key("migrate", ""))
        await connection.execute(_APPLIED_TABLE)
        rows = await connection.fetch("SELECT name FROM async_jobs_migrations")
        applied = {row["name"] for row in rows}
        missing = [(name, text) for name, text in migrations() if name not in applied]
        for name, text in missing:
            await connection.execute(text)
            await connection.execute("INSERT INTO async_jobs_migrations VALUES ($1)", name)
    return [name for name, _ in missing]


@asynccontextmanager
async def _connected(database: str | asyncpg.Connection) -> AsyncIterator[asyncpg.Connection]:
    if not isinstance(database, str):
        yield database
        return
    async with connecting(database):
        connection = await asyncpg.connect(
            database, timeout=CONNECT_TIMEOUT_SECONDS, statement_cache_size=0
        )
    try:
        yield connection
    finally:
        await connection.close(timeout=CONNECT_TIMEOUT_SECONDS)
