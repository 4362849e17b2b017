"""Telling others that a worker is alive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from async_jobs.application.waiting import all_done, end
from async_jobs.domain.errors import AsyncJobsError
from async_jobs.domain.readings import SlotsTaken
from async_jobs.ports.clock import Clock
from async_jobs.ports.telemetry import Telemetry
from async_jobs.ports.workers import WorkerInfo, Workers

WITHDRAW_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who a worker is: a fresh id for every start, and what it tells of itself."""

    worker_id: str
    host: str = "unknown"
    version: str = "unknown"
    transport: str = ""

    def as_of(self, now: datetime, *, alive_seconds: float, **load: Any) -> WorkerInfo:
        """Return what the worker announces: who it is, and its `load` of queues and slots."""
        return WorkerInfo(
            worker_id=self.worker_id,
            host=self.host,
            version=self.version,
            transport=self.transport,
            seen_at=now,
            alive_until=now + timedelta(seconds=alive_seconds),
            **load,
        )


async def keep_announcing(
    workers: Workers,
    clock: Clock,
    describe: Callable[[datetime], WorkerInfo],
    *,
    telemetry: Telemetry,
    every_seconds: float,
    on_error: Callable[[Exception], None],
) -> None:
    """Announce a worker at intervals, until cancelled.

    Args:
        workers: the register.
        clock: the register's time.
        describe: tells of the worker as it is at an instant.
        telemetry: is told of the slots that are taken.
        every_seconds: the interval.
        on_error: told when the register did not answer; the next announcement makes it good.
    """
    while True:
        try:
            await clock.sync()
            worker = describe(clock.now())
            _tell(telemetry, worker)
            await workers.announce(worker)
        except AsyncJobsError as error:
            on_error(error)
        await clock.sleep(every_seconds)


def _tell(telemetry: Telemetry, worker: WorkerInfo) -> None:
    if telemetry.wants(SlotsTaken):
        at, queues, slots, taken = worker.seen_at, worker.queues, worker.slots, worker.busy
        telemetry.record(SlotsTaken(at=at, queues=queues, slots=slots, taken=taken))


async def withdraw(workers: Workers, worker_id: str, clock: Clock) -> None:
    """Take a worker off the register; gives up after a second, for its entry ends by itself."""

    async def withdrawn() -> None:
        with suppress(AsyncJobsError):
            await workers.withdraw(worker_id)

    task = asyncio.ensure_future(withdrawn())
    await all_done([task], clock, seconds=WITHDRAW_SECONDS)
    await end([task], clock, seconds=WITHDRAW_SECONDS)
