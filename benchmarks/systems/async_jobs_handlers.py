"""The handler that a worker of async_jobs imports."""

from __future__ import annotations

from typing import Any

from async_jobs import JobContext, job_registry
from benchmarks.systems import protocol
from benchmarks.systems.async_jobs_setup import TYPE


@job_registry.handler(TYPE)
async def noop(ctx: JobContext, payload: dict[str, Any]) -> None:
    """Do nothing, as a handler of any system does."""
    protocol.done(payload)
