"""Real schedulers and workers, in processes of their own, on a real Postgres."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from async_jobs import (
    EnqueueJobRequest,
)
from async_jobs.adapters.postgres.embedded import EmbeddedPostgres
from async_jobs.adapters.postgres.migrate import migrate
from async_jobs.domain.crashes import CRASHES_MAX
from tests.kit.harness import answer, eventually, free_port
from tests.programs import handlers_for_tests as handlers
from tests.programs.systems import System, a_system, is_once

# --- kills --------------------------------------------------------------------------------------


USE_CASES: dict[str, dict[str, Any]] = {
    "mail": {"max_concurrent": 8},
    "labels": {"max_concurrent": 5, "queue": "mail"},
}


WORKLOAD = (
    # type, jobs, attempts at most, how it ends
    ("succeed", 240, 20, "succeeded"),
    ("succeed_in_a_thread", 60, 20, "succeeded"),
    ("take_a_while", 60, 20, "succeeded"),
    ("fail_once", 40, 20, "succeeded"),
    ("fail", 20, 3, "dead"),
    ("reject", 20, 20, "dead"),
)


async def test_kills_lose_nothing_and_repeat_no_outcome(database_dsn: str, tmp_path: Path) -> None:
    """Workers and the scheduler die in the middle of it all, without a word, and come back."""
    settings = {
        "ASYNC_JOBS_USE_CASES": json.dumps(USE_CASES),
        "ASYNC_JOBS_PER_TENANT_QUOTAS": json.dumps({"tenant-0": {"max_running": 3}}),
        "ASYNC_JOBS_LEASE_DURATION_SECONDS": "2",
        "ASYNC_JOBS_DISPATCH_TIMEOUT_SECONDS": "2",
        "ASYNC_JOBS_WORKER_VISIBILITY_TIMEOUT_SECONDS": "2",
        "ASYNC_JOBS_WORKER_CONCURRENCY": "5",
    }
    async with a_system(database_dsn, tmp_path, settings) as system:
        planned: dict[UUID, str] = {}
        for type, count, attempts_max, end in WORKLOAD:
            for part, use_case in enumerate(USE_CASES):
                ids = await system.enqueue(
                    type,
                    count // 2,
                    use_case=use_case,
                    tenant_id=f"tenant-{part}",
                    max_attempts=attempts_max,
                )
                planned |= dict.fromkeys(ids, end)
        scheduler, workers = system.scheduler(), [system.worker(), system.worker()]

        async with system.watched():
            await system.have_begun(40)
            await workers[0].killed()
            system.worker()
            await system.have_begun(120)
            await scheduler.killed()
            await workers[1].killed()
            system.scheduler()
            system.worker()
            await system.have_ended()
        jobs, audit, executions = await system.jobs(), await system.audit(), system.executions

    assert {job.id: job.status.value for job in jobs} == planned
    assert audit == Counter({(str(id), end): 1 for id, end in planned.items()})
    assert is_once([line for line in executions if line["what"] == "began"])
    assert all(job.attempts <= job.max_attempts for job in jobs)
    assert system.looks > 20
    assert system.most_running.keys() == USE_CASES.keys()
    assert all(
        system.most_running[name] <= case["max_concurrent"] for name, case in USE_CASES.items()
    )


async def test_an_executing_job_of_a_killed_worker_runs_again(
    database_dsn: str, tmp_path: Path
) -> None:
    """The death costs it a crash and no attempt; the fifth one ends it as dead."""
    lease = {"ASYNC_JOBS_LEASE_DURATION_SECONDS": "1"}
    async with a_system(database_dsn, tmp_path, lease) as system:
        (job_id,) = await system.enqueue("hold", max_attempts=2)
        system.scheduler()
        for deaths in range(1, CRASHES_MAX + 1):
            worker = system.worker()
            await system.have_begun(deaths)
            await worker.killed()
        await system.become(dead=1)
        job = await system.service.get_job(job_id)

    assert [line["attempt"] for line in system.began()] == [1] * CRASHES_MAX
    assert (job.attempts, job.crashes) == (0, CRASHES_MAX)
    assert job.last_error == f"lease expired: its worker died {CRASHES_MAX} times"


async def test_programs_outlive_a_crash_of_the_database(
    durable_postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    """All connections break and the hand-offs are gone; the jobs are not, nor are the programs."""
    await migrate(durable_postgres.dsn)
    short = {"ASYNC_JOBS_DISPATCH_TIMEOUT_SECONDS": "2", "ASYNC_JOBS_LEASE_DURATION_SECONDS": "3"}
    async with a_system(durable_postgres.dsn, tmp_path, short) as system:
        await system.enqueue("take_a_while", 40, max_attempts=20)
        await system.enqueue("succeed", 100, max_attempts=20)
        scheduler = system.programs.start("scheduler")
        worker = system.programs.start("worker", "--queue", "mail")
        await system.have_begun(20)
        await asyncio.to_thread(durable_postgres.restart, "immediate")
        await system.become(succeeded=140)
        scheduler.terminate()
        worker.terminate()
        codes = [await scheduler.ended(), await worker.ended()]

    assert codes == [0, 0]
    assert "Traceback" not in scheduler.stderr + worker.stderr


# --- what is logged -----------------------------------------------------------------------------


async def test_an_application_that_sets_up_logging_mutes_nobody(system: System) -> None:
    """The worker's lines stay, in its format, and the application's are in the application's."""
    await system.enqueue("fail", max_attempts=1)
    await system.enqueue("log_something")
    system.scheduler()
    worker = system.worker("--handlers", "tests.programs.handlers_with_logging")
    await system.become(succeeded=1, dead=1)
    worker.terminate()
    code = await worker.ended()

    assert code == 0
    (died,) = worker.logged("job_died")
    assert (died["type"], died["error"], died["logger"]) == ("fail", "RuntimeError", "async_jobs")
    (place,) = died["places"]
    assert place.startswith(f"{handlers.__file__}:")
    assert place.endswith(" in fail")
    assert worker.logged("own") == [{"event": "own", "text": "something", "logger": "shop"}]
    assert worker.logged("worker_started")
    assert worker.logged("worker_stopped")


