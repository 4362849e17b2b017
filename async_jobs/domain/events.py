"""What can happen to a job: each event with what it brings."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias

from async_jobs.domain.bounds import Places
from async_jobs.domain.job import JsonValue


@dataclass(frozen=True, slots=True)
class Leased:
    """A scheduler takes the job out of the backlog until `until`."""

    until: datetime


@dataclass(frozen=True, slots=True)
class HandOffFailed:
    """The transport did not accept the hand-off; no attempt is charged."""

    error: str


@dataclass(frozen=True, slots=True)
class Claimed:
    """A worker consumes the lease and begins the attempt, which is charged here."""

    worker_id: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Renewed:
    """The worker still executes the job; the lease lasts until `until`."""

    until: datetime


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The handler returned `result`; `left_out` says why that is not what it returned."""

    result: JsonValue = None
    left_out: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """The handler failed, at `places` in the code. `draw` in [0, 1) is the jitter's chance."""

    error: str
    retry_after: timedelta | None = None
    draw: float = 0.0
    places: Places = ()


@dataclass(frozen=True, slots=True)
class Rejected:
    """Its handler, or its worker for want of one, says that retrying is pointless."""

    error: str
    started: bool = True  # whether its claim was a start: it is none without a handler


@dataclass(frozen=True, slots=True)
class Snoozed:
    """Its handler or its worker wants the job to run later; the attempt is refunded."""

    until: datetime
    why: str | None = None  # noted in the job's history, once
    started: bool = True  # whether its claim was a start: it is none without a handler


@dataclass(frozen=True, slots=True)
class Released:
    """The worker gives the job back, unfinished or never begun; the attempt is refunded."""


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """Somebody wants the executing job cancelled; its worker will stop it."""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The job will not run (any further)."""


@dataclass(frozen=True, slots=True)
class LeaseExpired:
    """The lease ran out: a crash if it was claimed and the job has not only `waited`. Refunded."""

    draw: float = 0.0
    waited: bool = False


@dataclass(frozen=True, slots=True)
class SetAside:
    """The lease of a row that cannot be read is over; it is given back, due at `until`."""

    until: datetime


@dataclass(frozen=True, slots=True)
class Expired:
    """The deadline passed before a start, in a use case whose late policy is `expire`."""


@dataclass(frozen=True, slots=True)
class Retried:
    """An operator gives a dead or cancelled job another life."""


@dataclass(frozen=True, slots=True)
class Amended:
    """An operator changed when a waiting job is due, its tolerance or its priority."""

    run_at: datetime | None = None
    delay_tolerance: timedelta | None = None
    priority: int | None = None


@dataclass(frozen=True, slots=True)
class Restored:
    """An operator takes a cancellation back: the job waits again, with all that it had."""


JobEvent: TypeAlias = (
    Leased
    | HandOffFailed
    | Claimed
    | Renewed
    | Succeeded
    | Failed
    | Rejected
    | Snoozed
    | Released
    | CancelRequested
    | Cancelled
    | LeaseExpired
    | SetAside
    | Expired
    | Retried
    | Amended
    | Restored
)
EventType: TypeAlias = type[JobEvent]
