"""Queues that break one promise each: a thin layer of malice over the memory queue."""

from __future__ import annotations

from collections.abc import Sequence

from async_jobs.adapters.memory.queue import MemoryJobQueue
from async_jobs.domain.job import HandOff
from async_jobs.ports.queue import RECEIVE_MAX, Acked, Delivery, Sent
from async_jobs.testing.clocks import ManualClock, let_others_run


class UntouchedLane:
    """Hands every call on: what the saboteurs are before they break something."""

    breaks = ""

    def __init__(self, name: str, clock: ManualClock) -> None:
        self.inner = MemoryJobQueue(name, clock=clock)
        self.clock = clock

    @property
    def name(self) -> str:
        return self.inner.name

    def put(self, body: str) -> None:
        self.inner.put(body)

    async def send(self, handoffs: Sequence[HandOff]) -> list[Sent]:
        return await self.inner.send(handoffs)

    async def receive(self, *, max_messages: int, wait_seconds: float) -> list[Delivery]:
        return await self.inner.receive(max_messages=max_messages, wait_seconds=wait_seconds)

    async def ack(self, deliveries: Sequence[Delivery]) -> list[Acked]:
        return await self.inner.ack(deliveries)

    async def release(self, deliveries: Sequence[Delivery]) -> list[Acked]:
        return await self.inner.release(deliveries)

    async def depth(self) -> int:
        return await self.inner.depth()


class AcksOnReceipt(UntouchedLane):
    """Takes a message off the queue when it is received."""

    breaks = "JQ-1"

    async def receive(self, *, max_messages: int, wait_seconds: float) -> list[Delivery]:
        got = await super().receive(max_messages=max_messages, wait_seconds=wait_seconds)
        await self.inner.ack(got)
        return got


class ForgetsAcks(UntouchedLane):
    """Says that it acked."""

    breaks = "JQ-2"

    async def ack(self, deliveries: Sequence[Delivery]) -> list[Acked]:
        return [Acked(delivery) for delivery in deliveries]


class TellsInDisorder(UntouchedLane):
    """Answers a send as the transport did, last one first."""

    breaks = "JQ-3"

    async def send(self, handoffs: Sequence[HandOff]) -> list[Sent]:
        return (await super().send(handoffs))[::-1]


class GivesTooMany(UntouchedLane):
    """Returns all there is."""

    breaks = "JQ-4"

    async def receive(self, *, max_messages: int, wait_seconds: float) -> list[Delivery]:
        return await super().receive(max_messages=RECEIVE_MAX, wait_seconds=wait_seconds)


class ChokesOnPoison(UntouchedLane):
    """Fails on a body that it cannot read."""

    breaks = "JQ-4"

    async def receive(self, *, max_messages: int, wait_seconds: float) -> list[Delivery]:
        got = await super().receive(max_messages=max_messages, wait_seconds=wait_seconds)
        if any(delivery.handoff is None for delivery in got):
            raise ValueError("no hand-off")
        return got


class ForgetsReleases(UntouchedLane):
    """Lets a released message wait for its visibility timeout."""

    breaks = "JQ-5"

    async def release(self, deliveries: Sequence[Delivery]) -> list[Acked]:
        return [Acked(delivery) for delivery in deliveries]


class StrandsWhatItHolds(UntouchedLane):
    """Takes messages off the queue before it has given them to anybody."""

    breaks = "JQ-6"

    async def receive(self, *, max_messages: int, wait_seconds: float) -> list[Delivery]:
        got = await super().receive(max_messages=max_messages, wait_seconds=wait_seconds)
        await self.inner.ack(got)
        await let_others_run(20)
        await self.inner.send([delivery.handoff for delivery in got if delivery.handoff])
        return got


class RaisesOnAck(UntouchedLane):
    """Fails as a whole when one receipt is wrong."""

    breaks = "JQ-7"

    async def ack(self, deliveries: Sequence[Delivery]) -> list[Acked]:
        acked = await super().ack(deliveries)
        if any(each.error for each in acked):
            raise ValueError("a receipt is wrong")
        return acked


class SitsOutItsWait(UntouchedLane):
    """Looks when the wait is over, and not before."""

    breaks = "JQ-8"

    async def receive(self, *, max_messages: int, wait_seconds: float) -> list[Delivery]:
        await self.clock.sleep(wait_seconds)
        return await super().receive(max_messages=max_messages, wait_seconds=0)


class SharesItsLane(UntouchedLane):
    """Is one queue under all names."""

    breaks = "JQ-9"

    lanes: dict[ManualClock, MemoryJobQueue] = {}  # noqa: RUF012 - shared is what it should be

    def __init__(self, name: str, clock: ManualClock) -> None:
        super().__init__(name, clock)
        self.inner = self.lanes.setdefault(clock, MemoryJobQueue(name, clock=clock))
        self.given_name = name

    @property
    def name(self) -> str:
        return self.given_name
