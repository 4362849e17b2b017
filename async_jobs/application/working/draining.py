"""Draining: what a worker that shuts down does with what it has."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from async_jobs.application.settings import WorkerSettings
from async_jobs.application.waiting import all_done, holds
from async_jobs.application.working.attempt import StopReason
from async_jobs.application.working.slots import Slots
from async_jobs.application.working.watchdog import Conclude, Watchdog
from async_jobs.domain import lifecycle
from async_jobs.ports.clock import Clock

RECEIVE_GRACE_SECONDS = 5.0
"""So long beyond a poll an open receive may take to bring what it has."""


async def drain(
    receivers: Sequence[asyncio.Task[None]],
    slots: Slots,
    watchdog: Watchdog,
    room_changed: asyncio.Event,
    *,
    conclude: Conclude,
    clock: Clock,
    settings: WorkerSettings,
) -> None:
    """Let handlers finish within `drain_timeout_seconds`; give back what waits, stop the rest.

    Args:
        receivers: they end by themselves, when their receive does.
        slots: what runs, and what waits for a slot.
        watchdog: gives up on handlers that do not stop.
        room_changed: set when a slot has become free.
        conclude: settles attempts.
        clock: the host's.
        settings: how long each part may take.
    """
    until = clock.monotonic() + settings.drain_timeout_seconds
    # Cancelling an open receive could hide what it was about to bring for a while.
    bound = settings.poll_interval_seconds + RECEIVE_GRACE_SECONDS
    bound = min(bound, settings.drain_timeout_seconds)
    await all_done(receivers, clock, seconds=bound)
    for attempt in slots.take_waiting():
        conclude(attempt, lifecycle.Released())
    idle = partial(holds, lambda: not slots.running, room_changed, clock)
    await idle(seconds=until - clock.monotonic())
    for attempt in slots.running:
        attempt.stop(StopReason.SHUTDOWN, at=clock.monotonic())
    await idle(seconds=settings.cancel_grace_seconds)
    for attempt in slots.running:
        watchdog.abandon(attempt)
