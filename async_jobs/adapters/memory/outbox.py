"""An outbox in memory: hand-offs come with leases and go with claims."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from async_jobs.adapters.memory.queue import POISON, MemoryJobQueue
from async_jobs.adapters.memory.store import MemoryJobStore
from async_jobs.adapters.memory.waiting import round_trip, woken
from async_jobs.domain.job import HandOff, Job
from async_jobs.domain.lifecycle import Claimed
from async_jobs.ports.clock import Clock
from async_jobs.ports.queue import Claims


class MemoryOutbox(MemoryJobQueue):
    """Implements `Outbox`.

    Args:
        store: where the jobs are.
        name: the lane.
        clock: see `MemoryJobQueue`.
        visibility_timeout_seconds: see `MemoryJobQueue`.
    """

    def __init__(
        self,
        store: MemoryJobStore,
        name: str,
        *,
        clock: Clock,
        visibility_timeout_seconds: float = 60.0,
    ) -> None:
        super().__init__(name, clock=clock, visibility_timeout_seconds=visibility_timeout_seconds)
        self._store = store

    async def claim(self, claimed: Claimed, *, now: datetime, max_messages: int) -> Claims:
        """See `Outbox`."""
        await round_trip()
        self._arrived.clear()
        visible = self._visible(now)
        taken = visible[:max_messages]
        for message in taken:
            self._messages.remove(message)
        bodies = [message.body for message in taken]
        handoffs = [body for body in bodies if isinstance(body, HandOff)]
        return Claims(
            self._store.claim_at_once(handoffs, claimed, now=now),
            (POISON,) * (len(bodies) - len(handoffs)),
            more=len(visible) > len(taken),
        )

    async def claimed(self, worker_id: str, instants: Collection[datetime]) -> list[Job]:
        """See `Outbox`."""
        return await self._store.claimed(self.name, worker_id, instants)

    async def wait(self, seconds: float) -> None:
        """See `Outbox`."""
        await woken(self._arrived, self._clock, min(seconds, self._next_visible_seconds()))
