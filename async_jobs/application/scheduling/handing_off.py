"""Handing off: sending over transports that may accept some, none, or never answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

from async_jobs.application import failpoints
from async_jobs.application.changes import Changes
from async_jobs.domain.backoff import BackoffPolicy
from async_jobs.domain.job import HandOff, Phase
from async_jobs.domain.lifecycle import HandOffFailed
from async_jobs.ports.clock import Chance, Clock
from async_jobs.ports.queue import JobQueue, Sent
from async_jobs.ports.store import JobStore

_BACKOFF = BackoffPolicy(base_delay_seconds=1.0, max_delay_seconds=30.0, jitter=0.5)


class Sender:
    """Sends to all queues at once, and leaves a queue alone for a while that accepts nothing.

    A crash before the send, or between it and the taking back, leaves leases that nobody claims:
    they end by themselves.

    Args:
        queue_of: the lanes.
        store: where what was not accepted is taken back.
        changes: how.
        clock, chance: for how long a queue is left alone.
    """

    def __init__(
        self,
        queue_of: Callable[[str], JobQueue],
        store: JobStore,
        changes: Changes,
        *,
        clock: Clock,
        chance: Chance,
    ) -> None:
        self._queue_of = queue_of
        self._store = store
        self._changes = changes
        self._clock = clock
        self._chance = chance
        self._failures: dict[str, tuple[int, float]] = {}

    def closed(self) -> frozenset[str]:
        """Return the queues that are left alone because they accepted nothing lately."""
        now = self._clock.monotonic()
        return frozenset(queue for queue, (_, until) in self._failures.items() if now < until)

    async def send(self, by_queue: Mapping[str, Sequence[HandOff]]) -> int:
        """Send, and take back what a transport did not accept; returns how many that were."""
        answers = await asyncio.gather(
            *(self._send_to(queue, handoffs) for queue, handoffs in by_queue.items())
        )
        failed = [sent for sents in answers for sent in sents if sent.error is not None]
        if by_queue:
            await failpoints.reached(failpoints.SCHEDULER_AFTER_SEND_BEFORE_MARK)
        if failed:
            await self._take_back(failed)
        return len(failed)

    async def _take_back(self, failed: Iterable[Sent]) -> None:
        errors = {sent.handoff.job_id: sent for sent in failed}
        jobs = await self._store.get(list(errors))
        events = [
            (job, HandOffFailed(errors[job.id].error or ""))
            for job in jobs
            if job.phase is Phase.HANDED_OFF and job.lease_seq == errors[job.id].handoff.lease_seq
        ]
        await self._changes.apply(events, self._clock.now())

    async def _send_to(self, name: str, handoffs: Sequence[HandOff]) -> Sequence[Sent]:
        try:
            answers = await self._queue_of(name).send(handoffs)
        except Exception as error:  # whatever a transport raises, the jobs must come back
            answers = [Sent(handoff, f"{type(error).__name__}: {error}") for handoff in handoffs]
        answered = {sent.handoff: sent for sent in answers}
        # Reconciled against what was submitted: a transport may forget to answer for some.
        sents = [answered.get(h) or Sent(h, "the transport gave no answer") for h in handoffs]
        self._note(name, failed=all(sent.error is not None for sent in sents))
        return sents

    def _note(self, queue: str, *, failed: bool) -> None:
        """Leave a queue alone when it accepts nothing, longer each time."""
        if not failed:
            self._failures.pop(queue, None)
            return
        failures = self._failures.get(queue, (0, 0.0))[0] + 1
        pause = _BACKOFF.delay(failures, self._chance.uniform()).total_seconds()
        self._failures[queue] = (failures, self._clock.monotonic() + pause)
