"""Tenants whose transactions do not end: who waits for them, and what is told of the wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import asyncpg
import pytest

from async_jobs import (
    EnqueueJobRequest,
    JobService,
    PostgresJobStore,
    TenantBusy,
    TenantQuota,
    Unavailable,
    UseCaseConfig,
)
from async_jobs.adapters.postgres import pool as pools
from async_jobs.adapters.postgres.pool import create_pool
from async_jobs.testing.builders import SimpleLimits
from tests.kit.harness import eventually

BUSY = [f"busy-{number}" for number in range(3)]
LIMITS = SimpleLimits(
    use_case_configs={"mail": UseCaseConfig()},
    per_tenant_quotas={name: TenantQuota(max_pending_jobs=1_000) for name in (*BUSY, "calm")},
)
WAITING = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


@pytest.fixture
async def operator(database_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection beside those under test."""
    connection = await asyncpg.connect(database_dsn)
    yield connection
    await connection.close()


@pytest.fixture
async def service(database_dsn: str) -> AsyncIterator[JobService]:
    """One with the pool of an API."""
    async with await create_pool(database_dsn) as pool:
        yield JobService(LIMITS, PostgresJobStore(pool))


def a_request(tenant_id: str, dedupe_key: str | None = None) -> EnqueueJobRequest:
    return EnqueueJobRequest(
        tenant_id=tenant_id, use_case="mail", type="send", payload={}, dedupe_key=dedupe_key
    )


@pytest.mark.parametrize("many", [False, True], ids=["one by one", "in batches"])
@pytest.mark.parametrize("keyed", [False, True], ids=["quota", "dedupe key"])
async def test_busy_tenants_keep_no_connection_from_the_others(
    service: JobService, database_dsn: str, operator: asyncpg.Connection, many: bool, keyed: bool
) -> None:
    """However many of their calls there are: the next tenant's go on, with a quota or without."""
    tenants = [f"keyed-{number}" for number in range(3)] if keyed else BUSY
    key = "taken" if keyed else None
    async with AsyncExitStack() as stack:
        for tenant in tenants:
            holder = await asyncpg.connect(database_dsn)
            stack.push_async_callback(holder.close)
            await holder.execute("BEGIN")
            await service.enqueue(a_request(tenant, key), connection=holder)

        async def enqueue(tenant: str) -> None:
            request = a_request(tenant, key)
            await (service.enqueue_many([request]) if many else service.enqueue(request))

        flood = [asyncio.create_task(enqueue(name)) for name in tenants for _ in range(40)]
        await eventually(
            lambda: _are_waiting(operator, at_least=len(tenants)), "somebody waits for each"
        )

        for tenant in ("calm", "free"):
            await service.enqueue(a_request(tenant))

        assert not any(task.done() for task in flood)
    for each in await asyncio.gather(*flood, return_exceptions=True):
        assert each is None


async def _are_waiting(operator: asyncpg.Connection, *, at_least: int) -> bool:
    return int(await operator.fetchval(WAITING)) >= at_least


# --- what is told ---------------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let sessions wait for locks for a moment only."""
    monkeypatch.setattr(pools, "LOCK_TIMEOUT_SECONDS", 0.05)


@pytest.mark.parametrize("tenant", ["calm", "free"])
async def test_a_locked_table_is_told_as_one(
    impatient: None, service: JobService, operator: asyncpg.Connection, tenant: str
) -> None:
    """By a migration, say. No tenant is busy then."""
    async with operator.transaction():
        await operator.execute("LOCK TABLE jobs IN SHARE MODE")
        with pytest.raises(Unavailable, match="a lock on the tables of async_jobs") as told:
            await service.enqueue(a_request(tenant))

    assert not isinstance(told.value, TenantBusy)


async def test_a_locked_table_is_told_in_a_callers_transaction(
    impatient: None, service: JobService, database_dsn: str, operator: asyncpg.Connection
) -> None:
    """Which has the tenant's admission already."""
    async with (
        await create_pool(database_dsn) as pool,
        pool.acquire() as own,
        operator.transaction(),
    ):
        await operator.execute("LOCK TABLE jobs IN SHARE MODE")
        with pytest.raises(Unavailable, match="a lock on the tables") as told:
            async with own.transaction():
                await service.enqueue(a_request("calm"), connection=own)

    assert not isinstance(told.value, TenantBusy)


@pytest.mark.parametrize("tenant", ["free", "calm"])
async def test_a_dedupe_key_that_is_not_committed_is_told_as_one(
    impatient: None, service: JobService, operator: asyncpg.Connection, tenant: str
) -> None:
    """Also for a tenant with a quota, if it is not its admission that is held."""
    store = service._store
    assert isinstance(store, PostgresJobStore)
    async with operator.transaction():
        unlimited = JobService(
            SimpleLimits(use_case_configs=LIMITS.use_case_configs, per_tenant_quotas={}),
            store,
        )
        await unlimited.enqueue(a_request(tenant, "taken"), connection=operator)
        with pytest.raises(Unavailable, match="a job with the same dedupe key") as told:
            await service.enqueue(a_request(tenant, "taken"))

    assert not isinstance(told.value, TenantBusy)


async def test_a_queue_for_a_busy_tenant_is_told_as_one(
    impatient: None, service: JobService, operator: asyncpg.Connection
) -> None:
    """Whether a call is the first one in it or not."""
    async with operator.transaction():
        await service.enqueue(a_request("calm"), connection=operator)
        calls = [service.enqueue_many([a_request("calm")]) for _ in range(2)]
        told = await asyncio.gather(*calls, return_exceptions=True)

    assert [type(each) for each in told] == [TenantBusy] * 2
