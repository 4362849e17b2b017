"""On Postgres, with real loops: a newcomer waits for a round of the others, not for their backlogs.

The settings are those in which shares of `max_concurrent` starved it: slots below the capacity, and
tenants above it. F1, F4.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from async_jobs.adapters.postgres.checkpoints import PostgresCheckpoints
from async_jobs.adapters.postgres.outbox import PostgresOutbox
from async_jobs.adapters.postgres.pool import create_pool
from async_jobs.adapters.postgres.signal import PostgresSignal
from async_jobs.adapters.postgres.store import PostgresJobStore
from async_jobs.adapters.postgres.workers import PostgresWorkers
from async_jobs.application.enqueueing.service import JobService
from async_jobs.application.handling.registry import JobContext, JobRegistry
from async_jobs.application.scheduling.scheduler import Scheduler
from async_jobs.application.settings import SchedulerSettings, WorkerSettings
from async_jobs.application.working.heartbeat import Identity
from async_jobs.application.working.worker import Worker
from async_jobs.domain.job import EnqueueJobRequest
from async_jobs.domain.limits import UseCaseConfig
from async_jobs.host import SystemChance
from async_jobs.testing.builders import RecordingTelemetry, SimpleLimits
from tests.kit.harness import PATIENCE_SECONDS, clock, eventually

NEWCOMER = "newcomer"


class Shop:
    """A scheduler and a worker whose jobs end when they are let."""

    def __init__(self, pool: asyncpg.Pool, signal: PostgresSignal, *, cap: int, slots: int) -> None:
        self.stop = asyncio.Event()
        self.may_end = asyncio.Semaphore(0)
        self.started: list[str] = []
        self.errors: list[Exception] = []
        store, self.workers = PostgresJobStore(pool), PostgresWorkers(pool, clock=clock)
        limits = SimpleLimits({"notifications": UseCaseConfig(max_concurrent=cap)})
        lane = PostgresOutbox(store, "notifications", clock=clock, signal=signal)
        chance, telemetry, registry = SystemChance(), RecordingTelemetry(), JobRegistry()
        self.service = JobService(limits, store, clock=clock, chance=chance, signal=signal)
        self.scheduler = Scheduler(
            limits,
            store,
            lambda name: lane,
            outbox_of=lambda name: lane,
            clock=clock,
            chance=chance,
            signal=signal,
            workers=self.workers,
            telemetry=telemetry,
            checkpoints=PostgresCheckpoints(pool),
            settings=SchedulerSettings(interval_seconds=0.5),
        )
        self.worker = Worker(
            Identity(worker_id="worker-1"),
            store,
            [],
            registry,
            outboxes=[lane],
            clock=clock,
            chance=chance,
            signal=signal,
            workers=self.workers,
            telemetry=telemetry,
            settings=WorkerSettings(slots=slots),
            on_error=self.errors.append,
        )

        @registry.handler("work")
        async def work(ctx: JobContext, payload: dict[str, Any]) -> None:
            self.started.append(ctx.tenant_id)
            await self.may_end.acquire()

    async def enqueue(self, tenant: str, jobs: int) -> None:
        request = EnqueueJobRequest(
            tenant_id=tenant, use_case="notifications", type="work", payload={}
        )
        await self.service.enqueue_many([request] * jobs)

    async def starts(self, count: int) -> None:
        """Wait until so many jobs have started."""

        async def have_started() -> bool:
            return len(self.started) >= count

        await eventually(have_started, f"{count} starts")

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Schedule and execute for the length of the block; the worker is known from the start."""

        async def is_known() -> bool:
            return bool(await self.workers.live(clock.now()))

        async with asyncio.timeout(3 * PATIENCE_SECONDS), asyncio.TaskGroup() as tasks:
            tasks.create_task(self.worker.run(self.stop))
            await eventually(is_known, "the worker announces itself")
            tasks.create_task(self.scheduler.run(self.stop, self.errors.append))
            try:
                yield
            finally:
                for _ in range(1_000):
                    self.may_end.release()
                self.stop.set()


@asynccontextmanager
async def shop(dsn: str, *, cap: int, slots: int) -> AsyncIterator[Shop]:
    pool = await create_pool(dsn, max_size=6)
    signal = PostgresSignal(pool, clock=clock)
    try:
        yield Shop(pool, signal, cap=cap, slots=slots)
    finally:
        await signal.close()
        pool.terminate()


@pytest.mark.parametrize(
    ("cap", "slots", "floods"),
    [(100, 4, 1), (100, 20, 1), (8, 4, 1), (4, 4, 1), (3, 10, 4)],
    ids=["100 on 4", "100 on 20", "8 on 4", "4 on 4", "four floods, capacity 3"],
)
async def test_f4_a_newcomer_waits_for_a_round(
    database_dsn: str, cap: int, slots: int, floods: int
) -> None:
    """Its one job, with the same tolerance as theirs, is among the next of as many as they are.

    What was handed off ahead of free slots before it came goes before it: 50 ms of all slots' work.
    """
    async with shop(database_dsn, cap=cap, slots=slots) as place, place.at_work():
        for number in range(floods):
            await place.enqueue(f"flood-{number}", 60)
        before = min(cap, slots)
        await place.starts(before)
        await place.enqueue(NEWCOMER, 1)

        ahead = slots // 20  # of jobs that nobody has seen run, each is reckoned to take a second
        for following in range(1, floods + ahead + 1):
            place.may_end.release()
            await place.starts(before + following)

        assert NEWCOMER in place.started[before : before + floods + ahead]
        assert not place.errors
