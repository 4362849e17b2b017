"""Keeping history: there is room for the days to come, and old days are forgotten."""

from __future__ import annotations

from typing import Final

from async_jobs.application.scheduling.chores.chore import Chore
from async_jobs.application.settings import SchedulerSettings
from async_jobs.ports.clock import Clock
from async_jobs.ports.history import History

HISTORY_SECONDS: Final = 600.0


class KeepingHistory(Chore):
    """Tidies the history. A crash in the middle leaves the rest to the next one.

    Args:
        history: None to keep none in order.
        settings: for how long, and how much of it.
        clock: the store's time.
    """

    def __init__(
        self, history: History | None, settings: SchedulerSettings, *, clock: Clock
    ) -> None:
        super().__init__("history", HISTORY_SECONDS)
        self._history = history
        self._settings = settings
        self._clock = clock

    async def tidy(self) -> None:
        """Make room for the next days, so that it is there before they begin; forget old ones."""
        if self._history is not None:
            await self._history.tidy(
                self._clock.now(),
                days=self._settings.history_days,
                bytes_max=self._settings.history_bytes_max,
            )
