"""Letting other tasks run, and waiting on an event or the clock, whichever comes first."""

from __future__ import annotations

import asyncio
from collections.abc import Generator

from async_jobs.ports.clock import Clock


class _RoundTrip:
    def __await__(self) -> Generator[None, None, None]:
        yield


async def round_trip() -> None:
    """Let every other task run once, as a round trip to a real component would."""
    await _RoundTrip()


async def woken(event: asyncio.Event, clock: Clock, seconds: float) -> bool:
    """Wait for `event`, at most `seconds` by the clock; returns whether it was set."""
    if event.is_set() or seconds <= 0:
        await round_trip()
        return event.is_set()
    waiting = asyncio.ensure_future(event.wait())
    sleeping = asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait((waiting, sleeping), return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        sleeping.cancel()
        await asyncio.gather(waiting, sleeping, return_exceptions=True)
    return event.is_set()
