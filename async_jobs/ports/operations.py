"""Operations: the second driving port. What operators ask, in process or over HTTP."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol
from uuid import UUID

from async_jobs.domain.explain import Explanation, Status, Waiting
from async_jobs.domain.timeline import JobHistory


class Operations(Protocol):
    """See why jobs wait, what became of them, and who is there.

    Given a `tenant_id`, or `tenants`, a call sees jobs of these only; a foreign id looks like a
    missing one. Without, the caller is an operator and sees all.

    Promises:
        OP-1 `explain` gives a sentence and its data for a job in any phase; an unknown or foreign
            id raises `JobNotFoundError`.
        OP-2 Of a job that is pending and due it says what a turn at that moment would do with it
            (`next_turn`), by the service that schedulers last told of.
        OP-3 Who asks within tenants learns no other tenant's name and no host, worker or scheduler
            but the worker that runs a job of its own.
        OP-4 Asking changes nothing, and is answered whoever dispatches meanwhile.
        OP-5 `explain_waiting` counts by reason what is due of a use case, a tenant, or a tenant in
            a use case, and what waits in use cases that nobody configured; and says what would have
            to change. A use case nobody configured is refused
            with the known ones, as is the question about everything.
        OP-6 `status` has every use case that is configured or has jobs, every queue, who lives, and
            the controls that stand; and of the limit of each use case whether it is a control's.
        OP-7 `status` warns of each thing that keeps jobs waiting and fails nothing, in one sentence
            that says what to do.
        OP-8 `history` tells the life of a job in the order of time: when it was enqueued, what
            became of each attempt of which there is a record or that the job remembers, operators'
            retries, and where it is now. Of a job that has ended it says how and when; of one that
            a worker ran to its end, by whom and since when, too. An unknown or foreign id raises
            `JobNotFoundError`.

    Not promised: when a job starts; that what is told still holds when it is read; that counts of
    jobs are exact where they say `at_least`.
    """

    async def explain(self, job_id: UUID, *, tenant_id: str | None = None) -> Explanation:
        """Say why a job is where it is."""
        ...

    async def history(self, job_id: UUID, *, tenant_id: str | None = None) -> JobHistory:
        """Tell what became of a job so far."""
        ...

    async def explain_waiting(
        self, *, use_case: str | None = None, tenant_id: str | None = None
    ) -> Waiting:
        """Say why jobs wait; at least one of the two is given."""
        ...

    async def status(self, *, tenants: Collection[str] | None = None) -> Status:
        """Say who is there, and what there is to do."""
        ...
