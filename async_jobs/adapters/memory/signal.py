"""Wake-ups within one process."""

from __future__ import annotations

import asyncio
from functools import partial

from async_jobs.adapters.memory.transaction import MemoryTransaction
from async_jobs.adapters.memory.waiting import woken
from async_jobs.ports.clock import Clock


class MemorySignal:
    """Implements `Signal`."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        # Events as keys, in order: who waits longest is woken first.
        self._waits: dict[str, dict[asyncio.Event, None]] = {}
        self._missed: set[str] = set()

    def notify(self, topic: str) -> None:
        """See `Signal`."""
        waits = self._waits.get(topic)
        if not waits:
            self._missed.add(topic)
            return
        for event in waits:
            event.set()

    async def notify_within(self, topic: str, within: object) -> None:
        """See `Signal`. `within` is a transaction of the memory store."""
        MemoryTransaction.of(within).on_commit(partial(self.notify, topic))

    async def wait(self, topic: str, *, timeout_seconds: float) -> bool:
        """See `Signal`."""
        event = asyncio.Event()
        if topic in self._missed:
            self._missed.discard(topic)
            event.set()
        waits = self._waits.setdefault(topic, {})
        waits[event] = None
        try:
            return await woken(event, self._clock, timeout_seconds)
        finally:
            waits.pop(event, None)
            if not waits:
                self._waits.pop(topic, None)
