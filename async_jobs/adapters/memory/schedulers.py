"""The register of schedulers, in memory."""

from __future__ import annotations

from collections.abc import Sequence

from async_jobs.domain.presence import SchedulerInfo
from async_jobs.ports.schedulers import forgotten_before


class MemorySchedulers:
    """Implements `Schedulers`."""

    def __init__(self) -> None:
        self._schedulers: dict[str, SchedulerInfo] = {}

    async def announce(self, scheduler: SchedulerInfo) -> Sequence[SchedulerInfo]:
        """See `Schedulers`."""
        now = scheduler.ticked_at
        self._schedulers = {
            name: each
            for name, each in self._schedulers.items()
            if each.alive_until >= forgotten_before(now)
        }
        self._schedulers[scheduler.scheduler_id] = scheduler
        known = await self.known()
        return [each for each in known if each is not scheduler and each.is_alive(now)]

    async def known(self) -> Sequence[SchedulerInfo]:
        """See `Schedulers`."""
        by_name = sorted(self._schedulers.values(), key=lambda each: each.scheduler_id)
        return sorted(by_name, key=lambda each: each.ticked_at, reverse=True)
