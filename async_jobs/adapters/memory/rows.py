"""What the store in memory asks about its rows, and makes of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from async_jobs.domain.job import Job, JobStatus, UnreadableJob, copied
from async_jobs.domain.unreadable import aside


def unreadable_of(row: Job) -> UnreadableJob:
    """Return what is told of a row that was made unreadable."""
    return UnreadableJob(row.id, row.tenant_id, row.use_case, row.status.value, "corrupt")


def set_aside(row: Job, now: datetime, until: datetime) -> Job:
    """Return an unreadable row as it stands once it is set aside until an instant."""
    attempts, crashes, dispatches, deadline_at = aside(
        claimed=row.started_at is not None,
        attempts=row.attempts,
        max_attempts=row.max_attempts,
        crashes=row.crashes,
        dispatches=row.dispatches,
        delay_tolerance=row.delay_tolerance,
        until=until,
    )
    return replace(
        row,
        status=JobStatus.PENDING,
        run_at=until,
        deadline_at=deadline_at,
        attempts=attempts,
        crashes=crashes,
        dispatches=dispatches,
        lease_expires_at=None,
        started_at=None,
        worker_id=None,
        updated_at=now,
    )


def copy_of(job: Job) -> Job:
    """Return a job that shares nothing changeable with `job`."""
    return replace(
        job,
        payload=copied(job.payload),
        result=copied(job.result),
        headers=dict(job.headers),
    )
