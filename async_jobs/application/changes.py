"""Changes: events happen to jobs as they were read, are saved where nothing else did, and told."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

from async_jobs.domain import lifecycle
from async_jobs.domain.errors import IllegalTransition
from async_jobs.domain.job import Job
from async_jobs.domain.reporting import tell
from async_jobs.ports.store import Applied, JobStore
from async_jobs.ports.telemetry import Telemetry


class Changes:
    """Carries out events on many jobs by one save; whoever changed meanwhile is left alone."""

    def __init__(self, store: JobStore, telemetry: Telemetry) -> None:
        self._store = store
        self._telemetry = telemetry

    async def apply(
        self, events: Sequence[tuple[Job, lifecycle.JobEvent]], now: datetime
    ) -> Applied:
        """Carry out events; returns which stand, and which the store refuses."""
        changes = {}
        for job, event in events:
            with suppress(IllegalTransition):
                changes[job.id] = (job, event, lifecycle.change(job, event, now=now))
        if not changes:
            return Applied(frozenset())
        applied = await self._store.save([change for *_, change in changes.values()])
        for job_id in applied.ids:
            job, event, change = changes[job_id]
            for fact in tell(job, event, change.job, at=now):
                self._telemetry.record(fact)
        return applied
