"""Tallying: what a process has counted goes to the database, in one statement every ten seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from async_jobs.domain.errors import AsyncJobsError, StoreRefused
from async_jobs.domain.tallies import Batch
from async_jobs.ports.clock import Clock
from async_jobs.ports.tallies import Tallies

FLUSH_SECONDS: Final = 10.0
LAST_SECONDS: Final = 2.0
"""How long the end of a process waits for the last batch."""


class Counted(Protocol):
    """What counts."""

    def take(self) -> Batch | None:
        """Return what was counted since the last call, as a batch of its own; None if nothing."""
        ...


class Tallying:
    """Adds what a process has counted. Nothing counted, no statement.

    A batch that nobody answered is repeated as it is, so that it counts once. What was counted
    since the last one is lost with a process that is killed: ten seconds of it at most, as a rule.

    Args:
        counted: where it is taken from.
        tallies: where it goes.
        clock: the store's time.
        on_error: told of batches that were not added.
    """

    def __init__(
        self,
        counted: Counted,
        tallies: Tallies,
        *,
        clock: Clock,
        on_error: Callable[[Exception], None],
    ) -> None:
        self._counted = counted
        self._tallies = tallies
        self._clock = clock
        self._on_error = on_error
        self._left: Batch | None = None
        """What was taken and may not have been added."""

    async def flush(self) -> None:
        """Add what was counted.

        Raises:
            AsyncJobsError: it was not added, and is tried again with the next call.
        """
        while (batch := self._left or self._counted.take()) is not None:
            self._left = batch
            try:
                await self._tallies.add(batch, at=self._clock.now())
            except StoreRefused:
                self._left = None  # it would be refused again, and keep all others from being added
                raise
            self._left = None

    async def run(self) -> None:
        """Flush every ten seconds until cancelled; then comes `end`."""
        while True:
            await self._clock.sleep(FLUSH_SECONDS)
            await self._flush()

    async def end(self) -> None:
        """Flush once more, which has two seconds."""
        try:
            async with asyncio.timeout(LAST_SECONDS):
                await self._flush()
        except TimeoutError as error:
            self._on_error(error)

    async def _flush(self) -> None:
        try:
            await self.flush()
        except AsyncJobsError as error:
            self._on_error(error)
