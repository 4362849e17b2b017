"""Reaping: leases that are over end, and their jobs are tried again or are dead."""

from __future__ import annotations

from typing import Final, NamedTuple
from uuid import UUID

from async_jobs.application import failpoints
from async_jobs.application.changes import Changes
from async_jobs.application.scheduling.chores.chore import Chore
from async_jobs.application.settings import SchedulerSettings
from async_jobs.domain.crashes import who_waited
from async_jobs.domain.lifecycle import LeaseExpired
from async_jobs.ports.clock import Chance, Clock
from async_jobs.ports.leases import Leases
from async_jobs.ports.store import Applied

REFUSED_MAX: Final = 10_000


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
        self._refused: dict[UUID, None] = {}
        """The jobs whose leases the store refused to end, in the order in which it did."""

    async def reap(self) -> Reaped:
        """End leases that are over."""
        now = self._clock.now()
        over = await self._leases.expired(now, limit=self._limit)
        if over:
            await failpoints.reached(failpoints.REAPER_BETWEEN_READ_AND_SAVE)
        # Whose end is refused has not died: its worker was refused its outcome as well.
        spared = who_waited(over) | self._refused.keys()
        events = [
            (job, LeaseExpired(self._chance.uniform(), waited=job.id in spared)) for job in over
        ]
        applied = await self._changes.apply(events, now)
        self._remember(applied)
        more = len(over) == self._limit
        if more:
            self.repeat()
        return Reaped(len(applied.ids), more)

    def _remember(self, applied: Applied) -> None:
        for job_id in applied.ids:
            self._refused.pop(job_id, None)
        self._refused |= dict.fromkeys(applied.refused)
        while len(self._refused) > REFUSED_MAX:
            del self._refused[next(iter(self._refused))]
