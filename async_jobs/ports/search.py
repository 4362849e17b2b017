"""Search: the driving port of operators who look for jobs and for what went wrong."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol
from uuid import UUID

from async_jobs.domain.error_groups import ErrorGroups
from async_jobs.domain.filters import FoundPage, JobQuery
from async_jobs.domain.outlook import Counted


class Search(Protocol):
    """Find jobs by any of their conditions, count them, and see what goes wrong.

    A tenant that is given hides all others.

    Promises:
        SH-1 `search` returns the jobs that meet all conditions, newest first, page by page; each
            page says whether it is `complete`, and if not where to go on and how far it looked
            back. A page may be short, or empty, and not the last one.
        SH-2 What is out of bounds is refused by `InvalidJobError` with its field. So are conditions
            that read jobs through (`READ_THROUGH`) unless others say which: ids, an error group, or
            a tenant or use cases and since when they were created.
        SH-3 `count` tells how many jobs there are, 10,000 at most, and says `at_least` where there
            may be more.
        SH-4 `errors` tells the groups of errors of a time, of the last day by default, those that
            happened most often first, and how far it looked back.

    Not promised: that a job is found by when it was created whose id is neither a UUIDv7 nor made
    within a day of that; that there are records for ever of errors.
    """

    async def search(
        self, query: JobQuery, *, limit: int = 100, cursor: UUID | None = None
    ) -> FoundPage:
        """Return one page of at most `limit` jobs, 1,000 at most."""
        ...

    async def count(self, query: JobQuery) -> Counted:
        """Tell how many jobs there are."""
        ...

    async def errors(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        tenant_id: str | None = None,
        use_case: str | None = None,
        limit: int = 100,
    ) -> ErrorGroups:
        """Tell what went wrong."""
        ...
