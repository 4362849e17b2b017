"""Outboxes, first in, first out, as the Postgres adapter's are."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import TypeAlias

from async_jobs.domain.job import HandOff, Job
from async_jobs.domain.lifecycle import Claimed
from async_jobs.ports.queue import Acked, Claims, Delivery, Sent

ClaimJobs: TypeAlias = Callable[[Sequence[HandOff], Claimed, datetime], list[Job]]


class Lane:
    """Implements `Outbox` as far as the scheduler and simulated workers need it.

    Args:
        name: the queue.
        claim_jobs: consumes the leases of hand-offs at once (see `Leases.claim`).
    """

    def __init__(self, name: str, claim_jobs: ClaimJobs) -> None:
        self._name = name
        self._claim_jobs = claim_jobs
        self._waiting: deque[HandOff] = deque()

    @property
    def name(self) -> str:
        """See `JobQueue`."""
        return self._name

    def put(self, handoff: HandOff) -> None:
        """Hand off: the lease has been committed."""
        self._waiting.append(handoff)

    def take(self, claimed: Claimed, now: datetime) -> Job | None:
        """Claim the first hand-off whose lease still stands; None when there is none."""
        while self._waiting:
            for job in self._claim_jobs([self._waiting.popleft()], claimed, now):
                return job
        return None

    async def claim(self, claimed: Claimed, *, now: datetime, max_messages: int) -> Claims:
        """See `Outbox`."""
        count = min(max_messages, len(self._waiting))
        handoffs = [self._waiting.popleft() for _ in range(count)]
        return Claims(self._claim_jobs(handoffs, claimed, now), more=bool(self._waiting))

    async def send(self, handoffs: Sequence[HandOff]) -> list[Sent]:
        """See `JobQueue`."""
        self._waiting.extend(handoffs)
        return [Sent(handoff) for handoff in handoffs]

    async def depth(self) -> int:
        """See `JobQueue`."""
        return len(self._waiting)

    async def wait(self, seconds: float) -> None:
        """See `Outbox`. A shorter wait is allowed."""

    async def claimed(self, worker_id: str, instants: Collection[datetime]) -> list[Job]:
        """No reply is ever lost here."""
        return []

    async def receive(self, *, max_messages: int, wait_seconds: float) -> list[Delivery]:
        """Simulated workers claim, as real ones do on such lanes."""
        raise NotImplementedError

    async def ack(self, deliveries: Sequence[Delivery]) -> list[Acked]:
        """What is claimed needs no acknowledgement."""
        raise NotImplementedError

    async def release(self, deliveries: Sequence[Delivery]) -> list[Acked]:
        """What is claimed cannot be given back."""
        raise NotImplementedError
