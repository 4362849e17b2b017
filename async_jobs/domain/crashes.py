"""When workers die: the jobs that were in them are charged a crash each, and no attempt.

Nobody can tell which of the jobs that a dead worker held has ended it. So none of them is charged
as if it had failed, and whoever was there twice is tried apart from the others from then on: who
dies alone has nobody else to blame.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from uuid import UUID

from async_jobs.domain.job import Job

LEASE_EXPIRED = "lease expired"
SUSPECT_CRASHES_MIN = 2
CRASHES_MAX = 5
"""The crash that makes a job dead: two in company, and three apart, because hosts die as well."""


def is_suspect(job: Job) -> bool:
    """Tell whether a job has to be executed with nothing else beside it."""
    return job.crashes >= SUSPECT_CRASHES_MIN


def who_waited(over: Sequence[Job]) -> set[UUID]:
    """Return which jobs have not been executed under their leases, which ran out together.

    A suspect begins when its worker holds no other lease, and until then all leases that the
    worker holds are renewed together, to the same end.
    """
    held = Counter((job.worker_id, job.lease_expires_at) for job in over if job.started_at)
    return {
        job.id for job in over if is_suspect(job) and held[job.worker_id, job.lease_expires_at] > 1
    }


def is_hopeless(crashes: int) -> bool:
    """Tell whether a job with so many crashes is not tried again."""
    return crashes >= CRASHES_MAX


def crash_error(crashes: int) -> str:
    """Return what a job's history says of its latest crash."""
    if is_hopeless(crashes):
        return f"{LEASE_EXPIRED}: its worker died {crashes} times"
    return LEASE_EXPIRED
