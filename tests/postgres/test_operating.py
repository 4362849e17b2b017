"""What operators ask of a large table: bounded, by indexes, and without a lock."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

import async_jobs
from async_jobs.adapters.memory.signal import MemorySignal
from async_jobs.adapters.memory.store import MemoryJobStore
from async_jobs.adapters.postgres.checkpoints import PostgresCheckpoints
from async_jobs.adapters.postgres.history import PostgresHistory
from async_jobs.adapters.postgres.overview import PostgresOverview
from async_jobs.adapters.postgres.pool import create_pool
from async_jobs.adapters.postgres.schedulers import PostgresSchedulers
from async_jobs.adapters.postgres.signal import PostgresSignal
from async_jobs.adapters.postgres.statistics import PostgresStatistics
from async_jobs.adapters.postgres.store import PostgresJobStore
from async_jobs.adapters.postgres.workers import PostgresWorkers
from async_jobs.application.operating import operations as operating
from async_jobs.application.operating.operations import OperationsService
from async_jobs.application.scheduling.chores.announcing import SchedulerIdentity
from async_jobs.application.scheduling.scheduler import Scheduler
from async_jobs.domain.explain import Why
from async_jobs.domain.job import Phase
from async_jobs.domain.limits import UseCaseConfig
from async_jobs.host import SystemClock
from async_jobs.ports.signal import DISPATCH
from async_jobs.testing.builders import RecordingTelemetry, SimpleLimits, a_job, later
from async_jobs.testing.clocks import NOW, ManualChance, ManualClock
from async_jobs.testing.contracts.scenes import added, in_phase, stored
from tests.postgres.plans import Scene, explained

LIMITS = SimpleLimits(
    use_case_configs={
        "notifications": UseCaseConfig(max_concurrent=3),
        "reports": UseCaseConfig(max_concurrent=3),
    }
)
READS = {
    "get_jobs": 1,
    "live_workers": 1,
    "known_schedulers": 1,
    "load_checkpoint": 1,
    "jobs_ahead": 1,
    "running_counts": 1,
    "ready_heads": 1,
}
"""How often each statement runs to explain one job; with the most urgent ones, where priority hides
them, one more.
"""


def service(pool: asyncpg.Pool, clock: ManualClock | None = None) -> OperationsService:
    return OperationsService(
        LIMITS,
        PostgresJobStore(pool),
        PostgresOverview(pool),
        workers=PostgresWorkers(pool),
        schedulers=PostgresSchedulers(pool),
        checkpoints=PostgresCheckpoints(pool),
        statistics=PostgresStatistics(pool),
        history=PostgresHistory(pool),
        clock=clock or ManualClock(),
    )


async def backlog(pool: asyncpg.Pool) -> None:
    """Fill both use cases: what runs, and a backlog of two thousand jobs of one tenant."""
    store = PostgresJobStore(pool)
    for _ in range(3):
        await in_phase(store, Phase.CLAIMED)
    for _ in range(2):
        await stored(store, *(a_job(deadline_at=later(60)) for _ in range(1_000)))
    await stored(store, *(a_job(use_case="reports", tenant_id=f"t{i}") for i in range(200)))


async def test_a_job_is_explained_by_a_bounded_number_of_statements(database_dsn: str) -> None:
    """However much waits, each runs once, by an index, and reads as much as a turn does."""
    async with await create_pool(database_dsn, max_size=1) as pool:
        await backlog(pool)
        job = await added(PostgresJobStore(pool), deadline_at=later(90))
        await pool.execute("ANALYZE jobs")
    async with explained(database_dsn) as connection:
        scene = Scene(connection)
        with scene.listening():
            answer = await service(scene.pool).explain(job.id)
            plans = await scene.plans()

    counts = Counter(plan.statement for plan in plans)
    assert counts == READS
    assert sum(plan.rows_read for plan in plans) < 5_000
    assert not [plan for plan in plans if "jobs" in plan.full_scans]
    codes = [reason.code for reason in answer.reasons]
    assert Why.USE_CASE_FULL in codes
    (behind,) = (reason for reason in answer.reasons if reason.code is Why.BEHIND)
    assert behind.data["ahead"] == 2_000


async def test_what_came_due_while_nobody_ticks_waits_for_a_scheduler(database_dsn: str) -> None:
    """No turn would be shown it: only a tick makes it ready, and it may be due for long."""
    clock = ManualClock()
    async with await create_pool(database_dsn, max_size=1) as pool:
        job = await added(PostgresJobStore(pool), run_at=later(30))
        clock.advance(seconds=300)

        of_job = await service(pool, clock).explain(job.id)
        of_all = await service(pool, clock).explain_waiting(use_case=job.use_case)

    codes = [reason.code for reason in of_job.reasons]
    assert codes == [Why.NO_SCHEDULER, Why.NO_WORKER, Why.COMING_DUE, Why.LATE]
    assert of_job.reasons[2].sentence.startswith(f"It came due at {later(30):%Y-%m-%d %H:%M:%S}")
    assert of_all.sentence == f"1 job waits. {of_job.sentence}"


async def test_a_status_counts_no_further_than_its_bound(
    database_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says that there may be more; and it is answered by a bounded number of statements."""
    monkeypatch.setattr(operating, "COUNTED_IN_ALL_MAX", 1_000)
    async with await create_pool(database_dsn, max_size=1) as pool:
        await backlog(pool)
    async with explained(database_dsn) as connection:
        scene = Scene(connection)
        with scene.listening():
            status = await service(scene.pool).status()
            plans = await scene.plans()

    pending = {each.use_case: (each.pending, each.at_least) for each in status.use_cases}
    assert pending == {"notifications": (500, True), "reports": (200, False)}
    assert max(Counter(plan.statement for plan in plans).values()) == 1
    assert sum(plan.rows_read for plan in plans) < 5_000


