"""Readying: scheduled jobs that come due are put where dispatches look, late ones behind."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime

from async_jobs.application.scheduling.chores.chore import Chore
from async_jobs.application.settings import SchedulerSettings
from async_jobs.ports.clock import Clock
from async_jobs.ports.upkeep import Upcoming, Upkeep


class Readying(Chore):
    """Promotes `promote_limit` jobs in each tick, in order of their `run_at`.

    A crash leaves jobs due and hidden until the next promotion, which is the next tick's.
    """

    def __init__(self, upkeep: Upkeep, settings: SchedulerSettings, *, clock: Clock) -> None:
        super().__init__("promote", 0.0)
        self._upkeep = upkeep
        self._limit = settings.promote_limit
        self._clock = clock
        self._next_run_at: datetime | None = datetime.min.replace(tzinfo=UTC)  # nothing is known
        self.late: Collection[str] = ()
        """In which use cases late jobs stood before others when last looked."""

    @property
    def presses(self) -> bool:
        """Whether a dispatch must wait for what came due since the last one.

        Otherwise what is ready does not wait for that trip, which follows the dispatch.
        """
        return self.is_past(self._next_run_at)

    def is_past(self, at: datetime | None) -> bool:
        """Tell whether an instant has come; None never comes."""
        return at is not None and at <= self._clock.now()

    async def promote(self) -> Upcoming:
        """Promote what is due; returns how many, and when the next one comes due."""
        upcoming = await self._upkeep.promote(
            self._clock.now(), limit=self._limit, sidelined=sorted(self.late)
        )
        self._next_run_at = upcoming.run_at
        return upcoming
