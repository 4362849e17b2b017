"""Bulk: actions over many jobs, carried out batch by batch."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol, TypeAlias
from uuid import UUID

from async_jobs.domain.audit import Operation
from async_jobs.domain.bulk import BulkAction, BulkOperation, Decision
from async_jobs.domain.filters import JobQuery
from async_jobs.domain.job import Job

Decide: TypeAlias = Callable[[BulkOperation, Sequence[Job]], Awaitable[Sequence[Decision]]]
"""Says what becomes of the jobs of a batch, one decision for each, in any order."""


class Stepped(NamedTuple):
    """The answer to `step`.

    Attributes:
        operation: as it stands after the batch; None if no batch was taken.
        changed: the jobs of the batch whose change stands.
        due_at: when some operation that is under way is due next; None if none is under way.
    """

    operation: BulkOperation | None
    changed: frozenset[UUID]
    due_at: datetime | None


class Bulk(Protocol):
    """Keeps bulk operations, and changes jobs of a `Store` by batches of them; decides nothing.

    Promises:
        BU-1 An operation is read back as it was created; created again when the reply was lost,
            it is there once, as it stands. `operations` pages by id, newest first; of tenants only
            those whose filter names one of them.
        BU-2 A batch shows jobs that match, of the statuses that the action looks for, that were
            there when the operation was created, each once in all batches together; after the
            last one the operation is finished. No batch goes beyond the maximum.
        BU-3 What a batch does to jobs, its counts and its cursor stand together or not at all: a
            batch that is cut off anywhere leaves nothing, and the next one shows the same jobs.
        BU-4 Of each operation one batch is under way at a time, whoever asks; another batch is not
            taken before it is due. `step` tells when one is.
        BU-5 A change is applied if its job is still as it was shown. A job that another live one's
            dedupe key keeps out, or that has changed or gone meanwhile, counts as skipped; one
            that the store refuses, or that is no job any more, as failed, and keeps no other back.
        BU-6 A deleted job is gone with the records of its attempts, and its id and its dedupe key
            are free. A job that runs is never deleted.
        BU-7 An undo shows the jobs that the operation it undoes has cancelled, as long as they are
            there and were not changed since, and no others.
        BU-8 An operation, its end by `stop`, and the audit of each are there together or not at
            all; creating one raises the version of all controls, so that schedulers look. What has
            ended is not stopped, and no audit tells of it.
        BU-9 `forget` drops operations that ended before an instant, oldest first, at most `limit`.
    """

    async def create(self, operation: BulkOperation, audit: Operation) -> BulkOperation:
        """Begin an operation; returns it, or the one of this id as it stands."""
        ...

    async def get(self, operation_id: UUID) -> BulkOperation | None:
        """Return an operation; None for none."""
        ...

    async def operations(
        self,
        *,
        limit: int,
        before: UUID | None = None,
        tenants: Collection[str] | None = None,
    ) -> Sequence[BulkOperation]:
        """Return operations before one, at most `limit`."""
        ...

    async def count(self, action: BulkAction, criteria: JobQuery, *, limit: int) -> int:
        """Return how many jobs an action would look at, counting no further than `limit`."""
        ...

    async def step(
        self, now: datetime, *, limit: int, decide: Decide, pause: Callable[[int], timedelta]
    ) -> Stepped:
        """Take the next batch of the operation that has been due for longest.

        Args:
            now: the instant of the changes, which `decide` goes by as well.
            limit: how many jobs to change at most.
            decide: what becomes of them. What it raises undoes the batch.
            pause: gives, for how many operations are under way, how long this one then rests.
        """
        ...

    async def stop(self, operation_id: UUID, audit: Operation) -> BulkOperation | None:
        """Take no more batches of an operation, from `audit.at` on; returns it as it stands."""
        ...

    async def forget(self, before: datetime, *, limit: int) -> int:
        """Forget operations that ended before an instant; returns how many."""
        ...
