"""Intake: how a worker comes by its jobs, from a lane anywhere or from one beside the jobs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from async_jobs.application import failpoints
from async_jobs.application.claiming import Claimer
from async_jobs.domain.errors import AsyncJobsError
from async_jobs.domain.job import Job
from async_jobs.ports.clock import Clock
from async_jobs.ports.queue import AdjacentQueue, JobQueue


class Intake:
    """Receives, claims and acknowledges; on a lane beside the jobs that is one step."""

    def __init__(self, claimer: Claimer, clock: Clock) -> None:
        self._claimer = claimer
        self._clock = clock

    @asynccontextmanager
    async def jobs(
        self,
        queue: JobQueue,
        *,
        max_jobs: int,
        wait_seconds: float = 0.0,
        leaving: asyncio.Event | None = None,
    ) -> AsyncIterator[Sequence[Job]]:
        """Yield what was claimed, to be started within the block; waits for the first one.

        Args:
            queue: the lane.
            max_jobs: 1-1,000.
            wait_seconds: how long to wait where there is nothing.
            leaving: once it is set, what a lane elsewhere brought is given back unclaimed.

        Raises:
            AsyncJobsError: the lane or the store did not answer; what was received is given back.
        """
        if isinstance(queue, AdjacentQueue):
            yield await self._claimed(queue, max_jobs, wait_seconds, leaving or asyncio.Event())
            # What ends at once makes room before the next claim, which is a larger one then.
            await self._clock.sleep(0)
            return
        deliveries = await queue.receive(max_messages=max_jobs, wait_seconds=wait_seconds)
        if leaving is not None and leaving.is_set():
            await queue.release(deliveries)
            yield []
            return
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

    async def _claimed(
        self, lane: AdjacentQueue, max_jobs: int, wait_seconds: float, leaving: asyncio.Event
    ) -> Sequence[Job]:
        until = self._clock.monotonic() + wait_seconds
        while not leaving.is_set():
            claims = await self._claimer.claim_off(lane, max_jobs)
            if claims.jobs:
                return claims.jobs
            if claims.more:
                continue
            left = until - self._clock.monotonic()
            if left <= 0:
                break
            await lane.wait(left)
        return []
