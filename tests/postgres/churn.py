"""What a system costs while jobs churn through it: pages, index entries, containers, memory."""

from __future__ import annotations

import gc
import sys
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain
from typing import Any, TypeAlias

import asyncpg

from async_jobs import EnqueueJobRequest, JobContext, JobRegistry, UseCaseConfig
from async_jobs.adapters.memory.signal import MemorySignal
from async_jobs.adapters.memory.workers import MemoryWorkers
from async_jobs.adapters.postgres.outbox import PostgresOutbox
from async_jobs.adapters.postgres.pool import AnyConnection, create_pool
from async_jobs.adapters.postgres.store import PostgresJobStore
from async_jobs.adapters.postgres.workers import PostgresWorkers
from async_jobs.application.enqueueing.service import JobService
from async_jobs.application.handling.outcomes import Reject, Snooze
from async_jobs.application.scheduling.scheduler import Scheduler
from async_jobs.application.settings import SchedulerSettings, WorkerSettings
from async_jobs.application.working.heartbeat import Identity
from async_jobs.application.working.worker import Worker
from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.facts import Fact, JobSucceeded
from async_jobs.domain.limits import Limits, TenantQuota
from async_jobs.ports.workers import Workers
from async_jobs.testing.builders import SimpleLimits, a_worker
from async_jobs.testing.clocks import ManualChance, ManualClock
from tests.postgres.plans import Scene, explained

BATCH = 100
"""How many jobs a measured turn takes through their whole life."""
LANE = "work"


class Tally:
    """Implements `Telemetry`: counts the facts and keeps none."""

    def __init__(self) -> None:
        self.counts: Counter[type[Fact]] = Counter()

    def wants(self, kind: type[Fact]) -> bool:
        """See `Telemetry`."""
        return True

    def record(self, fact: Fact) -> None:
        """See `Telemetry`."""
        self.counts[type(fact)] += 1


def handle(registry: JobRegistry, clock: ManualClock) -> None:
    """Register the one handler, which does as its payload says."""

    @registry.handler("work")
    async def work(ctx: JobContext, payload: dict[str, Any]) -> None:
        match payload.get("does"):
            case "fail once" if ctx.attempt == 1:
                raise RuntimeError("the first attempt fails")
            case "reject":
                raise Reject("nobody wants it")
            case "snooze" if clock.now() < datetime.fromisoformat(payload["until"]):
                raise Snooze(300)


@dataclass
class Flow:
    """The parts of a system that a test calls itself, on a clock that the test moves."""

    service: JobService
    scheduler: Scheduler
    worker: Worker
    clock: ManualClock
    tally: Tally = field(default_factory=Tally)
    workers: Workers = field(default_factory=MemoryWorkers)

    @classmethod
    def on(cls, pool: asyncpg.Pool, limits: Limits, clock: ManualClock, *, seed: int) -> Flow:
        """Return the real system on a pool; what wakes anybody stays within the process."""
        store, workers, tally = PostgresJobStore(pool), PostgresWorkers(pool, clock=clock), Tally()
        chance, signal = ManualChance(seed), MemorySignal(clock=clock)
        registry = JobRegistry()
        handle(registry, clock)

        def queue(name: str) -> PostgresOutbox:
            return PostgresOutbox(store, name, clock=clock)

        return cls(
            JobService(limits, store, clock=clock, chance=chance, signal=signal, telemetry=tally),
            Scheduler(
                limits,
                store,
                queue,
                outbox_of=queue,
                clock=clock,
                chance=chance,
                signal=signal,
                workers=workers,
                telemetry=tally,
                settings=SchedulerSettings(window_min=BATCH, purge_interval_seconds=10),
            ),
            Worker(
                Identity(worker_id=f"worker-{seed}"),
                store,
                [],
                registry,
                outboxes=[queue(LANE)],
                clock=clock,
                chance=chance,
                signal=signal,
                workers=workers,
                telemetry=tally,
                settings=WorkerSettings(slots=BATCH),
            ),
            clock,
            tally,
            workers,
        )

    async def round(self) -> int:
        """Tick once and execute what was handed off; returns how many jobs succeeded."""
        before = self.tally.counts[JobSucceeded]
        await self.scheduler.tick()
        await self.worker.step()
        return self.tally.counts[JobSucceeded] - before

    async def rest(self) -> None:
        """Go on until nothing is due any more."""
        while True:
            tick = await self.scheduler.tick()
            ran = await self.worker.step()
            if tick.idle and not ran:
                return


