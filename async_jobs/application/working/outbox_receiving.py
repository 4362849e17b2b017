"""OutboxReceiver: receiving, claiming and acknowledging are one step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from async_jobs.application.working.receiving import Intake, Receiver
from async_jobs.application.working.room import Share
from async_jobs.domain.job import Job
from async_jobs.ports.queue import Outbox


class OutboxReceiver(Receiver):
    """Takes jobs off an outbox, as many as it has places for when it claims.

    Args:
        outbox: the queue.
        intake: see `Receiver`.
        share: see `Receiver`.
    """

    def __init__(self, outbox: Outbox, intake: Intake, share: Share) -> None:
        super().__init__(outbox.name, intake, share)
        self._outbox = outbox
        self._claim_off = intake.claimer.claim_off

    @asynccontextmanager
    async def jobs(self, *, max_jobs: int) -> AsyncIterator[Sequence[Job]]:
        """See `Receiver`."""
        claims = await self._claim_off(self._outbox, max_jobs)
        while claims.more and not claims.jobs:
            claims = await self._claim_off(self._outbox, max_jobs)
        yield claims.jobs
        await self._clock.sleep(0)  # handlers begin before anything else is done

    async def _receive_once(self, leaving: asyncio.Event) -> None:
        places = await self._share.reserve()
        try:
            if not places:
                return
            claims = await self._claim_off(self._outbox, places)
            await self._intake.begin(claims.jobs)
        finally:
            self._share.give_back()
        self._share.full = len(claims.jobs) == places
        self.heard_at = self._clock.monotonic()
        if claims.jobs:
            # What ends at once makes room before the next claim, which is a larger one then.
            await self._clock.sleep(0)
        elif not claims.more:
            await self._outbox.wait(self._intake.poll_seconds)
