"""How long transactions wait that enqueue for one tenant: `python -m benchmarks.own_transactions`.

Each works for 50 ms beside its enqueue, as many at a time as there are. The server is embedded.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from async_jobs import EnqueueJobRequest, JobService, PostgresJobStore, TenantQuota, UseCaseConfig
from async_jobs.adapters.postgres.migrate import migrate
from async_jobs.host import SystemClock
from async_jobs.testing.builders import SimpleLimits
from tests.kit.services import embedded_postgres

TRANSACTIONS, WORK_SECONDS = 20, 0.05
LIMITS = SimpleLimits(
    use_case_configs={"mail": UseCaseConfig()},
    per_tenant_quotas={"limited": TenantQuota(max_pending_jobs=1_000_000)},
)
CASES = (("free", True), ("limited", True), ("limited", False))
clock = SystemClock()


@asynccontextmanager
async def _warm_pool(dsn: str) -> AsyncIterator[asyncpg.Pool]:
    size = TRANSACTIONS
    async with asyncpg.create_pool(dsn, min_size=size, max_size=size) as pool:
        yield pool


async def _seconds(service: JobService, pool: asyncpg.Pool, tenant: str, *, first: bool) -> float:
    """Return how long the transactions take together, which work after the enqueue or before."""
    request = EnqueueJobRequest(tenant_id=tenant, use_case="mail", type="send", payload={})

    async def transaction() -> None:
        async with pool.acquire() as connection, connection.transaction():
            if first:
                await service.enqueue(request, connection=connection)
            await connection.execute("SELECT pg_sleep($1)", WORK_SECONDS)
            if not first:
                await service.enqueue(request, connection=connection)

    began = clock.monotonic()
    await asyncio.gather(*(transaction() for _ in range(TRANSACTIONS)))
    return clock.monotonic() - began


async def _measure(dsn: str) -> None:
    await migrate(dsn)
    async with _warm_pool(dsn) as pool:
        service = JobService(LIMITS, PostgresJobStore(pool))
        for tenant, first in CASES:
            await _seconds(service, pool, tenant, first=first)  # plans, and the tenant's row
            tries = [await _seconds(service, pool, tenant, first=first) for _ in range(3)]
            place = "first" if first else "last"
            print(f"{tenant:8} enqueue {place:6} {1_000 * min(tries):6.0f} ms")


if __name__ == "__main__":
    with embedded_postgres() as server:
        asyncio.run(_measure(server.dsn))
