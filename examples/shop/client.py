"""Another service: asks for a report over HTTP, waits until it is there, and prints it.

    python -m examples.shop.client acme

JOBS_URL says where (http://127.0.0.1:8000 when unset), JOBS_TOKEN holds the token. Exits 0 with a
report, 1 without.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from datetime import timedelta
from uuid import UUID

from async_jobs import AsyncJobsError, AsyncJobsHttpClient, EnqueueJobRequest, Job, JobStatus

PATIENCE_SECONDS = 60
PAUSE_SECONDS = 0.2


async def report(jobs: AsyncJobsHttpClient, tenant_id: str) -> Job:
    """Ask for a report; returns its job, ended."""
    enqueued = await jobs.enqueue(
        EnqueueJobRequest(
            tenant_id=tenant_id,
            use_case="reports",
            type="sales_report",
            payload={},
            # Somebody waits for it.
            delay_tolerance=timedelta(seconds=5),
            # While one is on its way, whoever asks again gets that one.
            dedupe_key="sales_report",
        )
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await ended(jobs, enqueued.job_id)


async def ended(jobs: AsyncJobsHttpClient, job_id: UUID) -> Job:
    """Look until the job has ended."""
    while True:
        job = await jobs.get_job(job_id)
        if job.status not in (JobStatus.PENDING, JobStatus.RUNNING):
            return job
        await asyncio.sleep(PAUSE_SECONDS)


async def main(tenant_id: str) -> int:
    """Print a tenant's report; returns the exit code."""
    url = os.environ.get("JOBS_URL", "http://127.0.0.1:8000")
    token = os.environ.get("JOBS_TOKEN")
    try:
        async with AsyncJobsHttpClient(url, auth_token=token) as jobs:
            job = await report(jobs, tenant_id)
    except AsyncJobsError as error:
        print(f"no report: {error}", file=sys.stderr)
        return 1
    except TimeoutError:
        print(f"no report within {PATIENCE_SECONDS} s", file=sys.stderr)
        return 1
    if job.status is not JobStatus.SUCCEEDED:
        print(f"no report: {job.status}: {job.last_error}", file=sys.stderr)
        return 1
    print(json.dumps(job.result))
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:2] or ["acme"])))
