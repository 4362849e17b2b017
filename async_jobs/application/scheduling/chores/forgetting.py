"""Forgetting: what operators did long ago, a bounded number at a time."""

from __future__ import annotations

from typing import Final

from async_jobs.application.in_force import InForce
from async_jobs.application.scheduling.chores.chore import Chore
from async_jobs.domain.audit import OPERATIONS_KEPT
from async_jobs.ports.bulk import Bulk
from async_jobs.ports.clock import Clock
from async_jobs.ports.controls import Controls

FORGET_SECONDS: Final = 24 * 3_600.0
FORGOTTEN_AT_ONCE: Final = 1_000


class Forgetting(Chore):
    """Forgets operations after 400 days, once a day. A crash leaves the rest to the next day."""

    def __init__(
        self, controls: Controls | None, bulk: Bulk | None, limits: InForce, *, clock: Clock
    ) -> None:
        super().__init__("forget operations", FORGET_SECONDS)
        self._controls = controls
        self._bulk = bulk
        self._limits = limits
        self._clock = clock

    async def forget(self) -> None:
        """Forget what is old; asks nobody where there was never a control."""
        if self._controls is None or not self._limits.version:
            return
        before = self._clock.now() - OPERATIONS_KEPT
        if self._bulk is not None:
            await self._bulk.forget(before, limit=FORGOTTEN_AT_ONCE)
        if await self._controls.forget(before, limit=FORGOTTEN_AT_ONCE) == FORGOTTEN_AT_ONCE:
            self.repeat()
