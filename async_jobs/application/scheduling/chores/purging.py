"""Purging: finished jobs past their retention are forgotten, a bounded number at a time."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime, timedelta
from typing import Final

from async_jobs.application.scheduling.chores.chore import Chore
from async_jobs.application.settings import SchedulerSettings
from async_jobs.domain.facts import JobsPurged
from async_jobs.domain.limits import Limits
from async_jobs.ports.clock import Clock
from async_jobs.ports.telemetry import Telemetry
from async_jobs.ports.upkeep import Upkeep

PURGES_MAX: Final = 8
"""Of so many use cases a tick forgets jobs; the others' follow in the next ones, at once."""
PURGE_SECONDS: Final = 0.25
"""After so long a tick leaves the others to the next ones, too: rows may be refused one by one."""


class Purging(Chore):
    """Forgets finished jobs, use case by use case, `purge_limit` at once.

    A crash leaves the rest to the next one: each statement forgets for itself.
    """

    def __init__(
        self,
        config: Limits,
        upkeep: Upkeep,
        settings: SchedulerSettings,
        *,
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        super().__init__("purge", settings.purge_interval_seconds)
        self._config = config
        self._upkeep = upkeep
        self._settings = settings
        self._clock = clock
        self._telemetry = telemetry
        self._left: deque[str] = deque()
        """The use cases of the last look that had jobs past their retention."""

    async def purge(self) -> bool:
        """Forget jobs of a few use cases; returns whether more are left.

        Between two of these parts there is a dispatch, however many use cases there are.
        """
        if not self._left:
            for name, oldest in (await self._upkeep.oldest_finished()).items():
                if oldest < self._kept_since(name):
                    self._left.append(name)
        limit = self._settings.purge_limit
        until = self._clock.monotonic() + PURGE_SECONDS
        for _ in range(min(PURGES_MAX, len(self._left))):
            name = self._left.popleft()
            count = await self._upkeep.purge(name, before=self._kept_since(name), limit=limit)
            if count:
                self._telemetry.record(JobsPurged(at=self._clock.now(), use_case=name, count=count))
            limit -= count
            if limit <= 0:
                self._left.appendleft(name)
            if limit <= 0 or self._clock.monotonic() >= until:
                break
        if self._left:
            self.repeat()
        return bool(self._left)

    def _kept_since(self, use_case: str) -> datetime:
        """Return the end of the oldest finished jobs that a use case may still have."""
        retention = self._settings.retention_of(self._config.use_case_configs.get(use_case))
        if retention <= 0:
            return datetime.min.replace(tzinfo=UTC)
        return self._clock.now() - timedelta(seconds=retention)
