"""Expiring: late jobs of use cases whose policy is `expire` end unstarted, as dead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from async_jobs.application.changes import Changes
from async_jobs.domain.lifecycle import Expired
from async_jobs.domain.scheduling import Candidate
from async_jobs.ports.clock import Clock
from async_jobs.ports.store import JobStore

BATCH_MAX: Final = 1_000


class Expiring:
    """Ends what a dispatch found too late, 1,000 jobs a save.

    A crash between two saves leaves the rest to the next dispatch, which finds them again.
    """

    def __init__(self, store: JobStore, changes: Changes, *, clock: Clock) -> None:
        self._store = store
        self._changes = changes
        self._clock = clock

    async def end(self, late: Sequence[Candidate]) -> int:
        """End late jobs; returns how many: whoever was retried or started meanwhile lives on."""
        ended = 0
        for start in range(0, len(late), BATCH_MAX):
            ids = [candidate.id for candidate in late[start : start + BATCH_MAX]]
            events = [(job, Expired()) for job in await self._store.get(ids)]
            ended += len((await self._changes.apply(events, self._clock.now())).ids)
        return ended
