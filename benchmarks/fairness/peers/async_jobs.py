"""async_jobs: a scheduler and a worker as the command line starts them.

Capacity is above the slots, so that nothing is tuned to their number.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta

from async_jobs import AsyncJobsConfig, EnqueueJobRequest, JobService, PostgresJobStore
from async_jobs.adapters.postgres.migrate import migrate
from async_jobs.adapters.postgres.pool import create_pool
from benchmarks.fairness.peers.async_jobs_handlers import TYPE
from benchmarks.fairness.peers.played import Part, Peer, dsn, main, script

USE_CASE = "play"
SLACK = 50


class AsyncJobsPeer(Peer):
    """Deadlines and tenants are all it is told."""

    async def setup(self) -> None:
        await migrate(dsn())

    async def open(self) -> None:
        self._pool = await create_pool(dsn(), max_size=4, application_name="async_jobs play")
        config = AsyncJobsConfig.from_env(_variables())
        self._service = JobService(config, PostgresJobStore(self._pool))

    async def close(self) -> None:
        await self._pool.close()

    async def enqueue(self, parts: Sequence[Part]) -> None:
        requests = [
            EnqueueJobRequest(
                tenant_id=part.tenant,
                use_case=USE_CASE,
                type=TYPE,
                payload=dict(part.payload),
                delay_tolerance=timedelta(seconds=part.tolerance),
            )
            for part in parts
        ]
        await self._service.enqueue_many(requests)


def _variables() -> Mapping[str, str]:
    slots = script().slots
    return {
        "ASYNC_JOBS_DB_DSN": dsn(),
        "ASYNC_JOBS_USE_CASES": json.dumps({USE_CASE: {"max_concurrent": SLACK * slots}}),
        "ASYNC_JOBS_WORKER_CONCURRENCY": str(slots),
        "ASYNC_JOBS_HANDLERS_MODULE": "benchmarks.fairness.peers.async_jobs_handlers",
    }


def _become(*arguments: str) -> None:
    command = [sys.executable, "-m", "async_jobs.entrypoints.cli", *arguments]
    os.execve(sys.executable, command, {**os.environ, **_variables()})


def schedule() -> None:
    """Become a scheduler."""
    _become("scheduler", "--log-level=warning")


def work() -> None:
    """Become a worker."""
    _become("worker", f"--queue={USE_CASE}", "--log-level=warning")


if __name__ == "__main__":
    main(AsyncJobsPeer, also={"schedule": schedule, "work": work})
