"""Rolling up: sums by minute become sums by hour, and old ones are dropped."""

from __future__ import annotations

from typing import Final

from async_jobs.application.scheduling.chores.chore import Chore
from async_jobs.domain.tallies import HOURS_KEPT, MINUTES_KEPT
from async_jobs.ports.clock import Clock
from async_jobs.ports.tallies import Tallies

ROLL_UP_SECONDS: Final = 3_600.0
ROLL_UP_LIMIT: Final = 1_000


class RollingUp(Chore):
    """Takes a bounded number of rows a tick, until none is left that is old.

    A crash leaves the rest to the next one: each statement moves what it takes, or nothing.

    Args:
        tallies: None where no process keeps any.
        clock: the store's time.
    """

    def __init__(self, tallies: Tallies | None, *, clock: Clock) -> None:
        super().__init__("roll_up", ROLL_UP_SECONDS)
        self._tallies = tallies
        self._clock = clock
        self._has_news = False

    def leased(self, count: int) -> None:
        """Note that jobs run: where none does, nothing is added, and nothing has to be asked."""
        self._has_news = self._has_news or count > 0

    async def roll_up(self) -> None:
        """Make hours of the minutes that are old, and drop hours that are; repeats if more are."""
        if self._tallies is None or not self._has_news:
            return
        self._has_news = False
        now = self._clock.now()
        rolled = await self._tallies.roll_up(now - MINUTES_KEPT, limit=ROLL_UP_LIMIT)
        dropped = await self._tallies.forget(now - HOURS_KEPT, limit=ROLL_UP_LIMIT)
        if max(rolled, dropped) >= ROLL_UP_LIMIT:
            self._has_news = True
            self.repeat()