# --- what a turn costs --------------------------------------------------------------------------

CHURNED = SimpleLimits(
    use_case_configs={"mail": UseCaseConfig(max_concurrent=1_000, queue=LANE, retention_seconds=20)}
)
BACKLOG = 1_000
TENANTS = 20
WARM_UP = 40
"""Rounds of one simulated second until as much is purged as ends."""
ROUNDS_PER_VACUUM = 10
"""A thousand jobs leave some four thousand dead rows: that is when autovacuum comes by."""

_ENTRIES = """
SELECT indexrelid::regclass::text AS name, pg_stat_get_xact_tuples_returned(indexrelid) AS entries
FROM pg_index WHERE indrelid IN ('jobs'::regclass, 'handoffs'::regclass)
"""


@dataclass(frozen=True)
class Cost:
    """What a batch of jobs cost from its enqueue to its outcome.

    Attributes:
        pages: the pages touched, by statement.
        executions: how often each statement was executed.
        wal: the bytes that each statement logged, but for images of whole pages.
        entries: the index entries looked at, dead ones included, by index.
        milliseconds: how long each statement took.
    """

    pages: Mapping[str, int]
    executions: Mapping[str, int]
    wal: Mapping[str, int]
    entries: Mapping[str, int]
    milliseconds: Mapping[str, float] = field(default_factory=dict)


class TimedScene(Scene):
    """Keeps how long each statement took besides."""

    def __init__(self, connection: AnyConnection, clock: ManualClock) -> None:
        super().__init__(connection, clock=clock)
        self.milliseconds: dict[str, float] = {}

    def _told(self, connection: object, message: Any) -> None:
        known = len(self._plans)
        super()._told(connection, message)
        for plan in self._plans[known:]:
            spent = float(message.message.split()[1])
            self.milliseconds[plan.statement] = spent + self.milliseconds.get(plan.statement, 0.0)


async def cost_of_a_turn(connection: AnyConnection, limits: Limits, clock: ManualClock) -> Cost:
    """Take a batch through its life and roll everything back; `connection` is `explained`."""
    transaction = connection.transaction()
    await transaction.start()
    scene = TimedScene(connection, clock)
    flow = Flow.on(scene.pool, limits, clock, seed=0xC057)
    before = await _entries(connection)
    with scene.listening():
        await flow.service.enqueue_many(requests(BATCH, limits))
        tick = await flow.scheduler.tick()
        assert (tick.leased, await flow.worker.step()) == (BATCH, BATCH)
        plans = await scene.plans()
    after = await _entries(connection)
    await transaction.rollback()
    pages, executions, wal = Counter[str](), Counter[str](), Counter[str]()
    for plan in plans:
        pages[plan.statement] += plan.pages
        executions[plan.statement] += 1
        wal[plan.statement] += max(0, plan.wal_bytes)
    entries = {name: count - before[name] for name, count in after.items()}
    return Cost(pages, executions, wal, entries, scene.milliseconds)


async def _entries(connection: AnyConnection) -> dict[str, int]:
    """Return what this session has read of each index since its counts were last gathered."""
    return {row["name"]: row["entries"] for row in await connection.fetch(_ENTRIES)}


