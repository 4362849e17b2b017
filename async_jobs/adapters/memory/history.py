"""What became of attempts, in memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import date, datetime
from uuid import UUID

from async_jobs.adapters.memory.rows import MemoryRows
from async_jobs.adapters.memory.waiting import round_trip
from async_jobs.domain.history import AttemptRecord
from async_jobs.domain.history_days import Part, to_drop, today
from async_jobs.ports.history import Tidied

ROW_BYTES = 200
"""What a record takes besides its texts."""


class MemoryHistory:
    """Implements `History` over what a `MemoryJobStore` keeps."""

    def __init__(self, rows: MemoryRows) -> None:
        self._kept = rows.records

    async def attempts(self, job_id: UUID, *, limit: int) -> Sequence[AttemptRecord]:
        """See `History`."""
        await round_trip()
        records = [each for each in self._kept if each.job_id == job_id]
        records.sort(key=lambda each: (each.ended_at, each.lease_seq))
        return records[-limit:]

    async def tidy(self, now: datetime, *, days: int, bytes_max: int) -> Tidied:
        """See `History`. There is room for every day."""
        await round_trip()
        sizes: dict[date, int] = defaultdict(int)
        for each in self._kept:
            sizes[today(each.ended_at)] += _size(each)
        parts = [Part(str(day), day, size, day, day) for day, size in sizes.items()]
        dropped = {part.day for part in to_drop(parts, now, days=days, bytes_max=bytes_max)}
        self._kept[:] = [each for each in self._kept if today(each.ended_at) not in dropped]
        return Tidied(dropped=len(dropped))


def _size(record: AttemptRecord) -> int:
    texts = (record.error, record.traceback)
    return ROW_BYTES + sum(len(text.encode("utf-8", "replace")) for text in texts if text)
