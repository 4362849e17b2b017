"""Jobs as JSON for people and scripts."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pydantic_core import to_jsonable_python

from async_jobs.domain.job import Job


def record_of(job: Job) -> dict[str, Any]:
    """Return a job as JSON values, durations in seconds."""
    fields = asdict(job)
    tolerance = fields.pop("delay_tolerance")
    record: dict[str, Any] = to_jsonable_python(fields)
    return record | {"delay_tolerance_seconds": tolerance.total_seconds()}
