"""Reaping: leases that are over end, and their jobs are tried again or are dead."""

from __future__ import annotations

from typing import NamedTuple

from async_jobs.application import failpoints
from async_jobs.application.changes import Changes
from async_jobs.application.scheduling.chores.chore import Chore
from async_jobs.application.settings import SchedulerSettings
from async_jobs.domain.crashes import who_waited
from async_jobs.domain.lifecycle import LeaseExpired
from async_jobs.ports.clock import Chance, Clock
from async_jobs.ports.leases import Leases


class Reaped(NamedTuple):
    """How many ended, and whether more may be over."""

    leases: int = 0
    more: bool = False


class Reaping(Chore):
    """Ends `reap_limit` leases at once, those that have been over for longest first.

    A crash between the read and the save changes nothing; the next look finds the same leases.
    """

    def __init__(
        self,
        leases: Leases,
        changes: Changes,
        settings: SchedulerSettings,
        *,
        clock: Clock,
        chance: Chance,
    ) -> None:
        super().__init__("reap", settings.interval_seconds)
        self._leases = leases
        self._changes = changes
        self._limit = settings.reap_limit
        self._clock = clock
        self._chance = chance

    async def reap(self) -> Reaped:
        """End leases that are over."""
        now = self._clock.now()
        over = await self._leases.expired(now, limit=self._limit)
        if over:
            await failpoints.reached(failpoints.REAPER_BETWEEN_READ_AND_SAVE)
        waited = who_waited(over)
        events = [
            (job, LeaseExpired(self._chance.uniform(), waited=job.id in waited)) for job in over
        ]
        reaped = await self._changes.apply(events, now)
        more = len(over) == self._limit
        if more:
            self.repeat()
        return Reaped(reaped, more)
