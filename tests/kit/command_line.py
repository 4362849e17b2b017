"""What tests of the command line share: settings, commands, and how a refusal is read."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from async_jobs import (
    AsyncJobsConfig,
    EnqueueJobRequest,
    Job,
    JobService,
    JobStatus,
    PostgresJobStore,
)
from async_jobs.adapters.postgres.pool import create_pool
from async_jobs.domain.job import Payload
from tests.kit.harness import Program, Programs, eventually

SECRET = "unguessable-secret"
NOWHERE = f"postgresql://user:{SECRET}@127.0.0.1:1/jobs"
SETTINGS = {
    "ASYNC_JOBS_DB_DSN": NOWHERE,
    "ASYNC_JOBS_USE_CASES": json.dumps({"notifications": {"max_concurrent": 8}}),
    "ASYNC_JOBS_PER_TENANT_QUOTAS": json.dumps({"limited": {"max_pending_jobs": 1}}),
    "ASYNC_JOBS_SCHEDULER_INTERVAL_SECONDS": "0.2",
    "ASYNC_JOBS_WORKER_POLL_INTERVAL_SECONDS": "0.5",
}
WORKER = ("worker", "--queue", "notifications")
EXAMPLES = ("--handlers", "async_jobs.handlers.notifications")
ENQUEUE = (
    *("jobs", "enqueue", "--tenant", "acme"),
    *("--use-case", "notifications", "--type", "send_email"),
)
UNKNOWN_ID = "01a20000-0000-7000-8000-000000000000"


def refusal(program: Program, code: int) -> str:
    """Return what a program that failed told: errors only, without a stack trace or a secret."""
    assert program.process.returncode == code, program.stderr
    assert program.stdout == ""
    assert "Traceback" not in program.stderr
    assert SECRET not in program.stderr
    return program.stderr


@asynccontextmanager
async def serving(cli: Programs) -> AsyncIterator[JobService]:
    """Yield a service on the programs' database."""
    config = AsyncJobsConfig.from_env(cli.settings)
    async with await create_pool(config.db_dsn) as pool:
        yield JobService(config, PostgresJobStore(pool))


async def enqueued(
    cli: Programs, type: str, *, tenant_id: str = "acme", payload: Payload | None = None
) -> str:
    """Enqueue a job; returns its id."""
    request = EnqueueJobRequest(
        tenant_id=tenant_id, use_case="notifications", type=type, payload=payload or {}
    )
    async with serving(cli) as service:
        return str((await service.enqueue(request)).job_id)


async def become(cli: Programs, job_id: str, status: JobStatus) -> Job:
    """Return a job once it has the status."""
    async with serving(cli) as service:

        async def look() -> Job | None:
            job = await service.get_job(UUID(job_id))
            return job if job.status is status else None

        job = await eventually(look, f"job {job_id} is {status}")
        assert job is not None
        return job