async def test_what_a_handler_logs_names_its_job_and_keeps_its_traceback(system: System) -> None:
    """At any level: it is the application's."""
    (job_id,) = await system.enqueue("log_an_exception")
    system.scheduler()
    worker = system.worker("--log-level", "info")
    await system.become(succeeded=1)
    await worker.has_logged("something went wrong")

    (line,) = worker.logged("something went wrong")
    assert line["exception"].startswith("Traceback (most recent call last):")
    assert (line["job_id"], line["attempt"]) == (str(job_id), 1)


# --- side by side -------------------------------------------------------------------------------


async def test_schedulers_and_workers_share_the_work(system: System) -> None:
    """Two schedulers never exceed a cap, three workers never execute a job twice."""
    held = await system.enqueue("hold", 8)
    await system.enqueue("succeed", 200)
    for _ in range(2):
        system.scheduler()
    for _ in range(3):
        system.worker("--concurrency", "3")

    async with system.watched():
        await system.have_begun(8)
        holding = system.began()
        system.open_gate()
        await system.become(succeeded=208)

    assert {line["job_id"] for line in holding} == {str(job_id) for job_id in held}
    assert len({line["pid"] for line in holding}) == 3
    assert Counter(line["job_id"] for line in system.began()).most_common(1)[0][1] == 1
    assert system.most_running["mail"] == 8


# --- waking each other --------------------------------------------------------------------------


async def test_signals_start_jobs_long_before_anybody_looks(
    database_dsn: str, tmp_path: Path
) -> None:
    """The scheduler looks once an hour, and the jobs come one after the other."""
    rarely = {
        "ASYNC_JOBS_SCHEDULER_INTERVAL_SECONDS": "3600",
        "ASYNC_JOBS_WORKER_POLL_INTERVAL_SECONDS": "20",
    }
    async with a_system(database_dsn, tmp_path, rarely) as system:
        system.scheduler()
        system.worker()
        for count in range(1, 6):
            await system.enqueue("succeed")
            await system.become(succeeded=count)


async def test_a_retry_is_begun_when_it_is_due(database_dsn: str, tmp_path: Path) -> None:
    """The scheduler sleeps no longer than until the next job comes due."""
    rarely = {"ASYNC_JOBS_SCHEDULER_INTERVAL_SECONDS": "3600"}
    async with a_system(database_dsn, tmp_path, rarely) as system:
        system.scheduler()
        system.worker()
        await system.enqueue("fail_once")
        await system.become(succeeded=1)

    assert [line["attempt"] for line in system.began()] == [1, 2]


