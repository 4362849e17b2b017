"""JobQueue: one transport lane that carries hand-offs to workers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from async_jobs.domain.job import HandOff

RECEIVE_MAX = 1_000


class Sent(NamedTuple):
    """What became of one hand-off: `error` is None when the transport accepted it."""

    handoff: HandOff
    error: str | None = None


class Delivery(NamedTuple):
    """A received message.

    Attributes:
        receipt: the transport's own handle, for `ack` and `release`.
        handoff: None when the message is poison: no hand-off can be read from it.
        problem: why it is poison; empty otherwise. Never quotes the message.
    """

    receipt: str
    handoff: HandOff | None
    problem: str = ""


class Acked(NamedTuple):
    """What became of one `ack` or `release`: `error` is None when it was carried out."""

    delivery: Delivery
    error: str | None = None


class JobQueue(Protocol):
    """One lane. A message is a hint that a lease exists; losing one is mended by its expiry.

    Promises:
        JQ-1 A sent hand-off is received at least once while it is not acked; one that was
            received but neither acked nor released comes back after the visibility timeout.
        JQ-2 An acked hand-off is normally not received again. Receivers must bear one that
            arrives twice, late, out of order, or after its ack.
        JQ-3 `send` tells for each hand-off, in order, whether it was accepted.
        JQ-4 `receive` returns at most `max_messages`, waits at most `wait_seconds`, and never
            fails on a malformed body: such deliveries are marked poison.
        JQ-5 A released delivery is receivable again at once.
        JQ-6 Cancelling `receive` strands no message for longer than the visibility timeout.
        JQ-7 A failing ack or release is reported, never raised.
        JQ-8 `receive` returns as soon as it has any message, before `wait_seconds` are over.
        JQ-9 Lanes of different names share nothing.

    Not promised: order, exactly-once delivery, an exact `depth`.
    """

    @property
    def name(self) -> str:
        """The lane's name, as jobs carry it in `queue`."""
        ...

    async def send(self, handoffs: Sequence[HandOff]) -> list[Sent]:
        """Send hand-offs; one result each. Raises nothing for a part that failed."""
        ...

    async def receive(self, *, max_messages: int, wait_seconds: float) -> list[Delivery]:
        """Return up to `max_messages` (1-1,000), waiting for the first one if need be."""
        ...

    async def ack(self, deliveries: Sequence[Delivery]) -> list[Acked]:
        """Take messages off the lane for good."""
        ...

    async def release(self, deliveries: Sequence[Delivery]) -> list[Acked]:
        """Give messages back unstarted."""
        ...

    async def depth(self) -> int:
        """Return about how many messages wait, for screens and alarms."""
        ...
