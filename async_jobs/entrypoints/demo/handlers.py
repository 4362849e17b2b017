"""The demo's own handler: `monthly_report` takes a while, so that a kill finds it at work."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from async_jobs.application.handling.registry import JobContext, job_registry
from async_jobs.domain.job import JsonValue
from async_jobs.host import SystemClock

_clock = SystemClock()


class MonthlyReport(BaseModel):
    """How long it takes."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    seconds: float = Field(ge=0, le=60)


@job_registry.handler("monthly_report")
async def monthly_report(ctx: JobContext, payload: MonthlyReport) -> JsonValue:
    """Wait, as for a slow service, and say for how long."""
    await _clock.sleep(payload.seconds)
    return {"seconds": payload.seconds}
