"""Keeping the jobs in memory ready, and few."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from async_jobs.adapters.memory.rows import MemoryRows
from async_jobs.adapters.memory.waiting import round_trip
from async_jobs.domain.job import TERMINAL, JobStatus
from async_jobs.ports.upkeep import Upcoming


class MemoryUpkeep(MemoryRows):
    """Implements `Upkeep`."""

    async def promote(
        self, now: datetime, *, limit: int, sidelined: Collection[str] = ()
    ) -> Upcoming:
        """See `Upkeep`. Nothing needs promoting here: `heads` looks at `run_at` itself."""
        pending = self._in_status(JobStatus.PENDING)
        return Upcoming(min((row.run_at for row in pending if row.run_at > now), default=None))

    async def oldest_finished(self) -> Mapping[str, datetime]:
        """See `Upkeep`."""
        await round_trip()
        oldest: dict[str, datetime] = {}
        for row in self._rows.values():
            if row.status in TERMINAL and row.finished_at is not None:
                oldest[row.use_case] = min(
                    row.finished_at, oldest.get(row.use_case, row.finished_at)
                )
        return oldest

    async def purge(self, use_case: str, *, before: datetime, limit: int) -> int:
        """See `Upkeep`."""
        await round_trip()
        old = [
            (row.finished_at, row.id)
            for row in self._rows.values()
            if row.status in TERMINAL
            and row.use_case == use_case
            and row.finished_at is not None
            and row.finished_at < before
        ]
        old.sort()
        for _, job_id in old[:limit]:
            self._forget(job_id)
        return len(old[:limit])
