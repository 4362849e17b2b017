"""On Postgres, what is ready or has come due waits for nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import asyncpg
import pytest

from async_jobs.adapters.postgres.outbox import PostgresOutbox
from async_jobs.adapters.postgres.pool import create_pool
from async_jobs.adapters.postgres.queue import PostgresJobQueue
from async_jobs.adapters.postgres.signal import PostgresSignal
from async_jobs.adapters.postgres.store import PostgresJobStore
from async_jobs.domain.job import HandOff
from async_jobs.domain.lifecycle import Claimed
from async_jobs.domain.limits import UseCaseConfig
from async_jobs.domain.scheduling import grant
from async_jobs.ports.queue import Claims
from async_jobs.ports.signal import handed_off
from async_jobs.testing.builders import SimpleLimits, a_job, a_request, candidate_of, later
from async_jobs.testing.clocks import NOW, ManualClock, let_others_run
from tests.kit.harness import clock
from tests.postgres.churn import LANE, Flow

LIMITS = SimpleLimits({"notifications": UseCaseConfig(queue=LANE)})
HANDOFF = HandOff(a_job().id, 1, "acme")
PATIENCE_SECONDS = 10.0


@pytest.fixture
async def pool(database_dsn: str) -> AsyncIterator[asyncpg.Pool]:
    pool = await create_pool(database_dsn, max_size=4)
    yield pool
    pool.terminate()


@pytest.fixture
def flow(pool: asyncpg.Pool) -> Flow:
    return Flow.on(pool, LIMITS, ManualClock(), seed=1)


async def scheduled(flow: Flow) -> None:
    """Enqueue a job that comes due in a second."""
    at = flow.clock.now() + timedelta(seconds=1)
    await flow.service.enqueue(a_request(type="work", run_at=at))


async def test_what_is_known_to_come_due_runs_with_the_first_tick(flow: Flow) -> None:
    """The scheduler slept until then."""
    await scheduled(flow)
    assert (await flow.scheduler.tick()).leased == 0
    flow.clock.advance(1)

    assert (await flow.scheduler.tick()).leased == 1


async def test_what_came_due_unannounced_runs_with_the_second_tick(flow: Flow) -> None:
    """The first one sees it too late to dispatch it, and does not rest."""
    await flow.scheduler.tick()
    await scheduled(flow)
    flow.clock.advance(2)

    first, second = await flow.scheduler.tick(), await flow.scheduler.tick()

    assert (first.leased, first.more) == (0, True)
    assert (second.leased, second.more) == (1, False)


async def test_hand_offs_are_heard_of_with_their_commit(
    pool: asyncpg.Pool, database_dsn: str
) -> None:
    """Once, and by a statement that sends nothing else."""
    signal = PostgresSignal(pool, clock=clock)
    queue = PostgresJobQueue(pool, LANE, clock=ManualClock(), signal=signal)
    channel = signal.channel(handed_off(LANE))
    assert channel is not None
    heard: asyncio.Queue[str] = asyncio.Queue()
    operator = await asyncpg.connect(database_dsn)
    await operator.add_listener(channel, lambda *told: heard.put_nowait(told[2]))

    await queue.send([HANDOFF])

    assert await asyncio.wait_for(heard.get(), PATIENCE_SECONDS) == channel
    await signal.close()
    await operator.fetchval("SELECT 1")
    assert heard.empty()
    await operator.close()


async def test_where_nobody_can_listen_a_process_wakes_itself(pool: asyncpg.Pool) -> None:
    """Behind PgBouncer, in the one process of `async-jobs dev` for example."""
    signal = PostgresSignal(pool, clock=clock, listen=False)
    queue = PostgresJobQueue(pool, LANE, clock=ManualClock(), signal=signal)
    topic = handed_off(LANE)
    waiting = asyncio.create_task(signal.wait(topic, timeout_seconds=PATIENCE_SECONDS))
    await let_others_run()

    await queue.send([HANDOFF])

    assert signal.channel(topic) is None
    assert await waiting
    await signal.close()


async def test_a_turns_hand_offs_are_heard_of_with_its_commit(
    pool: asyncpg.Pool, database_dsn: str
) -> None:
    """And not before."""
    signal, store = PostgresSignal(pool, clock=clock), PostgresJobStore(pool)
    lane = PostgresOutbox(store, LANE, clock=ManualClock(), signal=signal)
    heard: asyncio.Queue[str] = asyncio.Queue()
    operator = await asyncpg.connect(database_dsn)
    assert lane.channel is not None
    await operator.add_listener(lane.channel, lambda *told: heard.put_nowait(told[2]))

    async with leasing(store, lane):
        await operator.fetchval("SELECT 1")
        assert heard.empty()

    assert await asyncio.wait_for(heard.get(), PATIENCE_SECONDS) == lane.channel
    await operator.close()


async def test_where_nobody_can_listen_a_turn_wakes_its_process(pool: asyncpg.Pool) -> None:
    """When it has ended."""
    signal, store = PostgresSignal(pool, clock=clock, listen=False), PostgresJobStore(pool)
    lane = PostgresOutbox(store, LANE, clock=ManualClock(), signal=signal)
    waiting = asyncio.create_task(signal.wait(handed_off(LANE), timeout_seconds=PATIENCE_SECONDS))

    async with leasing(store, lane):
        await let_others_run(5)
        assert not waiting.done()

    assert await waiting
    await signal.close()


async def test_a_worker_does_not_look_again_for_what_another_is_taking(pool: asyncpg.Pool) -> None:
    """However long that takes: it waits to be woken instead of asking over and over."""
    lane = PostgresOutbox(PostgresJobStore(pool), LANE, clock=ManualClock())
    await lane.send([HANDOFF])
    claimed = Claimed("worker-1", later(60))

    async with pool.acquire() as other, other.transaction():
        await other.execute("DELETE FROM handoffs")
        assert await lane.claim(claimed, now=NOW, max_messages=10) == Claims(())

    await lane.send([HANDOFF])
    async with pool.acquire() as other, other.transaction():
        await other.execute("SELECT FROM handoffs FOR UPDATE")
        assert await lane.claim(claimed, now=NOW, max_messages=10) == Claims(())


@asynccontextmanager
async def leasing(store: PostgresJobStore, lane: PostgresOutbox) -> AsyncIterator[None]:
    """A turn that has leased a job onto the lane and has not ended yet."""
    job = a_job(queue=LANE)
    await store.add([job], {})
    async with store.turn([job.use_case]) as turn:
        await turn.lease([grant(candidate_of(job), until=later(60), now=NOW)], onto=[lane])
        yield