async def test_an_application_asks_in_its_own_process(database_dsn: str) -> None:
    """By its configuration and its store; a store of another kind brings its own ports."""
    async with await create_pool(database_dsn, max_size=1) as pool:
        store = PostgresJobStore(pool)
        job = await added(store, created_at=SystemClock().now())
        operations = async_jobs.OperationsService(LIMITS, store)
        explained = await operations.explain(job.id)
        status = await operations.status()
        memory: Any = MemoryJobStore()
        with pytest.raises(TypeError, match="PostgresJobStore"):
            async_jobs.OperationsService(LIMITS, memory)

    assert explained.job_id == job.id
    assert [each.pending for each in status.use_cases] == [1, 0]


async def test_explaining_locks_nothing_that_others_need(database_dsn: str) -> None:
    """While a look is open it holds no more than any reader does."""
    async with (
        await create_pool(database_dsn, max_size=1) as pool,
        PostgresOverview(pool).looking(["notifications"]) as look,
    ):
        await look.running()
        async with await create_pool(database_dsn, max_size=1) as other:
            held = await other.fetch(
                "SELECT DISTINCT locktype, mode FROM pg_locks AS l JOIN pg_stat_activity AS a"
                " USING (pid) WHERE l.database = (SELECT oid FROM pg_database"
                " WHERE datname = current_database()) AND a.pid <> pg_backend_pid()"
            )
            with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
                await look._connection.execute("DELETE FROM jobs")

    assert {tuple(row) for row in held} == {("relation", "AccessShareLock")}


async def test_a_worker_of_the_version_before_is_alive_and_says_nothing_of_its_types(
    database_dsn: str,
) -> None:
    """What it writes knows no such column."""
    async with await create_pool(database_dsn, max_size=1) as pool:
        await pool.execute(
            "INSERT INTO workers (worker_id, queues, slots, busy, host, version, seen_at,"
            " alive_until, run_times, transport)"
            " VALUES ('w', ARRAY['mail'], 3, 1, 'h', '0.1', $1, $2, '{}', 'sqs')",
            NOW,
            NOW + timedelta(minutes=1),
        )

        (worker,) = await PostgresWorkers(pool).live(NOW)

    assert worker.types is None
    assert (worker.queues, worker.transport) == (("mail",), "sqs")


async def test_an_idle_scheduler_tells_that_it_ticks_by_one_statement_in_fifteen_seconds(
    database_dsn: str,
) -> None:
    """All else that it sends in a minute it sends without a register as well."""
    counts: list[Counter[str]] = []
    for is_known in (False, True):
        async with explained(database_dsn) as connection:
            scene = Scene(connection, use_case_configs=LIMITS.use_case_configs)
            scheduler = Scheduler(
                scene,
                scene.store,
                scene.lane,
                clock=scene.clock,
                chance=ManualChance(),
                signal=MemorySignal(clock=scene.clock),
                workers=PostgresWorkers(scene.pool),
                telemetry=RecordingTelemetry(),
                checkpoints=PostgresCheckpoints(scene.pool),
                schedulers=PostgresSchedulers(scene.pool) if is_known else None,
                identity=SchedulerIdentity(scheduler_id="s"),
            )
            with scene.listening():
                for _ in range(60):
                    await scheduler.tick()
                    scene.clock.advance(seconds=1)
                counts.append(Counter(plan.statement for plan in await scene.plans()))

    without, known = counts
    assert known - without == {"announce_scheduler": 4}
    assert not without - known


async def test_an_application_steers_in_its_own_process(database_dsn: str) -> None:
    """By its configuration and its store, and schedulers are woken."""
    woken = asyncio.Event()
    async with await create_pool(database_dsn, max_size=2) as pool:
        store = PostgresJobStore(pool)
        job = await added(store, created_at=SystemClock().now())
        steering = async_jobs.SteeringService(LIMITS, store)
        request = async_jobs.ControlRequest(
            scope=async_jobs.Scope(type=job.type), reason="the provider is down"
        )
        listening = await asyncpg.connect(database_dsn)
        channel = PostgresSignal(pool, clock=SystemClock()).channel(DISPATCH)
        assert channel is not None
        await listening.add_listener(channel, lambda *_: woken.set())
        control = await steering.put(request, operator=async_jobs.Operator(actor="ada"))
        await asyncio.wait_for(woken.wait(), 60)
        await listening.close()
        explained = await async_jobs.OperationsService(LIMITS, store).explain(job.id)
        memory: Any = MemoryJobStore()
        with pytest.raises(TypeError, match="PostgresJobStore"):
            async_jobs.SteeringService(LIMITS, memory)

        assert await steering.controls() == [control]
        assert async_jobs.Why.PAUSED in {each.code for each in explained.reasons}
