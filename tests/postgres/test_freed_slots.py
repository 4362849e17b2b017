"""On Postgres, schedulers hear of a slot that has become free with the outcome of its job."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from async_jobs.adapters.postgres.pool import create_pool
from async_jobs.adapters.postgres.signal import SEND_PAUSE_SECONDS, PostgresSignal
from async_jobs.adapters.postgres.store import PostgresJobStore
from async_jobs.application.working.attempt import Attempt
from async_jobs.application.working.settlement import Settler
from async_jobs.domain.job import Phase
from async_jobs.domain.lifecycle import Failed, JobEvent, Snoozed, Succeeded
from async_jobs.ports.signal import DISPATCH
from async_jobs.testing.builders import RecordingTelemetry, later
from async_jobs.testing.clocks import ManualChance, ManualClock
from async_jobs.testing.contracts.scenes import in_phase
from tests.kit.harness import clock

PATIENCE_SECONDS = 10.0


class Elsewhere:
    """A settler in one process and whoever waits for it in another one."""

    def __init__(self, pool: asyncpg.Pool, other: asyncpg.Pool, *, listen: bool) -> None:
        self.store = PostgresJobStore(pool)
        self.signal = PostgresSignal(pool, clock=clock, listen=listen)
        self.other = PostgresSignal(other, clock=clock)
        self.settler = Settler(
            self.store,
            clock=ManualClock(),
            chance=ManualChance(),
            signal=self.signal,
            telemetry=RecordingTelemetry(),
            on_settled=lambda attempt: None,
        )

    async def settle(self, *events: JobEvent) -> None:
        for event in events:
            job = await in_phase(self.store, Phase.CLAIMED)
            self.settler.add(Attempt(job, None, timeout_seconds=900), event)
        await self.settler.settle_group()


@pytest.fixture
async def pools(database_dsn: str) -> AsyncIterator[tuple[asyncpg.Pool, asyncpg.Pool]]:
    pools = await create_pool(database_dsn, max_size=2), await create_pool(database_dsn, max_size=2)
    yield pools
    for pool in pools:
        pool.terminate()


@asynccontextmanager
async def processes(
    pools: tuple[asyncpg.Pool, asyncpg.Pool], *, listen: bool = True
) -> AsyncIterator[Elsewhere]:
    each = Elsewhere(*pools, listen=listen)
    # The first wait ends as soon as it listens: something may have been told before.
    assert await each.other.wait(DISPATCH, timeout_seconds=PATIENCE_SECONDS)
    yield each
    await each.signal.close()
    await each.other.close()


@pytest.mark.parametrize("event", [Succeeded(), Failed("boom"), Snoozed(later(60))])
@pytest.mark.parametrize("listen", [True, False])
async def test_an_outcome_wakes_schedulers_of_other_processes(
    pools: tuple[asyncpg.Pool, asyncpg.Pool], event: JobEvent, listen: bool
) -> None:
    """Whatever it is; it does not matter whether the worker itself could hear anything."""
    async with processes(pools, listen=listen) as elsewhere:
        await elsewhere.settle(event)

        assert await elsewhere.other.wait(DISPATCH, timeout_seconds=PATIENCE_SECONDS)


async def test_many_outcomes_are_one_wake_up(
    pools: tuple[asyncpg.Pool, asyncpg.Pool], database_dsn: str
) -> None:
    """A group, and the groups that follow it within milliseconds."""
    async with processes(pools) as elsewhere:
        heard: list[float] = []
        channel = elsewhere.signal.channel(DISPATCH)
        assert channel is not None
        operator = await asyncpg.connect(database_dsn)
        await operator.add_listener(channel, lambda *told: heard.append(clock.monotonic()))
        began = clock.monotonic()
        for _ in range(20):
            await elsewhere.settle(*[Succeeded()] * 5)
        seconds = clock.monotonic() - began
        await elsewhere.signal.close()
        await operator.fetchval("SELECT 1")
        await operator.close()

    assert 1 <= len(heard) <= 1 + seconds / SEND_PAUSE_SECONDS


async def test_schedulers_that_hear_nothing_look_by_themselves(
    pools: tuple[asyncpg.Pool, asyncpg.Pool],
) -> None:
    """At their interval, behind PgBouncer in transaction mode."""
    deaf = PostgresSignal(pools[1], clock=clock, listen=False)
    async with processes(pools) as elsewhere:
        await elsewhere.settle(Succeeded())

        assert not await deaf.wait(DISPATCH, timeout_seconds=0.2)
    await deaf.close()
