"""Receiving: how a worker comes by its jobs, queue by queue, as there are places for them."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from async_jobs.application.waiting import is_set
from async_jobs.application.working.claiming import Claimer
from async_jobs.application.working.room import Share
from async_jobs.domain.backoff import BackoffPolicy
from async_jobs.domain.errors import AsyncJobsError, ConfigurationError
from async_jobs.domain.job import Job
from async_jobs.ports.clock import Chance, Clock

_RETRY = BackoffPolicy(base_delay_seconds=0.5, max_delay_seconds=15.0, jitter=0.5)


@dataclass(frozen=True, slots=True)
class Intake:
    """What the receivers of a worker share.

    Attributes:
        claimer: consumes the leases of what came.
        begin: starts jobs that were claimed.
        clock, chance: for how long to wait after a failure.
        poll_seconds: how long to wait where there is nothing.
        on_error: told of passing failures.
    """

    claimer: Claimer
    begin: Callable[[Sequence[Job]], Awaitable[None]]
    clock: Clock
    chance: Chance
    poll_seconds: float
    on_error: Callable[[Exception], None]


class Receiver(ABC):
    """Takes jobs off one queue. While it waits for the first one, it keeps no place from others.

    How it does that depends on where the hand-offs are: `OutboxReceiver`, `QueueReceiver`.

    Args:
        name: the queue's.
        share: what the queue has of the worker's room.

    Attributes:
        heard_at: the monotonic time at which the queue answered last.
    """

    def __init__(self, name: str, intake: Intake, share: Share) -> None:
        self.name = name
        self._intake = intake
        self._share = share
        self._clock = intake.clock
        self.heard_at = intake.clock.monotonic()

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
                self._intake.on_error(error)
                failures += 1
                pause = _RETRY.delay(failures, self._intake.chance.uniform())
                await is_set(leaving, self._clock, seconds=pause.total_seconds())

    @abstractmethod
    def jobs(self, *, max_jobs: int) -> AbstractAsyncContextManager[Sequence[Job]]:
        """Take what is there, without waiting; gives what was claimed, to be started in the block.

        Raises:
            AsyncJobsError: the queue or the store did not answer; what was received is given back.
        """

    @abstractmethod
    async def _receive_once(self, leaving: asyncio.Event) -> None:
        """Reserve places, fill them with what comes, and begin it."""
