"""History: what became of each attempt that ended, kept beside the job, and its timeline.

A record is made with the change that it tells of, and written with it. By default there is none of
what is ordinary: a success, and a snooze.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from async_jobs.domain.bounds import Places, bounded_error
from async_jobs.domain.events import (
    Cancelled,
    EventType,
    Expired,
    Failed,
    JobEvent,
    LeaseExpired,
    Rejected,
    Released,
    Restored,
    Retried,
    SetAside,
    Snoozed,
    Succeeded,
)
from async_jobs.domain.fingerprints import fingerprint
from async_jobs.domain.job import CLAIMED, Job

RECORDS_TOLD_MAX: Final = 200
"""So many records of a job are told at most: the latest."""
TRACEBACK_BYTES_MAX: Final = 8 * 1024


class Outcome(StrEnum):
    """How an attempt ended, or a job without one."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REJECTED = "rejected"
    SNOOZED = "snoozed"
    RELEASED = "released"
    """Its worker gave it back, as at a shutdown."""
    CANCELLED = "cancelled"
    LEASE_EXPIRED = "lease_expired"
    """Its worker died, or could not renew; without a start, its hand-off was lost."""
    SET_ASIDE = "set_aside"
    """Its lease ran out, and its row could not be read."""
    EXPIRED = "expired"
    """Its deadline passed before a start."""
    DEAD = "dead"
    """Known by the job alone: the record is gone, or older than the history."""
    RETRIED = "retried"
    """An operator gave the job another life."""
    RESTORED = "restored"
    """An operator took its cancellation back."""
    OTHER = "other"
    """One that a newer version tells of."""

    @classmethod
    def _missing_(cls, value: object) -> Outcome:
        return cls.OTHER


_OUTCOMES: Final[Mapping[EventType, Outcome]] = {
    Succeeded: Outcome.SUCCEEDED,
    Failed: Outcome.FAILED,
    Rejected: Outcome.REJECTED,
    Snoozed: Outcome.SNOOZED,
    Released: Outcome.RELEASED,
    Cancelled: Outcome.CANCELLED,
    LeaseExpired: Outcome.LEASE_EXPIRED,
    SetAside: Outcome.SET_ASIDE,
    Expired: Outcome.EXPIRED,
    Retried: Outcome.RETRIED,
    Restored: Outcome.RESTORED,
}
_ORDINARY: Final = frozenset({Outcome.SUCCEEDED, Outcome.SNOOZED})


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """What became of an attempt, or of a lease that nobody claimed; or an operator's retry, undo.

    Attributes:
        attempt: how many attempts had been charged.
        lease_seq: during which lease.
        worker_id, started_at: who had claimed it, and when; None if nobody had.
        error: what the job says of it, without the places in the code.
        fingerprint: the same for errors of one cause (`domain.fingerprints`).
        traceback: the places in the code that it came from, innermost first; no values.
    """

    job_id: UUID
    tenant_id: str
    use_case: str
    type: str
    attempt: int
    lease_seq: int
    worker_id: str | None
    started_at: datetime | None
    ended_at: datetime
    outcome: Outcome
    error: str | None = None
    fingerprint: str | None = None
    traceback: str | None = None


def record_of(
    before: Job, event: JobEvent, after: Job, *, at: datetime, all_are_kept: bool = False
) -> AttemptRecord | None:
    """Return the record of a change: `before` became `after` by an event; None for no record.

    Args:
        before: the job as it was.
        event: what happened to it.
        after: the job as it stands.
        at: when.
        all_are_kept: whether there are records of what is ordinary, too.
    """
    outcome = _OUTCOMES.get(type(event))
    if outcome is None or (outcome in _ORDINARY and not all_are_kept):
        return None
    error: str | None = None
    places: Places = ()
    match event:
        case Failed(error=text, places=places):
            error = bounded_error(text)
        case Rejected(error=text):
            error = bounded_error(text)
        case Expired():
            error = after.last_error
        case LeaseExpired() if after.crashes > before.crashes:
            error = after.last_error
    was_claimed = before.phase in CLAIMED
    return AttemptRecord(
        job_id=before.id,
        tenant_id=before.tenant_id,
        use_case=before.use_case,
        type=before.type,
        attempt=before.attempts,
        lease_seq=before.lease_seq,
        worker_id=before.worker_id if was_claimed else None,
        started_at=before.started_at if was_claimed else None,
        ended_at=at,
        outcome=outcome,
        error=error,
        fingerprint=None if error is None else fingerprint(error, places),
        traceback=traceback_of(places),
    )


def traceback_of(places: Places) -> str | None:
    """Return places in the code as lines, as many as 8 KiB hold, the first ones; None for none."""
    lines: list[str] = []
    left = TRACEBACK_BYTES_MAX
    for place in places:
        line = place.replace("\0", "\ufffd").encode("utf-8", "replace")
        left -= len(line) + 1
        if left < 0:
            break
        lines.append(line.decode())
    return "\n".join(lines) or None
