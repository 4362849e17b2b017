"""Lanes elsewhere and outboxes, which do to messages all that can happen to them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from async_jobs.adapters.memory.outbox import MemoryOutbox
from async_jobs.adapters.memory.queue import MemoryJobQueue
from async_jobs.adapters.memory.store import MemoryJobStore
from async_jobs.domain.errors import Unavailable
from async_jobs.domain.job import HandOff
from async_jobs.ports.clock import Clock
from async_jobs.ports.queue import Acked, Delivery, Sent
from tests.simulation.dice import Dice
from tests.simulation.wire import Weather

DELAY_SECONDS_MAX = 900.0
"""What SQS allows for."""


class _Mishaps:
    """What the messages of a lane meet on their way."""

    def __init__(self, *, scale: float, weather: Weather, dice: Dice) -> None:
        self._scale = scale
        self._weather = weather
        self._dice = dice

    def copies(self) -> int:
        """Return how often a message is delivered."""
        if not self._dice.happens(self._weather.faults.duplicates):
            return 1
        self._weather.noted("duplicates")
        return self._dice.whole(2, 3)

    def ghost(self, handoff: HandOff, put: Callable[[HandOff], None]) -> None:
        """Let a message that is off the lane come back, perhaps."""
        if self._dice.happens(self._weather.faults.ghosts):
            self._weather.noted("ghosts")
            self.later(handoff, put)

    def later(self, handoff: HandOff, put: Callable[[HandOff], None]) -> None:
        """Let a message arrive when others have overtaken it."""
        longest = self._dice.pick(
            [DELAY_SECONDS_MAX / 30, DELAY_SECONDS_MAX / 7, DELAY_SECONDS_MAX]
        )
        seconds = self._dice.between(0, longest * self._scale)
        asyncio.get_running_loop().call_later(seconds, self._arrive, handoff, put)

    def _arrive(self, handoff: HandOff, put: Callable[[HandOff], None]) -> None:
        if not self._weather.over:
            put(handoff)


class FaultyLane:
    """Implements `JobQueue`, in the process of the transport."""

    def __init__(
        self, name: str, *, clock: Clock, scale: float, weather: Weather, dice: Dice
    ) -> None:
        self._name = name
        self._clock = clock
        self._scale = scale
        self._weather = weather
        self._dice = dice
        self._mishaps = _Mishaps(scale=scale, weather=weather, dice=dice)
        self._inner = self._empty()

    def _empty(self) -> MemoryJobQueue:
        return MemoryJobQueue(
            self._name, clock=self._clock, visibility_timeout_seconds=60 * self._scale
        )

    @property
    def name(self) -> str:
        return self._name

    async def purge(self) -> int:
        """Lose every message; returns how many could have been received."""
        lost = await self._inner.depth()
        self._inner = self._empty()
        return lost

    def put(self, body: HandOff | str) -> None:
        """Put a message on the lane by hand."""
        self._inner.put(body)

    async def send(self, handoffs: Sequence[HandOff]) -> list[Sent]:
        faults, dice = self._weather.faults, self._dice
        if dice.happens(faults.refused_sends):
            self._weather.noted("refused_sends")
            if dice.happens(0.5):
                raise Unavailable("throttled")
            return [Sent(handoff, "throttled") for handoff in handoffs]
        answers = []
        for handoff in handoffs:
            if dice.happens(faults.refused_sends):
                self._weather.noted("refused_sends")
                if dice.happens(0.3):
                    continue  # neither accepted nor refused
                answers.append(Sent(handoff, "refused"))
                if dice.happens(0.5):
                    continue  # else it is delivered all the same
            else:
                answers.append(Sent(handoff))
            self._carry(handoff)
        return answers

    def _carry(self, handoff: HandOff) -> None:
        faults, dice = self._weather.faults, self._dice
        if dice.happens(faults.drops):
            self._weather.noted("drops")
            return
        for _ in range(self._mishaps.copies()):
            if dice.happens(faults.delays):
                self._weather.noted("delays")
                self._mishaps.later(handoff, self.put)
            else:
                self.put(handoff)

    async def receive(self, *, max_messages: int, wait_seconds: float) -> list[Delivery]:
        return await self._inner.receive(max_messages=max_messages, wait_seconds=wait_seconds)

    async def ack(self, deliveries: Sequence[Delivery]) -> list[Acked]:
        faults, dice = self._weather.faults, self._dice
        carried, lost = [], []
        for delivery in deliveries:
            if dice.happens(faults.lost_acks):
                self._weather.noted("lost_acks")
                lost.append(Acked(delivery, "not carried out"))
                continue
            carried.append(delivery)
            if delivery.handoff is not None:
                self._mishaps.ghost(delivery.handoff, self.put)
        return [*await self._inner.ack(carried), *lost]

    async def release(self, deliveries: Sequence[Delivery]) -> list[Acked]:
        return await self._inner.release(deliveries)

    async def depth(self) -> int:
        return await self._inner.depth()


class FaultyOutbox(MemoryOutbox):
    """Implements `Outbox`, in the process of the database.

    A hand-off is neither late nor refused here, and lost only with all the others; but whoever
    sends by the other way can send it again.
    """

    def __init__(
        self,
        store: MemoryJobStore,
        name: str,
        *,
        clock: Clock,
        scale: float,
        weather: Weather,
        dice: Dice,
    ) -> None:
        super().__init__(store, name, clock=clock, visibility_timeout_seconds=60 * scale)
        self._mishaps = _Mishaps(scale=scale, weather=weather, dice=dice)

    async def purge(self) -> int:
        """Lose every message, as a crash of the server does; returns how many there were."""
        lost = len(self._messages)
        self._messages.clear()
        return lost

    def put(self, body: HandOff | str) -> None:
        """Put a message on the lane, as leases do and foreigners may."""
        super().put(body)
        if isinstance(body, HandOff):
            for _ in range(1, self._mishaps.copies()):
                super().put(body)
            self._mishaps.ghost(body, super().put)
