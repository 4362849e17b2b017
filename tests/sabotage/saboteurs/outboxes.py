"""Outboxes that break one promise each, over the memory adapters."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from async_jobs.adapters.memory.outbox import MemoryOutbox
from async_jobs.adapters.memory.store import MemoryJobStore
from async_jobs.domain.job import HandOff, Job
from async_jobs.domain.lifecycle import Claimed
from async_jobs.ports.queue import Claims, Sent
from async_jobs.testing.clocks import ManualClock


class UntouchedOutbox(MemoryOutbox):
    """Breaks nothing: what the saboteurs are before they break something."""

    breaks = ""

    def __init__(self, store: MemoryJobStore, name: str, clock: ManualClock) -> None:
        super().__init__(store, name, clock=clock)
        self.store = store
        self.clock = clock
        self.instants: set[datetime] = set()


class KeepsWhatItClaims(UntouchedOutbox):
    """Leaves the messages on the queue."""

    breaks = "OB-1"

    async def claim(self, claimed: Claimed, *, now: datetime, max_messages: int) -> Claims:
        before = list(self._messages)
        claims = await super().claim(claimed, now=now, max_messages=max_messages)
        self._messages = before
        return claims._replace(more=False)


class TakesBeforeItClaims(UntouchedOutbox):
    """Takes messages off the queue in one step and their leases in another."""

    breaks = "OB-1"

    async def claim(self, claimed: Claimed, *, now: datetime, max_messages: int) -> Claims:
        deliveries = await self.receive(max_messages=max_messages, wait_seconds=0)
        await self.ack(deliveries)
        handoffs = {d.handoff.job_id: d.handoff for d in deliveries if d.handoff}
        return Claims(await self.store.claim(list(handoffs.values()), claimed, now=now))


class ClaimsAsIfEarlier(UntouchedOutbox):
    """Claims what is over."""

    breaks = "OB-1"

    async def claim(self, claimed: Claimed, *, now: datetime, max_messages: int) -> Claims:
        return await super().claim(claimed, now=now.replace(second=0), max_messages=max_messages)


class FindsWhateverTheWorkerHas(UntouchedOutbox):
    """Looks at no instants."""

    breaks = "OB-2"

    async def claim(self, claimed: Claimed, *, now: datetime, max_messages: int) -> Claims:
        self.instants.add(now)
        return await super().claim(claimed, now=now, max_messages=max_messages)

    async def claimed(self, worker_id: str, instants: Collection[datetime]) -> list[Job]:
        return await super().claimed(worker_id, self.instants)


class LeavesPoison(UntouchedOutbox):
    """Drops malformed messages without a word."""

    breaks = "OB-3"

    async def claim(self, claimed: Claimed, *, now: datetime, max_messages: int) -> Claims:
        claims = await super().claim(claimed, now=now, max_messages=max_messages)
        return claims._replace(poison=())


class TellsOfNoMore(UntouchedOutbox):
    """Says that nothing is left, whatever is."""

    breaks = "OB-3"

    async def claim(self, claimed: Claimed, *, now: datetime, max_messages: int) -> Claims:
        claims = await super().claim(claimed, now=now, max_messages=max_messages)
        return claims._replace(more=False)


class SleepsThroughMessages(UntouchedOutbox):
    """Waits for as long as it was told to."""

    breaks = "OB-4"

    async def wait(self, seconds: float) -> None:
        await self.clock.sleep(seconds)


class GetsNothingOfTurns(UntouchedOutbox):
    """Leaves it to the scheduler to send what a turn has leased."""

    breaks = "OB-5"

    def put(self, body: HandOff | str) -> None:
        if isinstance(body, str):
            super().put(body)

    async def send(self, handoffs: Sequence[HandOff]) -> list[Sent]:
        for handoff in handoffs:
            super().put(handoff)
        return [Sent(handoff) for handoff in handoffs]
