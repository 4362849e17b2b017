"""The ready jobs of a use case, by deadline and by tenant, as the indexes of a database are."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from async_jobs.domain.job import Job
from async_jobs.domain.scheduling import Candidate
from benchmarks.fairness.ordered import Entry, Ordered

ON_TIME, BEHIND = 0, 1
"""The lanes of ready jobs: those of the second one go last."""


class Shown(NamedTuple):
    """A ready job and what a scheduler is shown of it."""

    job: Job
    candidate: Candidate


class Ready:
    """Ready jobs, each in one of the two lanes."""

    def __init__(self) -> None:
        self._urgent = Ordered()
        self._by_tenant: dict[str, Ordered] = {}
        self._tenants = Ordered()

    def __bool__(self) -> bool:
        return bool(self._urgent)

    def put(self, job: Job, lane: int, candidate: Candidate) -> None:
        """Let a job in."""
        shown = Shown(job, candidate)
        self._urgent.add((*_by_deadline(job, lane), shown))
        own = self._by_tenant.get(job.tenant_id)
        if own is None:
            own = self._by_tenant[job.tenant_id] = Ordered()
            self._tenants.add((job.tenant_id,))
        own.add((*_by_priority(job, lane), shown))

    def drop(self, job: Job, lane: int) -> None:
        """Let a job out of the lane it is in."""
        self._urgent.remove(_by_deadline(job, lane))
        own = self._by_tenant[job.tenant_id]
        own.remove(_by_priority(job, lane))
        if not own:
            del self._by_tenant[job.tenant_id]
            self._tenants.remove((job.tenant_id,))

    def by_deadline(self, *, since: datetime | None = None) -> Iterator[Shown]:
        """Yield all jobs, the earliest deadline first within a lane.

        Args:
            since: begin in the first lane with the first job whose deadline is not before it.
        """
        entries = iter(self._urgent) if since is None else self._urgent.since((ON_TIME, since))
        return (entry[-1] for entry in entries)

    def past(self, now: datetime) -> Iterator[Shown]:
        """Yield the jobs of the first lane whose deadline has passed, the most overdue first."""
        for lane, deadline, _, shown in self._urgent:
            if lane != ON_TIME or deadline >= now:
                return
            yield shown

    def has(self, tenant: str) -> bool:
        """Tell whether a tenant has any jobs here."""
        return tenant in self._by_tenant

    def of(self, tenant: str) -> Iterator[Shown]:
        """Yield a tenant's jobs in its own order; it may have none."""
        return (entry[-1] for entry in self._by_tenant.get(tenant, ()))

    def tenants(self, *, after: str) -> Iterator[str]:
        """Yield the tenants that have ready jobs and whose names come after another one."""
        return (name for (name,) in self._tenants.since((after,)) if name != after)


def _by_deadline(job: Job, lane: int) -> Entry:
    return (lane, job.deadline_at, job.id.int)


def _by_priority(job: Job, lane: int) -> Entry:
    return (lane, -job.priority, job.deadline_at, job.id.int)
