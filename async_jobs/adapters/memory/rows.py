"""What the store in memory asks about its rows, and makes of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from async_jobs.domain.job import Job, UnreadableJob, copied
from async_jobs.domain.lifecycle import SetAside, advance


def unreadable_of(row: Job) -> UnreadableJob:
    """Return what is told of a row that was made unreadable."""
    return UnreadableJob(row.id, row.tenant_id, row.use_case, row.status.value, "corrupt")


def set_aside(row: Job, now: datetime, until: datetime) -> Job:
    """Return an unreadable row as it stands once it is set aside until an instant."""
    return advance(row, SetAside(until), now=now)


def copy_of(job: Job) -> Job:
    """Return a job that shares nothing changeable with `job`."""
    return replace(
        job,
        payload=copied(job.payload),
        result=copied(job.result),
        headers=dict(job.headers),
    )
