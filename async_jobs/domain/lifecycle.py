"""The life of a job: one table of what may happen in each phase, one function that applies it.

Everything that changes a job goes through here; `effects` has what each event does to its fields.
Adapters compare and set what `advance` computed; they decide nothing. The table is keyed by
*phase*: a running job is handed off (leased, no worker has it yet), claimed (a worker executes
it) or cancelling (its worker is asked to stop).

A lease is numbered by `lease_seq`, which only grows. A write about a lease expects the number
it knows, so that whoever lost the lease changes nothing (see `Fence`).

What gives a running job back to `pending` ends the lease, not the job. If its cancellation was
asked for meanwhile, the job becomes `cancelled` instead, so that the request outlives the attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from async_jobs.domain import effects
from async_jobs.domain.deadline import is_late
from async_jobs.domain.effects import Effect, next_lease_seq, or_cancelled
from async_jobs.domain.errors import IllegalTransition
from async_jobs.domain.events import (
    Amended,
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
    Restored,
    Retried,
    SetAside,
    Snoozed,
    Succeeded,
)
from async_jobs.domain.history import AttemptRecord, record_of
from async_jobs.domain.job import Job, Phase

__all__ = [
    "TRANSITIONS",
    "Amended",
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
    "Restored",
    "Retried",
    "SetAside",
    "Snoozed",
    "Succeeded",
    "Transition",
    "advance",
    "cancelling",
    "change",
    "holds",
    "next_lease_seq",
]

# --- The table -------------------------------------------------------------------------------


class Guard(NamedTuple):
    """What must hold of a job besides its phase, for an event to happen to it.

    Attributes:
        name: in the documentation's table.
        otherwise: what `IllegalTransition` gives as the reason when it does not hold.
        holds: tells whether it does, at an instant.
    """

    name: str
    otherwise: str
    holds: Callable[[Job, datetime], bool]


def _lease_end(job: Job) -> datetime:
    assert job.lease_expires_at is not None, "a running job has a lease"
    return job.lease_expires_at


def _is_unexpired(job: Job, now: datetime) -> bool:
    return _lease_end(job) > now


def _is_lease_over(job: Job, now: datetime) -> bool:
    return _lease_end(job) <= now


def _is_wanted(job: Job, now: datetime) -> bool:
    return not job.cancel_requested


def _is_too_late(job: Job, now: datetime) -> bool:
    return is_late(job.deadline_at, now)


UNEXPIRED = Guard("lease not over", "its lease is over", _is_unexpired)
LEASE_OVER = Guard("lease over", "its lease is not over", _is_lease_over)
WANTED = Guard("not to be cancelled", "its cancellation was asked for", _is_wanted)
TOO_LATE = Guard("deadline missed", "its deadline has not passed", _is_too_late)


class Transition(NamedTuple):
    """One row of the table: what an event does to a job in a phase.

    Attributes:
        does: makes the job as it stands afterwards.
        to: the phases that may follow.
        only: what must hold besides the phase.
        is_about_lease_end: whether a compare-and-set compares the lease's end as well. A renewal
            that is committed must win over a reaper that read the job before.
    """

    does: Effect
    to: tuple[Phase, ...]
    only: tuple[Guard, ...] = ()
    is_about_lease_end: bool = False


def _at_lease_end(does: Effect, *to: Phase) -> Transition:
    return Transition(does, to, (LEASE_OVER,), is_about_lease_end=True)


def _renewal(phase: Phase) -> Transition:
    return Transition(effects.renewed, (phase,), (UNEXPIRED,), is_about_lease_end=True)


TRANSITIONS: Mapping[tuple[Phase, EventType], Transition] = {
    (Phase.PENDING, Leased): Transition(effects.leased, (Phase.HANDED_OFF,)),
    (Phase.PENDING, Cancelled): Transition(effects.cancelled, (Phase.CANCELLED,)),
    (Phase.PENDING, Expired): Transition(effects.expired, (Phase.DEAD,), (TOO_LATE,)),
    (Phase.PENDING, Amended): Transition(effects.amended, (Phase.PENDING,)),
    # Leased, and no worker has it yet. A row that was set aside may be one to be cancelled.
    (Phase.HANDED_OFF, HandOffFailed): Transition(
        or_cancelled(effects.hand_off_failed), (Phase.PENDING, Phase.CANCELLED)
    ),
    (Phase.HANDED_OFF, Claimed): Transition(effects.claimed, (Phase.CLAIMED,), (UNEXPIRED, WANTED)),
    (Phase.HANDED_OFF, Renewed): _renewal(Phase.HANDED_OFF),
    (Phase.HANDED_OFF, Cancelled): Transition(effects.cancelled, (Phase.CANCELLED,)),
    (Phase.HANDED_OFF, LeaseExpired): _at_lease_end(
        or_cancelled(effects.lease_expired), Phase.PENDING, Phase.CANCELLED
    ),
    (Phase.HANDED_OFF, SetAside): _at_lease_end(effects.set_aside, Phase.PENDING),
    # A worker executes it.
    (Phase.CLAIMED, Renewed): _renewal(Phase.CLAIMED),
    (Phase.CLAIMED, Succeeded): Transition(effects.succeeded, (Phase.SUCCEEDED,)),
    (Phase.CLAIMED, Failed): Transition(effects.failed, (Phase.PENDING, Phase.DEAD)),
    (Phase.CLAIMED, Rejected): Transition(effects.rejected, (Phase.DEAD,)),
    (Phase.CLAIMED, Snoozed): Transition(effects.snoozed, (Phase.PENDING,)),
    (Phase.CLAIMED, Released): Transition(effects.released, (Phase.PENDING,)),
    (Phase.CLAIMED, CancelRequested): Transition(effects.cancel_requested, (Phase.CANCELLING,)),
    (Phase.CLAIMED, LeaseExpired): _at_lease_end(effects.lease_expired, Phase.PENDING, Phase.DEAD),
    (Phase.CLAIMED, SetAside): _at_lease_end(effects.set_aside, Phase.PENDING),
    # A worker executes it and is asked to stop: what would be tried again is cancelled.
    (Phase.CANCELLING, Renewed): _renewal(Phase.CANCELLING),
    (Phase.CANCELLING, Succeeded): Transition(effects.succeeded, (Phase.SUCCEEDED,)),
    (Phase.CANCELLING, Failed): Transition(
        or_cancelled(effects.failed), (Phase.CANCELLED, Phase.DEAD)
    ),
    (Phase.CANCELLING, Rejected): Transition(effects.rejected, (Phase.DEAD,)),
    (Phase.CANCELLING, Snoozed): Transition(or_cancelled(effects.snoozed), (Phase.CANCELLED,)),
    (Phase.CANCELLING, Released): Transition(or_cancelled(effects.released), (Phase.CANCELLED,)),
    (Phase.CANCELLING, CancelRequested): Transition(effects.cancel_requested, (Phase.CANCELLING,)),
    (Phase.CANCELLING, Cancelled): Transition(effects.cancelled, (Phase.CANCELLED,)),
    (Phase.CANCELLING, LeaseExpired): _at_lease_end(
        or_cancelled(effects.lease_expired), Phase.CANCELLED, Phase.DEAD
    ),
    (Phase.CANCELLING, SetAside): _at_lease_end(effects.set_aside, Phase.PENDING),
    # Ended.
    (Phase.DEAD, Retried): Transition(effects.retried, (Phase.PENDING,)),
    (Phase.CANCELLED, Retried): Transition(effects.retried, (Phase.PENDING,)),
    (Phase.CANCELLED, Restored): Transition(effects.restored, (Phase.PENDING,)),
}
"""(phase, event) → what happens and what may follow. Whatever is not here cannot happen."""


def advance(job: Job, event: JobEvent, *, now: datetime) -> Job:
    """Return the job as it stands after `event`; `job` itself is untouched.

    Args:
        job: the job as it is known.
        event: what happened.
        now: the instant of the change, by the store's clock.

    Raises:
        IllegalTransition: `event` cannot happen to a job in this state.
    """
    return _carried_out(_transition(job, event), job, event, now)


def _transition(job: Job, event: JobEvent) -> Transition:
    try:
        return TRANSITIONS[job.phase, type(event)]
    except KeyError:
        raise _illegal(job, event, _of_the_other_half(job.phase, type(event))) from None


def _carried_out(row: Transition, job: Job, event: JobEvent, now: datetime) -> Job:
    for guard in row.only:
        if not guard.holds(job, now):
            raise _illegal(job, event, guard.otherwise)
    after = row.does(job, event, now)
    assert after.phase in row.to, f"{type(event).__name__} led to {after.phase}"
    return after


def _of_the_other_half(phase: Phase, event: EventType) -> str:
    """Return why a running job cannot go through what it could, were it claimed or were it not."""
    if phase is Phase.HANDED_OFF and (Phase.CLAIMED, event) in TRANSITIONS:
        return "no worker has claimed it"
    if phase in (Phase.CLAIMED, Phase.CANCELLING) and (Phase.HANDED_OFF, event) in TRANSITIONS:
        return "a worker has claimed it"
    return ""


def _illegal(job: Job, event: JobEvent, why: str) -> IllegalTransition:
    return IllegalTransition(state=job.phase.value, event=type(event).__name__, why=why)


def cancelling(job: Job) -> Cancelled | CancelRequested | None:
    """Return the event that cancels a job as it stands, or None when that is under way or done.

    What nobody executes ends at once; what a worker executes, its worker has to stop.

    Raises:
        IllegalTransition: the job ended otherwise.
    """
    if job.phase in (Phase.CANCELLING, Phase.CANCELLED):
        return None
    for event in (Cancelled(), CancelRequested()):
        if (job.phase, type(event)) in TRANSITIONS:
            return event
    raise _illegal(job, Cancelled(), "it has ended")


# --- Compare and set -------------------------------------------------------------------------


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
    """One compare-and-set: `job` replaces the stored one if that still matches `fence`.

    With it, and only with it, `record` is kept.
    """

    fence: Fence
    job: Job
    record: AttemptRecord | None = None


def change(job: Job, event: JobEvent, *, now: datetime, all_are_kept: bool = False) -> Change:
    """Return the compare-and-set that carries out `event` on the job as it is known.

    Args:
        job: the job as it is known.
        event: what happened.
        now: the instant of the change, by the store's clock.
        all_are_kept: whether ordinary ends are recorded, too (`UseCaseConfig.history`).

    Raises:
        IllegalTransition: `event` cannot happen to a job in this state.
    """
    row = _transition(job, event)
    end = job.lease_expires_at if row.is_about_lease_end else None
    fence = Fence(job.lease_seq, job.phase, end, job.worker_id)
    after = _carried_out(row, job, event, now)
    return Change(fence, after, record_of(job, event, after, at=now, all_are_kept=all_are_kept))


def holds(change: Change, row: Job) -> bool:
    """Tell whether a stored job is what a change expects."""
    fence = change.fence
    return (
        row.lease_seq == fence.lease_seq
        and row.phase is fence.phase
        and fence.lease_expires_at in (None, row.lease_expires_at)
        and fence.worker_id in (None, row.worker_id)
    )
