"""Statistics of jobs in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from datetime import datetime

from async_jobs.adapters.memory.store import MemoryJobStore
from async_jobs.adapters.memory.waiting import round_trip
from async_jobs.domain.outlook import Counted


class MemoryStatistics:
    """Implements `Statistics` over the jobs of a store."""

    def __init__(self, store: MemoryJobStore) -> None:
        self._store = store

    async def due_by(
        self, use_cases: Collection[str], instant: datetime, *, limit: int
    ) -> Mapping[str, Counted]:
        """See `Statistics`."""
        await round_trip()
        pending = self._store.pending()
        counts = Counter(row.use_case for row in pending if row.deadline_at <= instant)
        return {
            name: Counted(min(counts[name], limit), counts[name] >= limit) for name in use_cases
        }

    async def use_cases(self) -> Collection[str]:
        """See `Statistics`."""
        await round_trip()
        return sorted(self._store.use_cases())
