"""Keeping the jobs in memory ready, and few."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from async_jobs.adapters.memory.rows import MemoryRows
from async_jobs.adapters.memory.waiting import round_trip
from async_jobs.domain.controls import Scope
from async_jobs.domain.job import TERMINAL, JobStatus
from async_jobs.ports.upkeep import Place, Released, Upcoming


class MemoryUpkeep(MemoryRows):
    """Implements `Upkeep`."""

    async def promote(
        self, now: datetime, *, limit: int, sidelined: Collection[str] = ()
    ) -> Upcoming:
        """See `Upkeep`. Nothing needs promoting here: `heads` looks at `run_at` itself."""
        pending = self._in_status(JobStatus.PENDING)
        return Upcoming(min((row.run_at for row in pending if row.run_at > now), default=None))

    async def hold(
        self,
        seen: Collection[tuple[str, str]],
        scopes: Sequence[Scope],
        *,
        now: datetime,
        version: int,
        limit: int,
    ) -> int:
        """See `Upkeep`."""
        await round_trip()
        if version != self.controls.current_version:
            return 0
        use_cases = {use_case for use_case, _ in seen}
        rows = [
            row
            for row in self._in_status(JobStatus.PENDING)
            if row.use_case in use_cases and row.run_at <= now and row.id not in self.held
        ]
        rows.sort(key=lambda row: (row.deadline_at, row.id))
        held = {row.id for row in rows[:limit] if any(s.covers(row.use_case, row) for s in scopes)}
        self.held |= held
        return len(held)

    async def release(
        self,
        use_cases: Sequence[str],
        scopes: Sequence[Scope],
        *,
        version: int,
        limit: int,
        after: Place | None = None,
    ) -> Released:
        """See `Upkeep`."""
        await round_trip()
        if version != self.controls.current_version:
            return Released(0, None)
        held = [self._rows[job_id] for job_id in self.held]
        places = sorted((row.use_case, row.deadline_at, row.id) for row in held)
        places = [
            each for each in places if each[0] in use_cases and (after is None or each > after)
        ]
        free = {
            job_id
            for use_case, _, job_id in places[:limit]
            if not any(scope.covers(use_case, self._rows[job_id]) for scope in scopes)
        }
        self.held -= free
        return Released(len(free), Place(*places[limit - 1]) if len(places) > limit else None)

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
