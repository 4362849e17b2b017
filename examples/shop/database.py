"""The shop's own tables, in the same database as the jobs: that is what makes one commit enough."""

from __future__ import annotations

import asyncio
import os
from typing import TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

Connection: TypeAlias = asyncpg.Connection | PoolConnectionProxy

SCHEMA = """
-- Two processes that create the same table at once would fail over it.
SELECT pg_advisory_xact_lock(hashtext('shop schema'));
CREATE TABLE IF NOT EXISTS shop_products (
    sku         text    PRIMARY KEY,
    price_cents bigint  NOT NULL,
    stock       integer NOT NULL CHECK (stock >= 0)
);
CREATE TABLE IF NOT EXISTS shop_orders (
    id          uuid        PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id   text        NOT NULL,
    sku         text        NOT NULL REFERENCES shop_products,
    quantity    integer     NOT NULL CHECK (quantity > 0),
    email       text        NOT NULL,
    ordered_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE IF NOT EXISTS shop_mails (
    key         text        PRIMARY KEY,
    sent_as     text        NOT NULL,
    recipient   text        NOT NULL,
    body        text        NOT NULL
);
INSERT INTO shop_products VALUES ('mug', 1200, 100), ('lamp', 4900, 1)
    ON CONFLICT DO NOTHING;
"""

_opening = asyncio.Lock()
_pools: list[asyncpg.Pool] = []


async def open_pool(dsn: str, *, max_size: int = 10) -> asyncpg.Pool:
    """Return a pool whose sessions are set as async_jobs wants them; see docs/configuration.md."""
    settings = {"application_name": "shop", "jit": "off", "enable_seqscan": "off"}
    return await asyncpg.create_pool(dsn, min_size=1, max_size=max_size, server_settings=settings)


async def create_tables(pool: asyncpg.Pool) -> None:
    """Create what is missing. A real service has a migration tool for this."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(SCHEMA)


async def worker_pool() -> asyncpg.Pool:
    """Return the pool that all handlers of a worker share, opened by the first that asks.

    It is made inside a handler, because it belongs to the event loop that handlers run on.
    """
    async with _opening:
        if not _pools:
            _pools.append(await open_pool(os.environ["ASYNC_JOBS_DB_DSN"], max_size=5))
    return _pools[0]
