"""Schedulers: who ticks, and by which limits."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol

from async_jobs.domain.presence import SchedulerInfo

FORGOTTEN_AFTER: Final = timedelta(days=1)


class Schedulers(Protocol):
    """A register for explanations, warnings and screens; never for correctness.

    Promises:
        SR-1 `known` returns the schedulers as they announced themselves last, alive or not, the
            one that ticked last first.
        SR-2 `announce` replaces what the same scheduler announced before.
        SR-3 `announce` returns the other schedulers alive at the instant of its tick.
        SR-4 Who has been gone for a day may be forgotten when another one announces itself, and
            nobody else is: after the last scheduler has ended it is known when it ticked.
    """

    async def announce(self, scheduler: SchedulerInfo) -> Sequence[SchedulerInfo]:
        """Tell that a scheduler ticks; repeat it well before `alive_until`."""
        ...

    async def known(self) -> Sequence[SchedulerInfo]:
        """Return the schedulers there are, and those that were there lately."""
        ...


def forgotten_before(now: datetime) -> datetime:
    """Return the instant: who was alive until before it is forgotten."""
    return now - FORGOTTEN_AFTER
