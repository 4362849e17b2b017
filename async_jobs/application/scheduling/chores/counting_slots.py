"""Counting slots: who is alive, what each receives, and how much can run at once."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from async_jobs.application.scheduling.chores.chore import Chore
from async_jobs.application.scheduling.noticing import Notices
from async_jobs.application.settings import SchedulerSettings
from async_jobs.domain.pools import Fleet
from async_jobs.domain.presence import fleet_of
from async_jobs.ports.clock import Clock
from async_jobs.ports.workers import Workers

SLOTS_SECONDS: Final = 5.0
"""However long the interval, workers that join are noticed within this time."""


class CountingSlots(Chore):
    """Reads all live workers at once, and writes nothing."""

    def __init__(
        self, workers: Workers, notices: Notices, settings: SchedulerSettings, *, clock: Clock
    ) -> None:
        super().__init__("count slots", min(settings.interval_seconds, SLOTS_SECONDS))
        self._workers = workers
        self._notices = notices
        self._clock = clock
        self._window_min = settings.window_min
        self.fleet = Fleet(window_min=settings.window_min)
        """The slots as they were when last counted."""
        self.receiving: Collection[Collection[str]] = ()
        """The queues of each worker that lived then."""

    async def count(self) -> None:
        """Look who is alive, and tell what keeps jobs waiting."""
        workers = await self._workers.live(self._clock.now())
        await self._notices.look(workers)
        self.fleet = fleet_of(workers, window_min=self._window_min)
        self.receiving = [worker.queues for worker in workers]
