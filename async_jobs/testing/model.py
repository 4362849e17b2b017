"""A store as small as it can be: a dict and the rules of the domain. The oracle of machines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import takewhile
from uuid import UUID

from async_jobs.domain.deadline import LatePolicy, is_late
from async_jobs.domain.job import LIVE, TERMINAL, Job, JobFilter, JobStatus
from async_jobs.domain.lifecycle import Change, Leased, advance
from async_jobs.domain.quota import admit
from async_jobs.domain.scheduling import Candidate, LeaseGrant, in_tenant_order
from async_jobs.ports.store import Added, AddResult, Applied, Duplicate, Invalid
from async_jobs.testing.builders import candidate_of


class StoreModel:
    """What `JobStore` promises to one caller who waits for each answer."""

    def __init__(self) -> None:
        self.jobs: dict[UUID, Job] = {}

    def add(self, jobs: Sequence[Job], limits: Mapping[str, int]) -> list[AddResult]:
        """Admit and insert, all or nothing."""
        after = dict(self.jobs)
        results = [_insert(job, after) for job in jobs]
        new = [after[job_id].tenant_id for job_id in after.keys() - self.jobs.keys()]
        pending = Counter(
            job.tenant_id for job in self.jobs.values() if job.status is JobStatus.PENDING
        )
        invalid = next((result for result in results if isinstance(result, Invalid)), None)
        turned_away = invalid or admit(new, pending, limits)
        if turned_away is None:
            self.jobs = after
            return results
        return [
            result if isinstance(result, Duplicate) and result.of in self.jobs else turned_away
            for result in results
        ]

    def save(self, changes: Sequence[Change]) -> Applied:
        """Compare and set, one after the other."""
        applied, conflicting = set(), set()
        for change in changes:
            job_id, stored = change.job.id, self.jobs.get(change.job.id)
            if stored == change.job:
                applied.add(job_id)
            elif stored is not None and _holds(change, stored):
                others = {other: job for other, job in self.jobs.items() if other != job_id}
                if change.job.status in LIVE and _holder(change.job, others):
                    conflicting.add(job_id)
                else:
                    self.jobs[job_id] = change.job
                    applied.add(job_id)
        return Applied(frozenset(applied), frozenset(conflicting))

    def lease(self, grants: Sequence[LeaseGrant]) -> frozenset[UUID]:
        """Lease what is pending under the number expected."""
        leased = set()
        for grant in grants:
            job = self.jobs.get(grant.job_id)
            if job is None or job.status is not JobStatus.PENDING:
                continue
            if job.lease_seq == grant.expected_lease_seq:
                self.jobs[job.id] = advance(job, Leased(grant.until), now=grant.at)
                leased.add(job.id)
        return frozenset(leased)

    def purge(self, use_case: str, *, before: datetime, limit: int) -> int:
        """Forget the oldest finished jobs."""
        old = [
            (job.finished_at, job.id)
            for job in self.jobs.values()
            if job.use_case == use_case and job.status in TERMINAL
            if job.finished_at is not None and job.finished_at < before
        ]
        for _, job_id in sorted(old)[:limit]:
            del self.jobs[job_id]
        return len(old[:limit])

    def find(self, criteria: JobFilter) -> list[Job]:
        """Return every match, newest first."""
        newest_first = sorted(self.jobs.values(), key=lambda job: job.id, reverse=True)
        return [
            job
            for job in newest_first
            if criteria.tenant_id in (None, job.tenant_id)
            and criteria.use_case in (None, job.use_case)
            and criteria.status in (None, job.status)
        ]

    def expired(self, now: datetime) -> list[Job]:
        """Return the running jobs whose lease is over, longest first."""
        over = [
            (job.lease_expires_at, job.id, job)
            for job in self.jobs.values()
            if job.lease_expires_at is not None and job.lease_expires_at <= now
        ]
        return [job for *_, job in sorted(over, key=lambda each: each[:2])]

    def next_run_at(self, now: datetime) -> datetime | None:
        """Return when the next job comes due."""
        waiting = (job for job in self.jobs.values() if job.status is JobStatus.PENDING)
        return min((job.run_at for job in waiting if job.run_at > now), default=None)

    def lanes(
        self, use_case: str, *, now: datetime, late_policy: LatePolicy
    ) -> dict[str, list[Candidate]]:
        """Return each tenant's ready jobs in scheduling order."""
        ready = [
            candidate_of(job)
            for job in self.jobs.values()
            if job.use_case == use_case and job.status is JobStatus.PENDING and job.run_at <= now
        ]
        lanes: dict[str, list[Candidate]] = {}
        for candidate in in_tenant_order(ready, late_policy, now):
            lanes.setdefault(candidate.tenant_id, []).append(candidate)
        return lanes


def most_urgent(ready: Iterable[Candidate], limit: int, now: datetime) -> list[Candidate]:
    """Return the `limit` most urgent jobs that can still be on time."""
    on_time = [candidate for candidate in ready if not is_late(candidate.deadline_at, now)]
    return sorted(on_time, key=lambda c: (c.deadline_at, c.id))[:limit]


def in_window(ready: Iterable[Candidate], limit: int, now: datetime) -> list[Candidate]:
    """Return the most urgent jobs, and late ones where there are fewer than `limit`."""
    order = sorted(ready, key=lambda c: (is_late(c.deadline_at, now), c.deadline_at, c.id))
    return order[:limit]


def is_shown_rightly(
    shown: Sequence[Candidate], whole: Sequence[Candidate], window: Collection[Candidate]
) -> bool:
    """Tell whether a tenant's jobs are a beginning of all it has, and of the window, each once."""
    pairs = zip(shown, whole, strict=False)
    beginning = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return len(set(shown)) == len(shown) and set(shown[beginning:]) <= set(window)


def _insert(job: Job, jobs: dict[UUID, Job]) -> AddResult:
    known = jobs.get(job.id)
    if known is not None and known.tenant_id == job.tenant_id:
        return Duplicate(job.id)
    if known is not None:
        return Invalid(job.id, "id", "")
    if (holder := _holder(job, jobs)) is not None:
        return Duplicate(holder)
    jobs[job.id] = job
    return Added(job.id)


def _holder(job: Job, jobs: Mapping[UUID, Job]) -> UUID | None:
    """Return the live job that has the key of `job`."""
    if job.dedupe_key is None:
        return None
    for other in jobs.values():
        same = (other.tenant_id, other.dedupe_key) == (job.tenant_id, job.dedupe_key)
        if same and other.status in LIVE:
            return other.id
    return None


def _holds(change: Change, stored: Job) -> bool:
    fence = change.fence
    return (stored.lease_seq, stored.phase) == (
        fence.lease_seq,
        fence.phase,
    ) and (
        fence.lease_expires_at in (None, stored.lease_expires_at)
        and fence.worker_id in (None, stored.worker_id)
    )
