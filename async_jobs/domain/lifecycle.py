"""The life of a job: every event, one table of transitions, one function that applies them.

Everything that changes a job goes through here; `effects` has what each event does to its fields.
Adapters compare and set what `advance` computed; they decide nothing. A job's running state has
two halves that the table's guards tell apart: *handed off* (leased, no worker has it yet) and
*claimed* (a worker executes it).

A lease is numbered by `lease_seq`, which only grows. A write about a lease expects the number
it knows, so that whoever lost the lease changes nothing (see `Fence`).

What gives a running job back to `pending` ends the lease, not the job. If its cancellation was
asked for meanwhile, `settle` lets `Cancelled` follow, so that the request outlives the attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from async_jobs.domain import effects
from async_jobs.domain.deadline import is_late
from async_jobs.domain.effects import next_lease_seq
from async_jobs.domain.errors import IllegalTransition
from async_jobs.domain.events import (
    Cancelled,
    CancelRequested,
    Claimed,
    EventType,
    Expired,
    Failed,
    HandOffFailed,
    JobEvent,
    Leased,
    LeaseExpired,
    Rejected,
    Released,
    Renewed,
    Retried,
    Snoozed,
    Succeeded,
)
from async_jobs.domain.job import Job, JobStatus, Phase

__all__ = [
    "TRANSITIONS",
    "CancelRequested",
    "Cancelled",
    "Change",
    "Claimed",
    "EventType",
    "Expired",
    "Failed",
    "Fence",
    "HandOffFailed",
    "JobEvent",
    "LeaseExpired",
    "Leased",
    "Rejected",
    "Released",
    "Renewed",
    "Retried",
    "Snoozed",
    "Succeeded",
    "advance",
    "cancelling",
    "change",
    "holds",
    "next_lease_seq",
    "settle",
]

# --- The table -------------------------------------------------------------------------------

_PENDING, _RUNNING = JobStatus.PENDING, JobStatus.RUNNING
_SUCCEEDED, _DEAD, _CANCELLED = JobStatus.SUCCEEDED, JobStatus.DEAD, JobStatus.CANCELLED

TRANSITIONS: Mapping[tuple[JobStatus, EventType], frozenset[JobStatus]] = {
    (_PENDING, Leased): frozenset({_RUNNING}),
    (_PENDING, Cancelled): frozenset({_CANCELLED}),
    (_PENDING, Expired): frozenset({_DEAD}),
    (_RUNNING, HandOffFailed): frozenset({_PENDING}),
    (_RUNNING, Claimed): frozenset({_RUNNING}),
    (_RUNNING, Renewed): frozenset({_RUNNING}),
    (_RUNNING, Succeeded): frozenset({_SUCCEEDED}),
    (_RUNNING, Failed): frozenset({_PENDING, _DEAD}),
    (_RUNNING, Rejected): frozenset({_DEAD}),
    (_RUNNING, Snoozed): frozenset({_PENDING}),
    (_RUNNING, Released): frozenset({_PENDING}),
    (_RUNNING, CancelRequested): frozenset({_RUNNING}),
    (_RUNNING, Cancelled): frozenset({_CANCELLED}),
    (_RUNNING, LeaseExpired): frozenset({_PENDING, _DEAD}),
    (_DEAD, Retried): frozenset({_PENDING}),
    (_CANCELLED, Retried): frozenset({_PENDING}),
}
"""(status, event) → the statuses that may follow. Whatever is not here cannot happen."""

GUARDS: Mapping[tuple[JobStatus, EventType], str] = {
    (_PENDING, Expired): "deadline missed",
    (_RUNNING, HandOffFailed): "unclaimed",
    (_RUNNING, Claimed): "unclaimed, unexpired, not to be cancelled",
    (_RUNNING, Renewed): "unexpired",
    (_RUNNING, Succeeded): "claimed",
    (_RUNNING, Failed): "claimed",
    (_RUNNING, Rejected): "claimed",
    (_RUNNING, Snoozed): "claimed",
    (_RUNNING, Released): "claimed",
    (_RUNNING, CancelRequested): "claimed",
    (_RUNNING, Cancelled): "unclaimed, or cancel requested",
    (_RUNNING, LeaseExpired): "lease over",
}
"""What must hold besides the status; `advance` raises `IllegalTransition` where it does not."""

_CLAIMED_ONLY = frozenset({Succeeded, Failed, Rejected, Snoozed, Released, CancelRequested})


def advance(job: Job, event: JobEvent, *, now: datetime) -> Job:
    """Return the job as it stands after `event`; `job` itself is untouched.

    Args:
        job: the job as it is known.
        event: what happened.
        now: the instant of the change, by the store's clock.

    Raises:
        IllegalTransition: `event` cannot happen to a job in this state.
    """
    allowed = TRANSITIONS.get((job.status, type(event)))
    if allowed is None:
        raise _illegal(job, event)
    _guard(job, event, now)
    after = _APPLY[type(event)](job, event, now)
    assert after.status in allowed, f"{type(event).__name__} led to {after.status}"
    return after


def settle(job: Job, event: JobEvent, *, now: datetime) -> Job:
    """Return the job after an event that ends its lease, honouring a cancel request.

    A flagged job that would become pending again becomes cancelled instead.
    """
    after = advance(job, event, now=now)
    if after.status is _PENDING and after.cancel_requested:
        return advance(after, Cancelled(), now=now)
    return after


def cancelling(job: Job) -> Cancelled | CancelRequested | None:
    """Return the event that cancels a job as it stands, or None when that is under way or done.

    What nobody executes ends at once; what a worker executes, its worker has to stop.

    Raises:
        IllegalTransition: the job ended otherwise.
    """
    match job.phase:
        case Phase.PENDING | Phase.HANDED_OFF:
            return Cancelled()
        case Phase.CLAIMED:
            return CancelRequested()
        case Phase.CANCELLING | Phase.CANCELLED:
            return None
        case _:
            raise _illegal(job, Cancelled(), "it has ended")


def _guard(job: Job, event: JobEvent, now: datetime) -> None:
    claimed = job.started_at is not None
    if type(event) in _CLAIMED_ONLY and not claimed:
        raise _illegal(job, event, "no worker has claimed it")
    match event:
        case HandOffFailed() | Claimed() if claimed:
            raise _illegal(job, event, "a worker has claimed it")
        case Claimed() | Renewed() if _lease_end(job) <= now:
            raise _illegal(job, event, "its lease is over")
        case Claimed() if job.cancel_requested:
            raise _illegal(job, event, "its cancellation was asked for")
        case LeaseExpired() if _lease_end(job) > now:
            raise _illegal(job, event, "its lease is not over")
        case Cancelled() if claimed and not job.cancel_requested:
            raise _illegal(job, event, "a worker executes it; request its cancellation")
        case Expired() if not is_late(job.deadline_at, now):
            raise _illegal(job, event, "its deadline has not passed")


def _lease_end(job: Job) -> datetime:
    assert job.lease_expires_at is not None, "a running job has a lease"
    return job.lease_expires_at


def _illegal(job: Job, event: JobEvent, why: str = "") -> IllegalTransition:
    return IllegalTransition(state=job.phase.value, event=type(event).__name__, why=why)


_APPLY = cast(
    "Mapping[EventType, Callable[[Job, JobEvent, datetime], Job]]",
    {
        Leased: effects.leased,
        HandOffFailed: effects.hand_off_failed,
        Claimed: effects.claimed,
        Renewed: effects.renewed,
        Succeeded: effects.succeeded,
        Failed: effects.failed,
        Rejected: effects.rejected,
        Snoozed: effects.snoozed,
        Released: effects.released,
        CancelRequested: effects.cancel_requested,
        Cancelled: effects.cancelled,
        LeaseExpired: effects.lease_expired,
        Expired: effects.expired,
        Retried: effects.retried,
    },
)


# --- Compare and set -------------------------------------------------------------------------

# About the lease's end itself: a committed renewal must win over a reaper that read before it.
_FENCED_BY_LEASE_END = frozenset({Renewed, LeaseExpired})


@dataclass(frozen=True, slots=True)
class Fence:
    """What a job must still look like for a change to be applied.

    `lease_seq` and `phase` identify every version of a job's content, but for renewals, which
    only move `lease_expires_at`; changes that depend on it compare it as well (else None).
    """

    lease_seq: int
    phase: Phase
    lease_expires_at: datetime | None = None
    worker_id: str | None = None  # who claimed it: a failover that loses commits gives numbers anew


@dataclass(frozen=True, slots=True)
class Change:
    """One compare-and-set: `job` replaces the stored one if that still matches `fence`."""

    fence: Fence
    job: Job


def change(job: Job, event: JobEvent, *, now: datetime) -> Change:
    """Return the compare-and-set that carries out `event` on the job as it is known.

    Raises:
        IllegalTransition: `event` cannot happen to a job in this state.
    """
    end = job.lease_expires_at if type(event) in _FENCED_BY_LEASE_END else None
    return Change(Fence(job.lease_seq, job.phase, end, job.worker_id), settle(job, event, now=now))


def holds(change: Change, row: Job) -> bool:
    """Tell whether a stored job is what a change expects."""
    fence = change.fence
    return (
        row.lease_seq == fence.lease_seq
        and row.phase is fence.phase
        and fence.lease_expires_at in (None, row.lease_expires_at)
        and fence.worker_id in (None, row.worker_id)
    )
