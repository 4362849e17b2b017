"""Waiting with a bound, by the clock that everything else goes by."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from async_jobs.ports.clock import Clock


async def all_done(tasks: Iterable[asyncio.Future[Any]], clock: Clock, *, seconds: float) -> None:
    """Wait until all tasks are done, at most `seconds`. Cancels none, raises nothing of theirs."""
    pending = {task for task in tasks if not task.done()}
    sleeping: asyncio.Future[None] = asyncio.ensure_future(clock.sleep(seconds))
    try:
        while pending and not sleeping.done():
            await asyncio.wait({*pending, sleeping}, return_when=asyncio.FIRST_COMPLETED)
            pending = {task for task in pending if not task.done()}
    finally:
        sleeping.cancel()


async def is_set(event: asyncio.Event, clock: Clock, *, seconds: float) -> None:
    """Wait until the event is set, at most `seconds`."""
    waiting = asyncio.ensure_future(event.wait())
    try:
        await all_done([waiting], clock, seconds=seconds)
    finally:
        waiting.cancel()


async def holds(
    condition: Callable[[], bool], changed: asyncio.Event, clock: Clock, *, seconds: float
) -> None:
    """Wait until a condition holds, at most `seconds`; it may hold whenever `changed` is set."""
    until = clock.monotonic() + seconds
    while not condition() and (left := until - clock.monotonic()) > 0:
        changed.clear()
        await is_set(changed, clock, seconds=left)


async def end(tasks: Iterable[asyncio.Future[Any]], clock: Clock, *, seconds: float) -> None:
    """Cancel tasks and wait until they have ended, at most `seconds`: one may swallow it."""
    pending = [task for task in tasks if not task.done()]
    for task in pending:
        task.cancel()
    if pending:
        await all_done(pending, clock, seconds=seconds)


async def until_stopped(stop: asyncio.Event, tasks: Iterable[asyncio.Task[None]]) -> None:
    """Wait for `stop`, or for a task that fails and raise that: none may end by itself."""
    stopping = asyncio.ensure_future(stop.wait())
    try:
        done, _ = await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
    for task in done - {stopping}:
        task.result()