def requests(count: int, limits: Limits, *, first: int = 0) -> list[EnqueueJobRequest]:
    """Return requests of several tenants, with deadlines that overtake one another."""
    use_case = min(limits.use_case_configs)
    return [
        EnqueueJobRequest(
            tenant_id=f"tenant-{n % TENANTS:04}",
            use_case=use_case,
            type="work",
            payload={"to": "somebody@example.com", "does": "fail once" if n % 20 == 0 else ""},
            delay_tolerance=timedelta(seconds=30 * (1 + n % 4)),
        )
        for n in range(first, first + count)
    ]


@dataclass
class Churn:
    """A backlog that stays as large as it is while jobs run through it."""

    dsn: str
    pool: asyncpg.Pool
    explained: AnyConnection
    flow: Flow
    rounds: int = 0

    async def run(self, rounds: int) -> None:
        """Run so many batches of jobs, and come by as autovacuum would."""
        for _ in range(rounds):
            ended = await self.flow.round()
            first = BACKLOG + self.rounds * BATCH
            await self.flow.service.enqueue_many(requests(ended, CHURNED, first=first))
            self.flow.clock.advance(1)
            self.rounds += 1
            if self.rounds % ROUNDS_PER_VACUUM == 0:
                await vacuum(self.pool)

    async def cost(self) -> Cost:
        """Measure one turn."""
        return await cost_of_a_turn(self.explained, CHURNED, self.flow.clock)


async def vacuum(pool: asyncpg.Pool) -> None:
    """Do what autovacuum does, at a time that the test knows."""
    for table in ("jobs", "handoffs", "workers"):
        await pool.execute(f"VACUUM (ANALYZE) {table}")


async def without_autovacuum(pool: asyncpg.Pool) -> None:
    """Leave vacuuming to `vacuum`, so that every run sees the same."""
    for table in ("jobs", "handoffs", "workers"):
        await pool.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")


@asynccontextmanager
async def churning(dsn: str, *, warm_up: int = WARM_UP) -> AsyncIterator[Churn]:
    """Yield a churn that has come to a steady state; the database is migrated and empty."""
    async with await create_pool(dsn) as pool, explained(dsn) as connection:
        # As in a program that has run for a while.
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        await without_autovacuum(pool)
        flow = Flow.on(pool, CHURNED, ManualClock(), seed=1)
        churn = Churn(dsn, pool, connection, flow)
        await flow.service.enqueue_many(requests(BACKLOG, CHURNED))
        await churn.run(warm_up)
        yield churn


@asynccontextmanager
async def old_snapshot(dsn: str) -> AsyncIterator[None]:
    """Hold a snapshot open during a block, as a report or a forgotten session does."""
    connection = await asyncpg.connect(dsn)
    try:
        transaction = connection.transaction(isolation="repeatable_read", readonly=True)
        await transaction.start()
        rows = await connection.fetchval("SELECT count(*) FROM jobs")
        yield
        assert await connection.fetchval("SELECT count(*) FROM jobs") == rows
        await transaction.rollback()
    finally:
        await connection.close()


# --- a day --------------------------------------------------------------------------------------

STEP_SECONDS = 120
STEPS_PER_HOUR = 3600 // STEP_SECONDS
RETENTION_SECONDS = 3600.0
PER_STEP = 16
DAILY = SimpleLimits(
    use_case_configs={
        name: UseCaseConfig(
            max_concurrent=200, queue=LANE, late_policy=policy, retention_seconds=RETENTION_SECONDS
        )
        for name, policy in (
            ("alerts", LatePolicy.SIDELINE),
            ("mail", LatePolicy.RUN),
            ("offers", LatePolicy.EXPIRE),
        )
    },
    per_tenant_quotas={"limited": TenantQuota(max_pending_jobs=500, max_running=5)},
)
_LATER = {1: timedelta(minutes=10), 2: timedelta(hours=3), 8: timedelta(minutes=20)}
_DOES = {3: "fail once", 4: "reject", 5: "snooze"}


