"""A transport lane in memory, with the manners of a real one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from async_jobs.adapters.memory.waiting import round_trip, woken
from async_jobs.domain.job import HandOff
from async_jobs.ports.clock import Clock
from async_jobs.ports.queue import Acked, Delivery, Sent

POISON = "not a hand-off"


@dataclass(slots=True)
class _Message:
    body: HandOff | str
    visible_at: datetime
    receipt: str | None = None


class MemoryJobQueue:
    """Implements `JobQueue`.

    Args:
        name: the lane.
        clock: what visibility timeouts and waits are measured by.
        visibility_timeout_seconds: how long a received message stays hidden.
        copies: how often each hand-off is delivered; a transport may duplicate.
        newest_first: deliver in reverse; a transport may reorder.
    """

    def __init__(
        self,
        name: str,
        *,
        clock: Clock,
        visibility_timeout_seconds: float = 60.0,
        copies: int = 1,
        newest_first: bool = False,
    ) -> None:
        self._name = name
        self._clock = clock
        self._hidden_for = timedelta(seconds=visibility_timeout_seconds)
        self._copies = copies
        self._newest_first = newest_first
        self._messages: list[_Message] = []
        self._arrived = asyncio.Event()
        self._receipts = 0

    @property
    def name(self) -> str:
        """See `JobQueue`."""
        return self._name

    async def send(self, handoffs: Sequence[HandOff]) -> list[Sent]:
        """See `JobQueue`."""
        await round_trip()
        for handoff in handoffs:
            self.put(handoff)
        return [Sent(handoff) for handoff in handoffs]

    def put(self, body: HandOff | str) -> None:
        """Put a message on the lane by hand; any text is poison."""
        now = self._clock.now()
        self._messages.extend(_Message(body, now) for _ in range(self._copies))
        self._arrived.set()

    async def receive(self, *, max_messages: int, wait_seconds: float) -> list[Delivery]:
        """See `JobQueue`."""
        until = self._clock.monotonic() + wait_seconds
        await round_trip()
        while True:
            self._arrived.clear()
            if received := self._take(max_messages):
                return received
            left = until - self._clock.monotonic()
            if left <= 0:
                return []
            await woken(self._arrived, self._clock, min(left, self._next_visible_seconds()))

    def _take(self, max_messages: int) -> list[Delivery]:
        now = self._clock.now()
        return [self._deliver(message, now) for message in self._visible(now)[:max_messages]]

    def _visible(self, now: datetime) -> list[_Message]:
        visible = [message for message in self._messages if message.visible_at <= now]
        return visible[::-1] if self._newest_first else visible

    def _deliver(self, message: _Message, now: datetime) -> Delivery:
        self._receipts += 1
        message.receipt = f"{self._name}#{self._receipts}"
        message.visible_at = now + self._hidden_for
        if isinstance(message.body, HandOff):
            return Delivery(message.receipt, message.body)
        return Delivery(message.receipt, None, POISON)

    def _next_visible_seconds(self) -> float:
        now = self._clock.now()
        hidden = (message.visible_at for message in self._messages)
        return (min(hidden, default=now + self._hidden_for) - now).total_seconds()

    async def ack(self, deliveries: Sequence[Delivery]) -> list[Acked]:
        """See `JobQueue`."""
        await round_trip()
        return [self._settle(delivery, gone=True) for delivery in deliveries]

    async def release(self, deliveries: Sequence[Delivery]) -> list[Acked]:
        """See `JobQueue`."""
        await round_trip()
        return [self._settle(delivery, gone=False) for delivery in deliveries]

    def _settle(self, delivery: Delivery, *, gone: bool) -> Acked:
        message = next((m for m in self._messages if m.receipt == delivery.receipt), None)
        if message is None:
            return Acked(delivery, "the receipt is no longer valid")
        if gone:
            self._messages.remove(message)
        else:
            message.visible_at = self._clock.now()
            message.receipt = None
            self._arrived.set()
        return Acked(delivery)

    async def depth(self) -> int:
        """See `JobQueue`."""
        now = self._clock.now()
        return sum(message.visible_at <= now for message in self._messages)
