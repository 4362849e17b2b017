"""Jobs: the driving port. What applications call, in process or over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from async_jobs.domain.job import Enqueued, EnqueueJobRequest, Job, JobPage, JobStatus


class Jobs(Protocol):
    """Hand work in, look at it, stop it, give it another life.

    Given a `tenant_id`, a call sees that tenant's jobs only; a foreign id looks like a missing
    one. Without it, the caller is an operator and sees all.

    Promises:
        JB-1 A job whose enqueue returned exists, pending, with the defaults of its use case.
        JB-2 A call is all or nothing: when one of `enqueue_many`'s jobs is invalid or over
            quota, none is enqueued.
        JB-3 Enqueueing a live dedupe key again returns the live job's id and says duplicate.
        JB-4 Repeating an enqueue that carries an id creates nothing and returns that id.
        JB-5 An invalid request raises `InvalidJobError` that names the field; a use case or
            queue nobody configured is refused with the known ones.
        JB-6 A call above the tenant's quota raises `QuotaExceededError`.
        JB-7 `get_job` returns the job; an unknown or foreign id raises `JobNotFoundError`.
        JB-8 `list_jobs` gives newest first and pages without repeating or skipping a job.
        JB-9 `cancel_job` ends a job nobody executes at once, asks a worker to stop one that
            is executing, says so again when repeated, and raises `IllegalTransition` on a
            job that ended otherwise.
        JB-10 `retry_job` makes a dead or cancelled job pending and due, with its attempts
            and crashes counted anew and its history kept; on any other it raises
            `IllegalTransition`.

    Not promised: when a job starts; that a job runs only once (see docs/guarantees.md).
    """

    async def enqueue(self, request: EnqueueJobRequest) -> Enqueued:
        """Enqueue one job; returns after the commit."""
        ...

    async def enqueue_many(self, requests: Sequence[EnqueueJobRequest]) -> list[Enqueued]:
        """Enqueue up to 1,000 jobs in one transaction, all or nothing; answers in order."""
        ...

    async def get_job(self, job_id: UUID, *, tenant_id: str | None = None) -> Job:
        """Return the job as it stands.

        Of a row that is no job any more, `JobNotFoundError.unreadable` tells why.
        """
        ...

    async def list_jobs(
        self,
        *,
        tenant_id: str | None = None,
        use_case: str | None = None,
        status: JobStatus | str | None = None,
        limit: int = 100,
        cursor: UUID | None = None,
    ) -> JobPage:
        """Return one page of at most `limit` (1-1,000) jobs, newest first.

        Rows that are no jobs any more are told of apart, in the page's `unreadable`.
        A `status` may be given by its name, e.g. `"dead"`.
        """
        ...

    async def cancel_job(self, job_id: UUID, *, tenant_id: str | None = None) -> Job:
        """Cancel the job, or ask its worker to; returns the job as it then stands."""
        ...

    async def retry_job(self, job_id: UUID, *, tenant_id: str | None = None) -> Job:
        """Give a dead or cancelled job another life; returns the job as it then stands."""
        ...