async def test_without_signals_jobs_run_by_polling(database_dsn: str, tmp_path: Path) -> None:
    """Behind PgBouncer nobody hears anything, and no statement may be prepared."""
    unheard = {"ASYNC_JOBS_DB_STATEMENT_CACHE_SIZE": "0"}
    async with a_system(database_dsn, tmp_path, unheard) as system:
        system.scheduler()
        system.worker()
        await system.enqueue("succeed", 20)
        await system.enqueue("fail_once", 5)
        await system.become(succeeded=25)
        listening = await system.pool.fetchval(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND query ILIKE 'LISTEN%'"
        )

    assert listening == 0


async def test_a_cancellation_reaches_the_worker_by_signal(
    database_dsn: str, tmp_path: Path
) -> None:
    """The next renewal, which would tell it as well, is twenty minutes away."""
    long = {"ASYNC_JOBS_LEASE_DURATION_SECONDS": "3600"}
    async with a_system(database_dsn, tmp_path, long) as system:
        ids = await system.enqueue("hold") + await system.enqueue("hold_in_a_thread")
        system.scheduler()
        system.worker()
        await system.have_begun(2)

        for job_id in ids:
            await system.service.cancel_job(job_id)

        await system.become(cancelled=2)


async def test_a_handler_that_blocks_the_event_loop_keeps_its_lease(
    database_dsn: str, tmp_path: Path
) -> None:
    """Leases are renewed from a thread of their own."""
    short = {"ASYNC_JOBS_LEASE_DURATION_SECONDS": "2"}
    async with a_system(database_dsn, tmp_path, short) as system:
        (job_id,) = await system.enqueue("hold_the_event_loop")
        system.scheduler()
        system.worker()
        await system.have_begun(1)
        claimed = await system.service.get_job(job_id)
        assert claimed.started_at is not None

        async def has_outlived_its_first_lease() -> bool:
            return bool(
                await system.pool.fetchval(
                    "SELECT clock_timestamp() > started_at + interval '3 s' FROM jobs"
                )
            )

        await eventually(has_outlived_its_first_lease, "the first lease is over")
        system.open_gate()
        await system.become(succeeded=1)
        job = await system.service.get_job(job_id)

    assert (job.attempts, job.lease_seq) == (1, claimed.lease_seq)


# --- the caller's own transaction ---------------------------------------------------------------


async def test_a_job_is_committed_with_the_callers_transaction(system: System) -> None:
    """It is not there before, and runs afterwards."""
    system.scheduler()
    system.worker()
    request = EnqueueJobRequest(tenant_id="acme", use_case="mail", type="succeed", payload={})
    async with system.pool.acquire() as connection, connection.transaction():
        await system.service.enqueue(request, connection=connection)
        before = await system.statuses()

    await system.become(succeeded=1)
    assert not before


async def test_a_job_is_rolled_back_with_the_callers_transaction(system: System) -> None:
    """What was never committed never runs."""
    system.scheduler()
    system.worker()
    request = EnqueueJobRequest(tenant_id="acme", use_case="mail", type="succeed", payload={})
    async with system.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await system.service.enqueue(request, connection=connection)
        await transaction.rollback()
    await system.enqueue("succeed")

    await system.become(succeeded=1)
    assert len(system.began()) == 1


# --- health -------------------------------------------------------------------------------------


@pytest.mark.parametrize("program", ["scheduler", "worker"])
async def test_a_program_tells_its_health(system: System, program: str) -> None:
    """It is live as soon as it answers, and ready once it works."""
    port = free_port()
    start = system.scheduler if program == "scheduler" else system.worker
    start("--health-port", str(port))

    async def is_ready() -> bool:
        return await asyncio.to_thread(answer, port, "/health/ready") == (200, {"status": "ready"})

    await eventually(is_ready, "readiness")
    live = await asyncio.to_thread(answer, port, "/health/live")
    other = await asyncio.to_thread(answer, port, "/metrics")

    assert live == (200, {"status": "live"})
    assert other == (404, {"status": "not found"})
