"""Attempts as tests run them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from async_jobs.application.handling.registry import JobRegistry
from async_jobs.application.working.attempt import Attempt
from async_jobs.domain.job import Job
from async_jobs.domain.lifecycle import (
    Claimed,
    JobEvent,
    Leased,
    advance,
)
from async_jobs.testing.builders import a_job, later
from async_jobs.testing.clocks import NOW, ManualChance, ManualClock


def claimed(**overrides: Any) -> Job:
    """Return a job that a worker has just claimed."""
    job = advance(a_job(**overrides), Leased(later(60)), now=NOW)
    return advance(job, Claimed("worker-1", later(60)), now=NOW)


def attempt_of(function: Callable[..., Any], job: Job | None = None) -> Attempt:
    """Return an attempt of a job by a handler."""
    job = job or claimed()
    registry = JobRegistry()
    registry.register(job.type, function)
    return Attempt(job, registry.get(job.type), timeout_seconds=900)


class Attempts:
    """Runs attempts on one clock."""

    def __init__(self, clock: ManualClock, threads: ThreadPoolExecutor) -> None:
        self._clock = clock
        self._threads = threads

    async def __call__(self, attempt: Attempt) -> JobEvent | None:
        running = attempt.run(self._clock, ManualChance(), self._threads)
        return await asyncio.create_task(running)

    async def of(self, function: Callable[..., Any], job: Job | None = None) -> JobEvent | None:
        """Run an attempt by a handler."""
        return await self(attempt_of(function, job))
