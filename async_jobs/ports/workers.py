"""Workers: who is alive, and with how many slots."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from async_jobs.domain.presence import WorkerInfo

__all__ = ["WorkerInfo", "Workers"]


class Workers(Protocol):
    """A register for the hand-off window, readiness and screens; never for correctness.

    Promises:
        WK-1 `live` returns the workers whose `alive_until` is after `now`, as last announced.
        WK-2 `announce` replaces what the same worker announced before.
        WK-3 `withdraw` removes a worker; doing it again is harmless.
    """

    async def announce(self, worker: WorkerInfo) -> None:
        """Tell that a worker is alive; repeat it well before `alive_until`."""
        ...

    async def live(self, now: datetime) -> Sequence[WorkerInfo]:
        """Return the workers alive at `now`, ordered by id."""
        ...

    async def withdraw(self, worker_id: str) -> None:
        """Tell that a worker is gone for good."""
        ...
