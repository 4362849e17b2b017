"""Dispatch turns as tests take them, and what they lease."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from async_jobs.application.scheduling.dispatcher import Dispatched, Dispatcher
from async_jobs.domain.job import Job, JobStatus
from async_jobs.domain.limits import UseCaseConfig
from async_jobs.domain.pools import Fleet, pools_of
from async_jobs.testing.contracts.scenes import all_jobs
from tests.unit.application.stage import Stage

LEASE = timedelta(seconds=60)
TWO = {"notifications": UseCaseConfig(), "reports": UseCaseConfig()}


wide = Fleet(window_min=1_000_000)
"""Lets any number of hand-offs out."""


def windows(**slots: int) -> Fleet:
    """Give each queue slots of its own, which nothing is handed off ahead of."""
    return Fleet(pools=pools_of(([queue], count) for queue, count in slots.items()), window_min=0)


def dispatcher(stage: Stage) -> Dispatcher:
    """Return one of the stage's dispatchers."""
    return Dispatcher(stage.config, stage.store, stage.clock, stage.telemetry)


async def dispatch(stage: Stage, fleet: Fleet = wide) -> Dispatched:
    """Dispatch all use cases once."""
    return await dispatcher(stage).dispatch(list(stage.config.use_case_configs), fleet, LEASE)


def ids(dispatched: Dispatched) -> list[UUID]:
    """Return the jobs leased, in order."""
    return [handoff.job_id for handoff in dispatched.handoffs]


def ids_of(jobs: Sequence[Job]) -> list[UUID]:
    """Return the jobs' ids, in order."""
    return [job.id for job in jobs]


async def running(stage: Stage) -> Counter[str]:
    """Count the running jobs of each use case."""
    jobs = await all_jobs(stage.memory)
    return Counter(job.use_case for job in jobs if job.status is JobStatus.RUNNING)
