"""Jobs that end every process that executes them, and those that were in it, on real processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from async_jobs import BackoffPolicy, JobStatus
from async_jobs.domain.crashes import CRASHES_MAX, SUSPECT_CRASHES_MIN
from tests.kit.harness import clock
from tests.programs.systems import System, a_system

SETTINGS = {"ASYNC_JOBS_LEASE_DURATION_SECONDS": "1", "ASYNC_JOBS_DISPATCH_TIMEOUT_SECONDS": "2"}
# The default one but for its scale.
SOON = BackoffPolicy(base_delay_seconds=0.5, max_delay_seconds=4.0)


@asynccontextmanager
async def kept_running(system: System, count: int) -> AsyncIterator[list[int]]:
    """Keep so many workers running, as a service does; yields the exit codes of those that died."""
    died: list[int] = []

    async def keep() -> None:
        worker = system.worker()
        while True:
            code = worker.process.poll()
            if code is not None:
                died.append(code)
                worker = system.worker()
            await clock.sleep(0.05)

    keeping = [asyncio.create_task(keep()) for _ in range(count)]
    try:
        yield died
    finally:
        for task in keeping:
            task.cancel()
        await asyncio.gather(*keeping, return_exceptions=True)


@pytest.mark.parametrize("workers", [1, 2])
async def test_who_shared_a_worker_with_poison_succeeds(
    database_dsn: str, tmp_path: Path, workers: int
) -> None:
    """Only the poison is dead in the end, having died alone; its neighbours paid no attempt."""
    async with a_system(database_dsn, tmp_path, SETTINGS) as system:
        poison = await system.enqueue(
            "end_the_process", 2, tenant_id="evil", max_attempts=5, backoff_policy=SOON
        )
        innocents = await system.enqueue(
            "take_a_while", 4, tenant_id="acme", max_attempts=5, backoff_policy=SOON
        )
        system.scheduler()
        async with kept_running(system, workers) as died:
            await system.have_ended()
        jobs = {job.id: job for job in await system.jobs()}

    dead, succeeded = [jobs[id] for id in poison], [jobs[id] for id in innocents]
    assert [job.status for job in dead] == [JobStatus.DEAD] * 2
    assert [job.crashes for job in dead] == [CRASHES_MAX] * 2
    assert [job.status for job in succeeded] == [JobStatus.SUCCEEDED] * 4
    assert [job.attempts for job in succeeded] == [1] * 4
    assert all(job.crashes <= SUSPECT_CRASHES_MIN for job in succeeded)
    assert set(died) == {1}
    # Each of the two died alone from its third time on.
    assert 2 * (CRASHES_MAX - SUSPECT_CRASHES_MIN) < len(died) <= 2 * CRASHES_MAX
