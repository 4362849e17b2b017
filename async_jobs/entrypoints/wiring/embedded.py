"""An embedded Postgres for the length of a block."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from async_jobs.adapters.postgres.embedded import EmbeddedPostgres


@asynccontextmanager
async def embedded_postgres(data_dir: Path | None = None) -> AsyncIterator[EmbeddedPostgres]:
    """Run an embedded server for the length of a block; yields it.

    Args:
        data_dir: where it keeps its data; None for a place that goes away with it.
    """
    postgres = EmbeddedPostgres(data_dir)
    starting = asyncio.ensure_future(asyncio.to_thread(postgres.start))
    try:
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            await starting  # a thread cannot be cancelled, and would start it all the same
            raise
        yield postgres
    finally:
        await asyncio.to_thread(postgres.stop)
