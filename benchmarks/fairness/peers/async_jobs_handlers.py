"""The handler that a worker of async_jobs imports."""

from __future__ import annotations

from typing import Any

from async_jobs import JobContext, job_registry
from benchmarks.fairness.peers.played import execute

TYPE = "play"


@job_registry.handler(TYPE)
async def perform(ctx: JobContext, payload: dict[str, Any]) -> None:
    """Be a job."""
    await execute(payload)
