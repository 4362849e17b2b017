"""BulkSteering: the driving port of operators who act on many jobs at once."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

from async_jobs.domain.audit import Operator
from async_jobs.domain.bulk import Amendment, BulkAction, BulkOperation
from async_jobs.domain.filters import JobQuery


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkRequest:
    """What to do, and to which jobs.

    Attributes:
        action: each but `undo`, which is of an operation.
        criteria: which jobs. Without statuses: those that the action is for; of a retry only the
            dead ones.
        amendment: what `reschedule`, `prioritise` or `tolerate` changes to.
        all_jobs: whether a filter without any condition is meant.
    """

    action: BulkAction
    criteria: JobQuery = field(default_factory=JobQuery)
    amendment: Amendment = field(default_factory=Amendment)
    all_jobs: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkPreview:
    """What a bulk operation would be about.

    Attributes:
        count: how many jobs match now; `at_least` if there may be more.
        token: what `start` wants, to know that its caller has seen the count.
        until: how long the token counts.
    """

    count: int
    at_least: bool
    token: str
    until: datetime


class BulkSteering(Protocol):
    """Preview, start, watch, stop and undo actions over many jobs.

    Given `tenants`, a call reaches the jobs and the operations of one of them, which the filter
    has to name; any other operation looks like a missing one. Without, the caller is an operator
    of all.

    Promises:
        BS-1 `preview` counts the jobs that `start` would change, and changes nothing.
        BS-2 `start` wants the token of a preview of the same action and filter that is not too old.
            It changes no more jobs than were counted, unless it is told a greater maximum. Started
            again by the same id, it is there once; another one is refused by that id.
        BS-3 What is out of bounds is refused by `InvalidJobError` with its field, and changes
            nothing; so is a filter without a condition, unless all jobs are asked for.
        BS-4 `get` and `operations` tell how far each is: what was done, skipped and failed.
        BS-5 `stop` takes no more batches; `undo` brings back what an operation has cancelled, by an
            operation of its own, and is refused of any other and of one that is under way.
        BS-6 Each start, stop and undo is in the audit, with who, from where and why.
        BS-7 Within tenants nothing of others is seen or changed.

    Not promised: when it is done. Schedulers do it in batches, at a rate that leaves dispatches
    their time; without a scheduler nothing happens.
    """

    async def preview(
        self, request: BulkRequest, *, tenants: Collection[str] | None = None
    ) -> BulkPreview:
        """Count what would be changed."""
        ...

    async def start(
        self,
        request: BulkRequest,
        *,
        token: str,
        reason: str,
        operator: Operator,
        maximum: int | None = None,
        operation_id: UUID | None = None,
        tenants: Collection[str] | None = None,
    ) -> BulkOperation:
        """Begin it; schedulers do the rest."""
        ...

    async def get(
        self, operation_id: UUID, *, tenants: Collection[str] | None = None
    ) -> BulkOperation:
        """Return how far an operation is."""
        ...

    async def operations(
        self,
        *,
        limit: int = 100,
        before: UUID | None = None,
        tenants: Collection[str] | None = None,
    ) -> Sequence[BulkOperation]:
        """Return operations, the newest first."""
        ...

    async def stop(
        self,
        operation_id: UUID,
        *,
        reason: str,
        operator: Operator,
        tenants: Collection[str] | None = None,
    ) -> BulkOperation:
        """Leave the rest of it undone; what has ended stays as it is."""
        ...

    async def undo(
        self,
        operation_id: UUID,
        *,
        reason: str,
        operator: Operator,
        tenants: Collection[str] | None = None,
    ) -> BulkOperation:
        """Begin to bring back what an operation has cancelled."""
        ...
