"""Jobs by whatever is known of them, in memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from uuid import UUID

from async_jobs.adapters.memory.rows import MemoryRows, copy_of, unreadable_of
from async_jobs.adapters.memory.waiting import round_trip
from async_jobs.domain.error_groups import ErrorGroups, ErrorQuery, groups_of
from async_jobs.domain.filters import FoundPage, JobQuery, id_bounds
from async_jobs.domain.job import Job
from async_jobs.domain.outlook import Counted


class MemoryCatalog:
    """Implements `Catalog` over what a `MemoryJobStore` keeps."""

    def __init__(self, rows: MemoryRows) -> None:
        self._rows = rows

    async def matching(
        self, query: JobQuery, *, limit: int, look_at: int, before: UUID | None = None
    ) -> FoundPage:
        """See `Catalog`."""
        await round_trip()
        looked_at = self._newest(query, before)
        window = looked_at[:look_at]
        errors = self._errors(query)
        found = [job for job in window if query.matches(job, errors.get(job.id, ()))]
        page = found[:limit]
        last: Job | None = None
        if len(found) > limit:
            last = page[-1]
        elif len(looked_at) > look_at:
            last = window[-1]
        return FoundPage(
            jobs=tuple(copy_of(job) for job in self._rows.readable(page)),
            next_cursor=None if last is None else last.id,
            looked_back_to=None if last is None else last.created_at,
            unreadable=tuple(unreadable_of(job) for job in page if self._rows.is_corrupt(job.id)),
        )

    async def count(self, query: JobQuery, *, limit: int, look_at: int) -> Counted:
        """See `Catalog`."""
        await round_trip()
        looked_at = self._newest(query, None)
        errors = self._errors(query)
        found = sum(query.matches(job, errors.get(job.id, ())) for job in looked_at[:look_at])
        return Counted(min(found, limit), found > limit or len(looked_at) > look_at)

    async def error_groups(self, query: ErrorQuery, *, limit: int, look_at: int) -> ErrorGroups:
        """See `Catalog`."""
        await round_trip()
        return groups_of(query, self._rows.records, look_at=look_at, limit=limit)

    def _newest(self, query: JobQuery, before: UUID | None) -> list[Job]:
        bounds = id_bounds(query, before=before)
        if bounds is None:
            return []
        first, last = bounds
        jobs = [job for job in self._rows.committed() if first <= job.id <= last]
        return sorted(jobs, key=lambda job: job.id, reverse=True)

    def _errors(self, query: JobQuery) -> Mapping[UUID, set[str]]:
        """Return the fingerprints that each job's attempt records tell of, if asked for."""
        errors: defaultdict[UUID, set[str]] = defaultdict(set)
        if query.error_group is not None:
            for record in self._rows.records:
                if record.fingerprint is not None:
                    errors[record.job_id].add(record.fingerprint)
        return errors
