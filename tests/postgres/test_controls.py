"""Controls beside what schedulers and enqueues do, on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from async_jobs.adapters.postgres.controls import PostgresControls
from async_jobs.adapters.postgres.pool import create_pool
from async_jobs.adapters.postgres.statements import sql
from async_jobs.adapters.postgres.store import PostgresJobStore
from async_jobs.domain.controls import Scope
from async_jobs.domain.errors import QuotaExceededError
from async_jobs.entrypoints.wiring.library import JobService
from async_jobs.testing.builders import SimpleLimits, a_control, a_request, an_operation
from tests.kit.harness import eventually

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"


@pytest.fixture
async def pool(database_dsn: str) -> AsyncIterator[asyncpg.Pool]:
    async with await create_pool(database_dsn, max_size=4) as pool:
        yield pool


async def test_a_turn_tells_the_version_of_the_controls(pool: asyncpg.Pool) -> None:
    """With the statement that takes its locks."""
    control = a_control()
    changed = await PostgresControls(pool).change(an_operation(control), control, expected=0)

    async with PostgresJobStore(pool).turn(["notifications"]) as turn:
        assert turn.controls == changed.version == 1
        assert turn.use_cases == {"notifications"}


async def test_no_pause_ends_while_jobs_are_hidden_by_it(pool: asyncpg.Pool) -> None:
    """Whoever ends it waits, so that the walk that follows finds all that is hidden."""
    controls = PostgresControls(pool)
    control = a_control(scope=Scope(type="send_email"))
    put = await controls.change(an_operation(control), control, expected=0)

    async with pool.acquire() as connection, connection.transaction():
        names = (["notifications"], ["acme"], [""], [""], ["send_email"], [""])
        await connection.fetch(sql("hold_paused"), *names, put.version, 10)
        ending = asyncio.ensure_future(
            controls.change(
                an_operation(control, after=None), control, expected=put.version, ends=True
            )
        )

        async def waits() -> bool:
            return bool(await pool.fetchval(WAITING))

        await eventually(waits, "whoever ends the pause waits")
        assert not ending.done()

    assert (await ending).applied


async def test_an_enqueue_keeps_a_quota_ordered_since(pool: asyncpg.Pool) -> None:
    """Wired by nobody, and in a caller's own transaction as well."""
    control = a_control(scope=Scope(tenant_id="acme"), limits={"max_pending_jobs": 0})
    await PostgresControls(pool).change(an_operation(control), control, expected=0)
    service = JobService(SimpleLimits(), PostgresJobStore(pool))

    with pytest.raises(QuotaExceededError):
        await service.enqueue(a_request())
    async with pool.acquire() as connection, connection.transaction():
        with pytest.raises(QuotaExceededError):
            await service.enqueue(a_request(), connection=connection)
