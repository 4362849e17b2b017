"""One worker, several lanes, on SQS and on Postgres: no slot is kept for an empty lane."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import UUID

import pytest

from async_jobs.adapters.memory.signal import MemorySignal
from async_jobs.adapters.memory.store import MemoryJobStore
from async_jobs.adapters.memory.workers import MemoryWorkers
from async_jobs.adapters.postgres.outbox import PostgresOutbox
from async_jobs.adapters.postgres.pool import create_pool
from async_jobs.adapters.postgres.queue import PostgresJobQueue
from async_jobs.adapters.postgres.signal import PostgresSignal
from async_jobs.adapters.postgres.store import PostgresJobStore
from async_jobs.adapters.sqs.queue import SqsJobQueue
from async_jobs.application.enqueueing.service import JobService
from async_jobs.application.handling.registry import JobContext, JobRegistry
from async_jobs.application.scheduling.scheduler import Scheduler
from async_jobs.application.settings import SchedulerSettings, WorkerSettings
from async_jobs.application.working.heartbeat import Identity
from async_jobs.application.working.worker import Worker
from async_jobs.domain.job import EnqueueJobRequest
from async_jobs.domain.limits import UseCaseConfig
from async_jobs.host import SystemChance
from async_jobs.ports.queue import JobQueue
from async_jobs.ports.signal import Signal
from async_jobs.ports.store import Store
from async_jobs.testing.builders import RecordingTelemetry, SimpleLimits
from tests.kit import services
from tests.kit.harness import PATIENCE_SECONDS, clock, eventually

NAMES = ("notifications", "reports", "alerts")
SLOTS = 6


class Line:
    """A scheduler and one worker of all lanes, each of which is a use case's own."""

    def __init__(
        self,
        store: Store,
        queues: Sequence[JobQueue],
        signal: Signal,
        *,
        outboxes: Mapping[str, PostgresOutbox] | None = None,
    ) -> None:
        self.stop = asyncio.Event()
        self.may_end = asyncio.Event()
        self.errors: list[Exception] = []
        self.executed: list[UUID] = []
        self.running: Counter[str] = Counter()
        self.most = 0
        kept = outboxes or {}
        self.lanes: dict[str, JobQueue] = {**{queue.name: queue for queue in queues}, **kept}
        limits = SimpleLimits({name: UseCaseConfig(max_concurrent=100) for name in self.lanes})
        chance, workers = SystemChance(), MemoryWorkers()
        telemetry, registry = RecordingTelemetry(), JobRegistry()
        self.service = JobService(limits, store, clock=clock, chance=chance, signal=signal)
        self.scheduler = Scheduler(
            limits,
            store,
            lambda name: self.lanes[name],
            outbox_of=kept.get,
            clock=clock,
            chance=chance,
            signal=signal,
            workers=workers,
            telemetry=telemetry,
            settings=SchedulerSettings(interval_seconds=0.1),
        )
        self.worker = Worker(
            Identity(worker_id="worker-1"),
            store,
            queues,
            registry,
            outboxes=list(kept.values()),
            clock=clock,
            chance=chance,
            signal=signal,
            workers=workers,
            telemetry=telemetry,
            settings=WorkerSettings(slots=SLOTS),
            on_error=self.errors.append,
        )

        @registry.handler("wait")
        async def wait(ctx: JobContext, payload: dict[str, Any]) -> None:
            self.running[ctx.use_case] += 1
            self.most = max(self.most, self.running.total())
            await self.may_end.wait()
            self.executed.append(ctx.job_id)
            self.running[ctx.use_case] -= 1

    async def enqueue(self, use_case: str, jobs: int) -> None:
        await self.service.enqueue_many(
            [
                EnqueueJobRequest(tenant_id="acme", use_case=use_case, type="wait", payload={})
                for _ in range(jobs)
            ]
        )

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Schedule and execute for the length of the block."""
        async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as tasks:
            tasks.create_task(self.scheduler.run(self.stop, self.errors.append))
            tasks.create_task(self.worker.run(self.stop))
            try:
                yield
            finally:
                self.may_end.set()
                self.stop.set()


@asynccontextmanager
async def on_sqs(endpoint: str, dsn: str) -> AsyncIterator[Line]:
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(
            services.sqs_client(endpoint, max_pool_connections=30)
        )
        queues = [
            SqsJobQueue(
                client,
                name,
                await stack.enter_async_context(services.sqs_queue(client)),
                clock=clock,
            )
            for name in NAMES
        ]
        yield Line(MemoryJobStore(), queues, MemorySignal(clock=clock))


@asynccontextmanager
async def on_postgres(dsn: str, *, outboxes: bool) -> AsyncIterator[Line]:
    pool = await create_pool(dsn, max_size=8)
    signal, store = PostgresSignal(pool, clock=clock), PostgresJobStore(pool)
    if outboxes:
        kept = {n: PostgresOutbox(store, n, clock=clock, signal=signal) for n in NAMES}
        yield Line(store, [], signal, outboxes=kept)
    else:
        plain = [PostgresJobQueue(pool, name, clock=clock, signal=signal) for name in NAMES]
        yield Line(store, plain, signal)
    await signal.close()
    pool.terminate()


def on_lanes_beside(endpoint: str, dsn: str) -> AbstractAsyncContextManager[Line]:
    return on_postgres(dsn, outboxes=True)


def on_plain_lanes(endpoint: str, dsn: str) -> AbstractAsyncContextManager[Line]:
    return on_postgres(dsn, outboxes=False)


@pytest.fixture(params=[on_sqs, on_lanes_beside, on_plain_lanes])
async def line(
    request: pytest.FixtureRequest, sqs_endpoint: str, database_dsn: str
) -> AsyncIterator[Line]:
    async with request.param(sqs_endpoint, database_dsn) as line:
        yield line


async def test_empty_lanes_leave_all_slots_to_a_full_one(line: Line) -> None:
    """All its jobs run at the same time; then it is another one's turn."""
    async with line.at_work():
        await clock.sleep(1.5)  # all lanes wait
        for name in ("reports", "alerts"):
            line.may_end.clear()
            await line.enqueue(name, SLOTS)

            async def all_run(name: str = name) -> bool:
                return line.running[name] == SLOTS

            async def none_run(name: str = name) -> bool:
                return line.running[name] == 0

            await eventually(all_run, f"all slots taken by {name}")
            line.may_end.set()
            await eventually(none_run, f"{name} done")

    assert line.most == SLOTS
    assert line.errors == []


async def test_full_lanes_lose_nothing_and_run_no_more_than_there_are_slots(line: Line) -> None:
    """Every job once, while they compete for the places."""
    line.may_end.set()
    async with line.at_work():
        for name in NAMES * 3:
            await line.enqueue(name, 30)

        async def all_executed() -> bool:
            return len(line.executed) >= 270

        await eventually(all_executed, "all jobs executed")

    assert len(set(line.executed)) == len(line.executed) == 270
    assert line.most <= SLOTS
    assert line.errors == []
