"""JobQueue: one transport lane that carries hand-offs to workers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from async_jobs.domain.job import HandOff, Job
from async_jobs.domain.lifecycle import Claimed

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


class Claims(NamedTuple):
    """The answer to `Outbox.claim`.

    Attributes:
        jobs: those that were claimed, in the order of their messages.
        poison: why each message that names no job was dropped; never quotes it.
        more: there may be more messages than this call has looked at.
    """

    jobs: Sequence[Job]
    poison: Sequence[str] = ()
    more: bool = False


class Outbox(JobQueue, Protocol):
    """A queue in the database of the jobs: both change in one commit (a transactional outbox).

    A hand-off comes with its lease and goes with its claim, so that there is neither a lease
    without its message nor a message to acknowledge. Everything that `JobQueue` promises holds
    as well, whoever else uses it so at the same time.

    Promises:
        OB-1 `claim` takes at most `max_messages` visible messages off the lane and gives, in
            their order, the jobs that `Leases.claim` gives for their hand-offs (LS-7); of
            several for one job it follows the one whose lease is the present one. Both in one
            commit: a call that fails or is cancelled has done both or neither. Of many calls
            that run at once each message is one's.
        OB-2 What a claim has taken whose reply was lost is found by `claimed`.
        OB-3 `claim` does not wait for messages and is not kept from others by malformed ones,
            which it takes off the lane too, at the latest when nothing else is there. If it
            leaves any that is visible and that nobody else is taking, `more` says so.
        OB-4 `wait` returns as soon as a message may have come, and at the latest after its
            time; a shorter one is allowed.
        OB-5 What a turn leases onto the lane (`DispatchTurn.lease`) is there when the turn has
            ended without an error, in the order of the grants, and else never.
    """

    async def claim(self, claimed: Claimed, *, now: datetime, max_messages: int) -> Claims:
        """Receive, claim and acknowledge.

        Args:
            claimed: by whom, and until when.
            now: the instant of the claim; one of which the worker has claimed nothing yet.
            max_messages: 1-1,000.

        Raises:
            Unavailable: nobody answered; it may have taken effect all the same.
        """
        ...

    async def claimed(self, worker_id: str, instants: Collection[datetime]) -> list[Job]:
        """Return the jobs of the lane that a worker claimed at these instants and still has."""
        ...

    async def wait(self, seconds: float) -> None:
        """Wait until there may be something to claim."""
        ...
