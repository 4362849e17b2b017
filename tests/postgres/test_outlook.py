"""The outlook of a job on Postgres, by a service as applications make it."""

from __future__ import annotations

from datetime import timedelta

from async_jobs import JobService, PostgresJobStore, UseCaseConfig
from async_jobs.adapters.postgres.pool import create_pool
from async_jobs.adapters.postgres.workers import PostgresWorkers
from async_jobs.host import SystemClock
from async_jobs.testing.builders import SimpleLimits, a_request, a_worker

LIMITS = SimpleLimits(use_case_configs={"notifications": UseCaseConfig(max_concurrent=100)})


async def test_a_backlog_and_the_workers_decide(database_dsn: str) -> None:
    """Both are read from the database that the store is on; nothing is enqueued."""
    async with await create_pool(database_dsn) as pool:
        service = JobService(LIMITS, PostgresJobStore(pool))
        soon, later = timedelta(seconds=60), timedelta(hours=1)
        await service.enqueue_many([a_request(delay_tolerance=soon) for _ in range(100)])
        await service.enqueue_many([a_request(delay_tolerance=later) for _ in range(50)])
        now = SystemClock().now()
        worker = a_worker(
            slots=4, busy=4, seen_at=now, alive_until=now + later, run_times={"send_email": 3.0}
        )
        await PostgresWorkers(pool).announce(worker)

        patient = await service.outlook(a_request(delay_tolerance=2 * later))
        urgent = await service.outlook(a_request(delay_tolerance=2 * soon))
        other = await service.outlook(a_request(delay_tolerance=2 * soon, type="short"))
        jobs = await service.list_jobs(limit=1_000)

    assert (patient.ahead, patient.can_be_met) == (150, True)
    assert (urgent.ahead, urgent.capacity_rate, urgent.can_be_met) == (100, 4 / 3, True)
    assert (other.ahead, other.capacity_rate) == (100, 4.0)
    assert len(jobs.jobs) == 150
