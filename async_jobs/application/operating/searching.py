"""SearchService: the driving port `Search`, over a catalog."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

from async_jobs.domain.bounds import JOBS_PER_PAGE_MAX, check_uuid
from async_jobs.domain.error_groups import (
    GROUPS_MAX,
    RECORDS_LOOKED_AT_MAX,
    ErrorGroups,
    check_errors,
)
from async_jobs.domain.errors import InvalidJobError
from async_jobs.domain.filters import FoundPage, JobQuery, check_query, check_window
from async_jobs.domain.outlook import Counted
from async_jobs.ports.catalog import Catalog
from async_jobs.ports.clock import Clock

COUNTED_MAX: Final = 10_000


class SearchService:
    """Implements `Search`; see there for what each call promises.

    Args:
        catalog: finds jobs within bounds.
        clock: the store's time.
    """

    def __init__(self, catalog: Catalog, *, clock: Clock) -> None:
        self._catalog = catalog
        self._clock = clock

    async def search(
        self, query: JobQuery, *, limit: int = 100, cursor: UUID | None = None
    ) -> FoundPage:
        """See `Search`."""
        check_window(check_query(query))
        _check_limit(limit, JOBS_PER_PAGE_MAX)
        if cursor is not None:
            check_uuid("cursor", cursor)
        await self._clock.sync()
        return await self._catalog.matching(
            query, limit=limit, look_at=query.looked_at_max, before=cursor
        )

    async def count(self, query: JobQuery) -> Counted:
        """See `Search`."""
        check_window(check_query(query))
        return await self._catalog.count(query, limit=COUNTED_MAX, look_at=query.looked_at_max)

    async def errors(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        tenant_id: str | None = None,
        use_case: str | None = None,
        limit: int = 100,
    ) -> ErrorGroups:
        """See `Search`."""
        _check_limit(limit, GROUPS_MAX)
        await self._clock.sync()
        query = check_errors(
            now=self._clock.now(),
            since=since,
            until=until,
            tenant_id=tenant_id,
            use_case=use_case,
        )
        return await self._catalog.error_groups(query, limit=limit, look_at=RECORDS_LOOKED_AT_MAX)


def _check_limit(limit: object, most: int) -> None:
    if type(limit) is not int or not 1 <= limit <= most:
        raise InvalidJobError("limit", f"must be an integer from 1 to {most}")
