"""What each event does to a job that it may happen to; `lifecycle` says to which it may.

Each function returns the job as it stands afterwards. None of them asks whether the event may
happen: `lifecycle.advance` does, and is the only one that calls them.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeAlias

from async_jobs.domain.bounds import ERRORS_KEPT_MAX, RUN_AT_AHEAD_MAX, Places, bounded_error
from async_jobs.domain.crashes import crash_error, is_hopeless
from async_jobs.domain.deadline import DEADLINE_MISSED, deadline_of, first_kept
from async_jobs.domain.events import (
    Amended,
    Cancelled,
    CancelRequested,
    Claimed,
    Expired,
    Failed,
    HandOffFailed,
    JobEvent,
    Leased,
    LeaseExpired,
    Rejected,
    Released,
    Renewed,
    Restored,
    Retried,
    SetAside,
    Snoozed,
    Succeeded,
)
from async_jobs.domain.job import AttemptError, Job, JobStatus
from async_jobs.domain.unreadable import aside

Effect: TypeAlias = Callable[[Job, Any, datetime], Job]

_PENDING, _RUNNING = JobStatus.PENDING, JobStatus.RUNNING
_SUCCEEDED, _DEAD, _CANCELLED = JobStatus.SUCCEEDED, JobStatus.DEAD, JobStatus.CANCELLED


def leased(job: Job, event: Leased, now: datetime) -> Job:
    return job.after(
        status=_RUNNING,
        lease_seq=next_lease_seq(job.lease_seq),
        lease_expires_at=event.until,
        started_at=None,
        enqueue_failed=False,
        updated_at=now,
    )


def next_lease_seq(lease_seq: int) -> int:
    """Return the number of the lease that follows: the one place that counts leases."""
    return lease_seq + 1


def hand_off_failed(job: Job, event: HandOffFailed, now: datetime) -> Job:
    return _back_unstarted(job, now, enqueue_failed=True, last_error=bounded_error(event.error))


def _back_unstarted(job: Job, now: datetime, **changes: Any) -> Job:
    return _unleased(job, now, status=_PENDING, dispatches=job.dispatches + 1, **changes)


def claimed(job: Job, event: Claimed, now: datetime) -> Job:
    return job.after(
        started_at=now,
        worker_id=event.worker_id,
        attempts=job.attempts + 1,
        dispatches=0,
        lease_expires_at=event.until,
        updated_at=now,
    )


def renewed(job: Job, event: Renewed, now: datetime) -> Job:
    return job.after(lease_expires_at=event.until, updated_at=now)


def succeeded(job: Job, event: Succeeded, now: datetime) -> Job:
    # Of what succeeds at once, which is most of it, `started_at` tells when it started first.
    first = job.first_started_at
    return _finished(job, now, _SUCCEEDED, result=event.result, first_started_at=first)


def failed(job: Job, event: Failed, now: datetime) -> Job:
    history = _recorded(job, bounded_error(event.error), now, event.places)
    if job.attempts >= job.max_attempts:
        return _finished(job, now, _DEAD, **history)
    wish = event.retry_after
    delay = job.backoff_policy.delay(job.attempts, event.draw) if wish is None else wish
    return _due_later(job, now, now + min(delay, RUN_AT_AHEAD_MAX), **history)


def rejected(job: Job, event: Rejected, now: datetime) -> Job:
    history = _recorded(job, bounded_error(event.error), now)
    return _finished(job, now, _DEAD, **history, **_first_start(job, event.started))


def _recorded(job: Job, error: str, now: datetime, at: Places = (), **also: Any) -> dict[str, Any]:
    failure = AttemptError(attempt=job.attempts, at=now, error=bounded_error(error, at))
    return {"last_error": error, "errors": (*job.errors, failure)[-ERRORS_KEPT_MAX:], **also}


def snoozed(job: Job, event: Snoozed, now: datetime) -> Job:
    is_news = event.why is not None and [event.why] != [each.error for each in job.errors[-1:]]
    noted = _recorded(job, event.why or "", now) if is_news else {}
    noted |= _first_start(job, event.started)
    return _due_later(job, now, event.until, attempts=job.attempts - 1, **noted)


def released(job: Job, event: Released, now: datetime) -> Job:
    # run_at and deadline stay: the job was due already, and its urgency is not forgiven.
    return _unleased(job, now, status=_PENDING, attempts=job.attempts - 1)


def cancel_requested(job: Job, event: CancelRequested, now: datetime) -> Job:
    return job.after(cancel_requested=True, updated_at=now)


def cancelled(job: Job, event: Cancelled, now: datetime) -> Job:
    return _finished(job, now, _CANCELLED)


def or_cancelled(effect: Effect) -> Effect:
    """Return an effect that cancels what `effect` gives back, where that was asked for."""

    def ended(job: Job, event: JobEvent, now: datetime) -> Job:
        after = effect(job, event, now)
        if after.status is _PENDING and after.cancel_requested:
            who = {"started_at": job.started_at, "worker_id": job.worker_id}
            return cancelled(after, Cancelled(), now).after(**who)
        return after

    return ended


def lease_expired(job: Job, event: LeaseExpired, now: datetime) -> Job:
    if job.started_at is None:
        return _back_unstarted(job, now)
    if event.waited:
        return released(job, Released(), now)
    crashes = job.crashes + 1
    changes = _recorded(job, crash_error(crashes), now, crashes=crashes, attempts=job.attempts - 1)
    if is_hopeless(crashes):
        return _finished(job, now, _DEAD, **changes)
    return _due_later(job, now, now + job.backoff_policy.delay(crashes, event.draw), **changes)


def set_aside(job: Job, event: SetAside, now: datetime) -> Job:
    values = aside(
        claimed=job.started_at is not None,
        attempts=job.attempts,
        max_attempts=job.max_attempts,
        crashes=job.crashes,
        dispatches=job.dispatches,
        delay_tolerance=job.delay_tolerance,
        until=event.until,
    )
    # Whoever claimed it could not read it, as a rule, so that this was no start.
    return _unleased(
        job,
        now,
        status=_PENDING,
        run_at=event.until,
        first_deadline_at=first_kept(job.first_deadline_at, job.deadline_at, values.deadline_at),
        first_started_at=job.first_started_at,
        **values._asdict(),
    )


def expired(job: Job, event: Expired, now: datetime) -> Job:
    # In its history too: what has missed its promise has no first start to come.
    return _finished(job, now, _DEAD, **_recorded(job, DEADLINE_MISSED, now))


def retried(job: Job, event: Retried, now: datetime) -> Job:
    return _due_later(
        job,
        now,
        now,
        attempts=0,
        crashes=0,
        dispatches=0,
        cancel_requested=False,
        finished_at=None,
        first_started_at=job.first_started_at,
        # A new number, so that whoever read the job in its former life writes in vain.
        lease_seq=next_lease_seq(job.lease_seq),
    )


def amended(job: Job, event: Amended, now: datetime) -> Job:
    run_at = job.run_at
    if event.run_at is not None:
        run_at = max(now, min(event.run_at, now + RUN_AT_AHEAD_MAX))
    wish = event.delay_tolerance
    tolerance = job.delay_tolerance if wish is None else wish
    deadline_at = deadline_of(run_at, tolerance)
    return job.after(
        run_at=run_at,
        delay_tolerance=tolerance,
        deadline_at=deadline_at,
        first_deadline_at=first_kept(job.first_deadline_at, job.deadline_at, deadline_at),
        priority=job.priority if event.priority is None else event.priority,
        # A new number, so that whoever saw the job as it was neither leases nor changes it.
        lease_seq=next_lease_seq(job.lease_seq),
        updated_at=now,
    )


def restored(job: Job, event: Restored, now: datetime) -> Job:
    return _unleased(
        job,
        now,
        status=_PENDING,
        cancel_requested=False,
        finished_at=None,
        lease_seq=next_lease_seq(job.lease_seq),
    )


def _due_later(job: Job, now: datetime, run_at: datetime, **changes: Any) -> Job:
    run_at = max(now, min(run_at, now + RUN_AT_AHEAD_MAX))
    deadline_at = deadline_of(run_at, job.delay_tolerance)
    first = first_kept(job.first_deadline_at, job.deadline_at, deadline_at)
    changes |= {"run_at": run_at, "deadline_at": deadline_at, "first_deadline_at": first}
    return _unleased(job, now, status=_PENDING, **changes)


def _finished(job: Job, now: datetime, status: JobStatus, **changes: Any) -> Job:
    # Who ran it, and since when, stays: of most jobs nothing else tells that.
    ended = {"status": status, "finished_at": now, "lease_expires_at": None, "updated_at": now}
    return job.after(**{**ended, **_first_start(job, True), **changes})


def _unleased(job: Job, now: datetime, **changes: Any) -> Job:
    ended = {"lease_expires_at": None, "started_at": None, "worker_id": None, "updated_at": now}
    return job.after(**{**ended, **_first_start(job, True), **changes})


def _first_start(job: Job, started: bool) -> dict[str, Any]:
    """Return the first start of a job whose lease ends, given whether its claim was a start."""
    claimed_at = job.started_at if started else None
    return {"first_started_at": job.first_started_at or claimed_at}
