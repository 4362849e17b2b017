"""Quarantining: rows that cannot be read keep no slot."""

from __future__ import annotations

from datetime import timedelta

from async_jobs.application.scheduling.chores.chore import Chore
from async_jobs.application.settings import SchedulerSettings
from async_jobs.ports.clock import Clock
from async_jobs.ports.leases import Leases


class Quarantining(Chore):
    """Gives `reap_limit` unreadable running rows back at once, due after a delay.

    It is one statement: a crash leaves all of it or nothing.
    """

    def __init__(self, leases: Leases, settings: SchedulerSettings, *, clock: Clock) -> None:
        super().__init__("set aside", settings.purge_interval_seconds)
        self._leases = leases
        self._delay = timedelta(seconds=settings.unreadable_delay_seconds)
        self._limit = settings.reap_limit
        self._clock = clock

    async def set_aside(self) -> bool:
        """Free the slots of rows that cannot be read; returns whether more may be left."""
        now = self._clock.now()
        count = await self._leases.set_aside(now, until=now + self._delay, limit=self._limit)
        more = count == self._limit
        if more:
            self.repeat()
        return more
