"""Intake: how a worker comes by its jobs, from a lane anywhere or from an outbox."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from async_jobs.application import failpoints
from async_jobs.application.working.claiming import Claimer
from async_jobs.domain.errors import AsyncJobsError
from async_jobs.domain.job import Job
from async_jobs.ports.clock import Clock
from async_jobs.ports.queue import Claims, Delivery, JobQueue, Outbox


class Intake:
    """Receives, claims and acknowledges; with an outbox that is one step."""

    def __init__(self, claimer: Claimer, clock: Clock) -> None:
        self._claimer = claimer
        self._clock = clock

    @asynccontextmanager
    async def jobs(self, queue: JobQueue, *, max_jobs: int) -> AsyncIterator[Sequence[Job]]:
        """Receive, without waiting, and yield what was claimed, to be started within the block.

        Raises:
            AsyncJobsError: the lane or the store did not answer; what was received is given back.
        """
        if isinstance(queue, Outbox):
            claims = await self.claim_off(queue, max_jobs=max_jobs)
            while claims.more and not claims.jobs:
                claims = await self.claim_off(queue, max_jobs=max_jobs)
            yield claims.jobs
            await self._clock.sleep(0)  # handlers begin before anything else is done
            return
        deliveries = await queue.receive(max_messages=max_jobs, wait_seconds=0)
        async with self.claimed(queue, deliveries) as jobs:
            yield jobs

    async def claim_off(self, lane: Outbox, *, max_jobs: int) -> Claims:
        """Claim what is next in an outbox, without waiting for it.

        Raises:
            Unavailable: the lane did not answer.
        """
        return await self._claimer.claim_off(lane, max_jobs)

    @asynccontextmanager
    async def claimed(
        self, queue: JobQueue, deliveries: Sequence[Delivery]
    ) -> AsyncIterator[Sequence[Job]]:
        """Claim what was received and yield it, to be started within the block; then acknowledge.

        Raises:
            AsyncJobsError: the store did not answer; what was received is given back.
        """
        jobs: Sequence[Job] = []
        if deliveries:
            await failpoints.reached(failpoints.WORKER_AFTER_RECEIVE_BEFORE_CLAIM)
            try:
                jobs = await self._claimer.claim(queue.name, deliveries)
            except AsyncJobsError:
                await queue.release(deliveries)
                raise
        yield jobs
        await self._clock.sleep(0)  # handlers begin before anything else is done
        # From here on the lease in the database is the only truth.
        await queue.ack(deliveries)
