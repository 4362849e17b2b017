"""QueueReceiver: hand-offs are received first, claimed in the store, and acknowledged then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from async_jobs.application import failpoints
from async_jobs.application.working.receiving import Intake, Receiver
from async_jobs.application.working.room import Share
from async_jobs.domain.errors import AsyncJobsError
from async_jobs.domain.job import Job
from async_jobs.ports.queue import Delivery, JobQueue

# How long places are kept for a queue that is about to answer, and messages for places that are
# about to become free. Short beside the life of a hand-off: others may be idle meanwhile.
MOMENT_SECONDS = 0.25


class QueueReceiver(Receiver):
    """Takes jobs off a queue elsewhere, where what was asked for cannot be taken back.

    It asks for as many messages as there are places; if others took those, it gives back at once.
    If it had to give back something, it goes first when there are places again, and those are
    kept for its messages.

    Args:
        queue: the queue.
        intake: see `Receiver`.
        share: see `Receiver`.
    """

    def __init__(self, queue: JobQueue, intake: Intake, share: Share) -> None:
        super().__init__(queue.name, intake, share)
        self._queue = queue
        self._gave_back = False

    @asynccontextmanager
    async def jobs(self, *, max_jobs: int) -> AsyncIterator[Sequence[Job]]:
        """See `Receiver`."""
        deliveries = await self._queue.receive(max_messages=max_jobs, wait_seconds=0)
        async with self._claimed(deliveries) as jobs:
            yield jobs

    @asynccontextmanager
    async def _claimed(self, deliveries: Sequence[Delivery]) -> AsyncIterator[Sequence[Job]]:
        """Claim what was received and yield it, to be started within the block; then acknowledge.

        Raises:
            AsyncJobsError: the store did not answer; what was received is given back.
        """
        jobs: Sequence[Job] = []
        if deliveries:
            await failpoints.reached(failpoints.WORKER_AFTER_RECEIVE_BEFORE_CLAIM)
            try:
                jobs = await self._intake.claimer.claim(self.name, deliveries)
            except AsyncJobsError:
                await self._queue.release(deliveries)
                raise
        yield jobs
        await self._clock.sleep(0)  # handlers begin before anything else is done
        # From here on the lease in the database is the only truth.
        await self._queue.ack(deliveries)

    async def _receive_once(self, leaving: asyncio.Event) -> None:
        places = await self._share.reserve(first=self._gave_back)
        self._gave_back = False
        try:
            if places:
                await self._receive(places, leaving)
        finally:
            self._share.give_back()

    async def _receive(self, places: int, leaving: asyncio.Event) -> None:
        deliveries = await self._deliveries(places)
        self.heard_at = self._clock.monotonic()
        left = await self._claim(deliveries, leaving)
        self._gave_back = bool(left)
        self._share.full = self._gave_back or len(deliveries) >= places
        if left:
            await self._queue.release(left)

    async def _deliveries(self, places: int) -> list[Delivery]:
        letting_go: asyncio.Task[None] | None = None
        if self._share.full and not self._share.alone:
            letting_go = asyncio.create_task(self._let_go())
        else:
            self._share.give_back()
        try:
            return await self._queue.receive(
                max_messages=places, wait_seconds=self._intake.poll_seconds
            )
        finally:
            if letting_go is not None:
                letting_go.cancel()

    async def _let_go(self) -> None:
        """Keep the places for a moment only: the queue is not as full as it was."""
        await self._clock.sleep(MOMENT_SECONDS)
        self._share.give_back()

    async def _claim(
        self, deliveries: Sequence[Delivery], leaving: asyncio.Event
    ) -> Sequence[Delivery]:
        """Claim what gets a place within a moment, first come, first served; returns the rest."""
        until = self._clock.monotonic() + MOMENT_SECONDS
        left = deliveries
        while left and not leaving.is_set():
            places = self._share.reserved or await self._share.reserve_within(
                until - self._clock.monotonic(), most=len(left)
            )
            if not places:
                break
            batch, left = left[:places], left[places:]
            try:
                async with self._claimed(batch) as jobs:
                    await self._intake.begin(jobs)
                    self._share.give_back()
            except AsyncJobsError:
                await self._queue.release(left)
                raise
        return left
