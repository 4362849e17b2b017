"""Which facts an event makes: of what happened to a job, by how it was and is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, TypeAlias, TypedDict
from uuid import UUID

from async_jobs.domain import lifecycle
from async_jobs.domain.bounds import Places
from async_jobs.domain.deadline import DEADLINE_MISSED, is_late, lateness, tolerance_used
from async_jobs.domain.facts import (
    DeadlineMissed,
    Ending,
    Fact,
    JobCancelled,
    JobCancelRequested,
    JobDied,
    JobFact,
    JobFailed,
    JobHandOffFailed,
    JobReleased,
    JobRetried,
    JobSnoozed,
    JobStarted,
    JobSucceeded,
    LeaseExpired,
    ResultLeftOut,
)
from async_jobs.domain.job import Job, JobStatus


class _JobIds(TypedDict):
    at: datetime
    job_id: UUID
    tenant_id: str
    use_case: str
    type: str
    attempt: int


Wanted: TypeAlias = Callable[[type[Fact]], bool]
"""Tells whether facts of a kind are worth making."""


def tell(
    before: Job,
    event: lifecycle.JobEvent,
    after: Job,
    *,
    at: datetime,
    wanted: Wanted = lambda kind: True,
) -> list[JobFact]:
    """Return the facts of an event that was committed: `before` became `after`.

    Renewals are no news and yield nothing. Of what happens to every job only what is wanted
    is told.
    """
    about = _About(before, after, at)
    match event:
        case lifecycle.HandOffFailed(error):
            told: list[JobFact] = [JobHandOffFailed(error=error, **about.ids)]
        case lifecycle.Claimed(worker_id):
            told = about.started(worker_id, wanted)
        case lifecycle.Succeeded(left_out=problem):
            told = [ResultLeftOut(problem=problem, **about.ids)] if problem else []
            if wanted(JobSucceeded):
                told.append(JobSucceeded(ran_for=about.ran_for, **about.ids))
        case lifecycle.Failed(places=places):
            told = about.failed(Ending.FAILED, places)
        case lifecycle.Rejected():
            told = about.failed(Ending.REJECTED)
        case lifecycle.Snoozed():
            told = [JobSnoozed(until=after.run_at, ran_for=about.ran_for, **about.ids)]
        case lifecycle.Released():
            told = [JobReleased(ran_for=about.ran_for, **about.ids)]
        case lifecycle.CancelRequested():
            told = [JobCancelRequested(**about.ids)]
        case lifecycle.LeaseExpired():
            claimed = before.started_at is not None
            told = [about.expired(claimed=claimed)]
            told += about.failed(Ending.LEASE_EXPIRED) if after.crashes > before.crashes else []
        case lifecycle.Expired():
            told = [about.missed(started=False)]
            told += about.failed(Ending.DEADLINE_MISSED)
        case lifecycle.Retried() | lifecycle.Restored():
            told = [JobRetried(**about.ids)]
        case _:
            told = []
    if after.status is JobStatus.CANCELLED:
        # What ended with a fact of its own has told how long it ran.
        ends_attempt = before.started_at is not None and not told
        ran_for = about.ran_for if ends_attempt else None
        told.append(JobCancelled(ran_for=ran_for, **about.ids))
    return told


def start_is_news(job: Job, *, at: datetime, wanted: Wanted) -> bool:
    """Tell whether `tell` has anything to say of a claim: most starts are asked about in vain."""
    first = job.first_deadline_at
    if at <= job.deadline_at and (first is None or at <= first) and not wanted(JobStarted):
        return False  # whichever of the two it is held against
    return wanted(JobStarted) or is_late(_promised(job, attempts=job.attempts - 1), at)


def awaits_first_start(job: Job, *, attempts: int) -> bool:
    """Tell whether a job has neither started nor missed its promise by expiring.

    Versions before kept no first start; of what they gave back, attempts and crashes tell.

    Args:
        job: the job.
        attempts: how many it was charged before.
    """
    return (
        job.first_started_at is None
        and attempts <= 0
        and not job.crashes
        and not any(each.error == DEADLINE_MISSED for each in job.errors)
    )


def _promised(job: Job, *, attempts: int) -> datetime:
    """Return the deadline that a start is held against: a first one against the first."""
    is_first = awaits_first_start(job, attempts=attempts)
    return job.first_deadline if is_first else job.deadline_at


class _About:
    """The fields that all facts about one change share."""

    def __init__(self, before: Job, after: Job, at: datetime) -> None:
        self._before = before
        self._after = after
        self._at = at

    @cached_property
    def ids(self) -> _JobIds:
        return job_ids(self._after, at=self._at)

    @property
    def ran_for(self) -> timedelta:
        return self._at - (self._before.started_at or self._at)

    def started(self, worker_id: str, wanted: Wanted) -> list[JobFact]:
        told: list[JobFact] = []
        job, attempts = self._after, self._after.attempts - 1
        deadline_at = _promised(job, attempts=attempts)
        if wanted(JobStarted):
            was_put_off = deadline_at != job.deadline_at
            run_at = deadline_at - job.delay_tolerance if was_put_off else job.run_at
            told.append(
                JobStarted(
                    worker_id=worker_id,
                    start_latency=self._at - run_at,
                    late_by=lateness(deadline_at, self._at),
                    tolerance_used=tolerance_used(run_at, deadline_at, self._at),
                    first=awaits_first_start(job, attempts=attempts),
                    **self.ids,
                )
            )
        if is_late(deadline_at, self._at):
            told.append(self.missed(started=True))
        return told

    def missed(self, *, started: bool) -> DeadlineMissed:
        job, attempts = self._before, self._after.attempts - started
        return DeadlineMissed(
            late_by=lateness(_promised(job, attempts=attempts), self._at),
            started=started,
            first=awaits_first_start(job, attempts=attempts),
            **self.ids,
        )

    def expired(self, *, claimed: bool) -> LeaseExpired:
        worker_id, crashes = self._before.worker_id, self._after.crashes
        return LeaseExpired(claimed=claimed, worker_id=worker_id, crashes=crashes, **self.ids)

    def failed(self, because: Ending, places: Places = ()) -> list[JobFact]:
        told: dict[str, Any] = {"error": self._after.last_error or "", "places": places}
        ran = because in (Ending.FAILED, Ending.REJECTED)
        told |= {"because": because, "ran_for": self.ran_for if ran else None}
        match self._after.status:
            case JobStatus.DEAD:
                return [JobDied(**told, **self.ids)]
            case JobStatus.PENDING:
                return [JobFailed(retry_at=self._after.run_at, **told, **self.ids)]
            case _:
                return []


def job_ids(job: Job, *, at: datetime) -> _JobIds:
    """Return the fields that every `JobFact` about `job` shares."""
    return {
        "at": at,
        "job_id": job.id,
        "tenant_id": job.tenant_id,
        "use_case": job.use_case,
        "type": job.type,
        "attempt": job.attempts,
    }
