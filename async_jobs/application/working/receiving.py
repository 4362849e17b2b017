"""Receiver: one lane of a worker, from which jobs are taken as there are places for them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from async_jobs.application.waiting import is_set
from async_jobs.application.working.intake import Intake
from async_jobs.application.working.room import Share
from async_jobs.domain.backoff import BackoffPolicy
from async_jobs.domain.errors import AsyncJobsError, ConfigurationError
from async_jobs.domain.job import Job
from async_jobs.ports.clock import Chance, Clock
from async_jobs.ports.queue import Delivery, JobQueue, Outbox

# How long places are kept for a lane that is about to answer, and messages for places that are
# about to become free. Short beside the life of a hand-off: others may be idle meanwhile.
MOMENT_SECONDS = 0.25
_RETRY = BackoffPolicy(base_delay_seconds=0.5, max_delay_seconds=15.0, jitter=0.5)


class Receiver:
    """Takes jobs from a lane. While it waits for the first one, it keeps no place from others.

    Args:
        queue: the lane.
        share: what the lane has of the worker's room.
        begin: starts jobs that were claimed.
        poll_seconds: how long to wait where there is nothing.
        on_error: told of passing failures.

    Attributes:
        heard_at: the monotonic time at which the lane answered last.
    """

    def __init__(
        self,
        queue: JobQueue,
        intake: Intake,
        share: Share,
        begin: Callable[[Sequence[Job]], Awaitable[None]],
        *,
        clock: Clock,
        chance: Chance,
        poll_seconds: float,
        on_error: Callable[[Exception], None],
    ) -> None:
        self._queue = queue
        # Asked once: to look whether all methods are there takes as long as a good part of a claim.
        self._lane = queue if isinstance(queue, Outbox) else None
        self._intake = intake
        self._share = share
        self._begin = begin
        self._clock = clock
        self._chance = chance
        self._poll_seconds = poll_seconds
        self._on_error = on_error
        self._gave_back = False
        self.heard_at = clock.monotonic()

    async def run(self, leaving: asyncio.Event) -> None:
        """Receive until `leaving` is set; what comes after that is given back unclaimed.

        Raises:
            ConfigurationError: waiting would not mend it.
        """
        failures = 0
        while not leaving.is_set():
            try:
                await self._receive_once(leaving)
                failures = 0
            except ConfigurationError:
                raise
            except AsyncJobsError as error:
                self._share.full = False
                self._on_error(error)
                failures += 1
                pause = _RETRY.delay(failures, self._chance.uniform())
                await is_set(leaving, self._clock, seconds=pause.total_seconds())

    async def _receive_once(self, leaving: asyncio.Event) -> None:
        places = await self._share.reserve(first=self._gave_back)
        self._gave_back = False
        try:
            if not places:
                return
            if self._lane is None:
                await self._receive(places, leaving)
                return
            claims = await self._intake.claim_off(self._lane, max_jobs=places)
            await self._begin(claims.jobs)
        finally:
            self._share.give_back()
        self._share.full = len(claims.jobs) == places
        self.heard_at = self._clock.monotonic()
        if claims.jobs:
            # What ends at once makes room before the next claim, which is a larger one then.
            await self._clock.sleep(0)
        elif not claims.more:
            await self._lane.wait(self._poll_seconds)

    # --- lanes elsewhere: what was asked for cannot be taken back ---

    async def _receive(self, places: int, leaving: asyncio.Event) -> None:
        """Ask for as many messages as there are places; if others took those, give back at once.

        A lane that had to give back something goes first when there are places again, and those
        are kept for its messages.
        """
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
            return await self._queue.receive(max_messages=places, wait_seconds=self._poll_seconds)
        finally:
            if letting_go is not None:
                letting_go.cancel()

    async def _let_go(self) -> None:
        """Keep the places for a moment only: the lane is not as full as it was."""
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
                async with self._intake.claimed(self._queue, batch) as jobs:
                    await self._begin(jobs)
                    self._share.give_back()
            except AsyncJobsError:
                await self._queue.release(left)
                raise
        return left
