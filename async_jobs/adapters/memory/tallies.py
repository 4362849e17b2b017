"""Tallies, in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import islice

from async_jobs.adapters.memory.waiting import round_trip
from async_jobs.domain.tallies import HOUR, Batch, Group, TallyQuery, added, asked, floor_of, merged


class MemoryTallies:
    """Implements `Tallies`."""

    def __init__(self) -> None:
        self._minutes: dict[Group, list[int]] = {}
        self._hours: dict[Group, list[int]] = {}
        self._batches: dict[str, int] = {}

    async def add(self, batch: Batch, *, at: datetime) -> None:
        """See `Tallies`."""
        await round_trip()
        if batch.number <= self._batches.get(batch.source, -1):
            return
        self._batches[batch.source] = batch.number
        for group, sums in batch.sums.items():
            self._minutes[group] = added(self._minutes.get(group, ()), sums)

    async def sums(self, query: TallyQuery, *, limit: int) -> Mapping[Group, Sequence[int]]:
        """See `Tallies`."""
        await round_trip()
        kept = [*asked(query, self._minutes), *asked(query, self._hours)]
        found = merged(kept)
        return {group: found[group] for group in islice(sorted(found), limit)}

    async def roll_up(self, before: datetime, *, limit: int) -> int:
        """See `Tallies`."""
        await round_trip()
        old = [each for each in sorted(self._minutes) if each.starting < before][:limit]
        for minute in old:
            hour = minute._replace(starting=floor_of(minute.starting, HOUR))
            self._hours[hour] = added(self._hours.get(hour, ()), self._minutes.pop(minute))
        return len(old)

    async def forget(self, before: datetime, *, limit: int) -> int:
        """See `Tallies`. Sources are few here, and kept."""
        await round_trip()
        old = [each for each in sorted(self._hours) if each.starting < before][:limit]
        for hour in old:
            del self._hours[hour]
        return len(old)