@dataclass
class Day:
    """A steady flow of jobs of every kind; the hours pass as a test says."""

    flow: Flow
    steps: int = 0

    async def hour(self) -> None:
        """Let an hour pass; at its beginning the worker is replaced, as by a deployment."""
        workers, hour = self.flow.workers, self.steps // STEPS_PER_HOUR
        await workers.withdraw(f"worker-of-hour-{hour - 1}")
        for _ in range(STEPS_PER_HOUR):
            now = self.flow.clock.now()
            worker = a_worker(
                slots=BATCH,
                worker_id=f"worker-of-hour-{hour}",
                queues=(LANE,),
                seen_at=now,
                alive_until=now + timedelta(seconds=2 * STEP_SECONDS),
            )
            await workers.announce(worker)
            await self._step(now)
        await self.flow.rest()

    async def _step(self, now: datetime) -> None:
        service = self.flow.service
        enqueued = await service.enqueue_many([self._request(n, now) for n in range(PER_STEP)])
        await service.cancel_job(enqueued[8].job_id)
        if self.steps % 10 == 9:
            # Nobody receives in time: the leases end, and the hand-offs have become stale.
            await self.flow.scheduler.tick()
        else:
            await self.flow.rest()
        if self.steps % 10 == 0:
            await service.retry_job(enqueued[4].job_id)
        self.flow.clock.advance(STEP_SECONDS)
        self.steps += 1

    def _request(self, n: int, now: datetime) -> EnqueueJobRequest:
        hour = self.steps // STEPS_PER_HOUR
        return EnqueueJobRequest(
            tenant_id="limited" if n == 9 else f"tenant-{hour}-{n // 2 * 2}",
            use_case=sorted(DAILY.use_case_configs)[n // 2 % 3],
            type="work",
            payload={
                "does": _DOES.get(n, ""),
                "until": (now + timedelta(minutes=15)).isoformat(),
            },
            run_at=now + _LATER.get(n, timedelta()),
            priority=n % 3,
            dedupe_key=f"key-{self.steps}" if n in (6, 7) else None,
        )


BYTES = """
SELECT sum(pg_total_relation_size(name::regclass))::bigint
FROM unnest(ARRAY['jobs', 'handoffs', 'workers']) AS name
"""


# --- memory -------------------------------------------------------------------------------------

_CONTAINERS = (dict, list, set, frozenset, deque, tuple)
Census: TypeAlias = Mapping[str, int]


def census(*roots: object) -> Census:
    """Count what all containers hold that can be reached from objects of async_jobs.

    The name of a container is that of the attribute which leads to it.
    """
    counts: Counter[str] = Counter()
    seen: set[int] = set()
    waiting: list[tuple[str, object]] = [("", root) for root in roots]
    while waiting:
        name, each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, _CONTAINERS):
            counts[name] += len(each)
            held = chain(each.keys(), each.values()) if isinstance(each, dict) else each
            waiting += [(name, item) for item in held]
        elif type(each).__module__.startswith(("async_jobs.", "asyncio.queues")):
            waiting += _attributes(each)
    return counts


def _attributes(of: object) -> Iterator[tuple[str, object]]:
    kind = type(of)
    slots = chain.from_iterable(getattr(each, "__slots__", ()) for each in kind.__mro__)
    for name in {*getattr(of, "__dict__", ()), *slots}:
        if hasattr(of, name):
            yield f"{kind.__name__}.{name}", getattr(of, name)


def grown(before: Census, after: Census) -> Mapping[str, tuple[int, int]]:
    """Return the containers that hold more than a tenth more than before."""
    return {
        name: (before.get(name, 0), count)
        for name, count in after.items()
        if count > 1.1 * before.get(name, 0) + PER_STEP
    }


def allocated() -> int:
    """Return how many blocks of memory the objects of this process hold, garbage collected."""
    gc.collect()
    return sys.getallocatedblocks()
