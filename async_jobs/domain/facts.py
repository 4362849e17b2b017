"""What happened, told after it was committed. Ids and instants, never a payload.

Telemetry adapters turn facts into logs, metrics and spans.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from async_jobs.domain.bounds import Places


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """Something that happened at an instant."""

    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFact(Fact):
    """Something that happened to one job."""

    job_id: UUID
    tenant_id: str
    use_case: str
    type: str
    attempt: int
    """How many attempts had been charged when it happened."""


class Ending(StrEnum):
    """What ended an attempt that failed, or a job that died."""

    FAILED = "failed"
    REJECTED = "rejected"
    LEASE_EXPIRED = "lease_expired"
    DEADLINE_MISSED = "deadline_missed"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEnqueued(JobFact):
    run_at: datetime
    deadline_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLeased(Fact):
    """A job left the backlog. Told by the scheduler, which never reads the whole job."""

    job_id: UUID
    tenant_id: str
    use_case: str
    lease_seq: int
    queue: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobHandOffFailed(JobFact):
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStarted(JobFact):
    """A worker that has a handler for the job claimed it.

    `start_latency` counts from when it was due, `late_by` from the deadline (negative when on
    time); `tolerance_used` is the one by the other's distance. A first start is held against the
    first deadline, any other one against that of its attempt.
    """

    worker_id: str
    start_latency: timedelta
    late_by: timedelta
    tolerance_used: float = 0.0
    first: bool = True
    """True once in a job's life at most: it has not started before, nor expired."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlineMissed(JobFact):
    """An attempt started late, or expired unstarted (`started` is False).

    `first` is true of a job that has neither started nor expired before.
    """

    late_by: timedelta
    started: bool
    first: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSucceeded(JobFact):
    ran_for: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultLeftOut(JobFact):
    """A job succeeded, and what its handler returned cannot be kept."""

    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFailed(JobFact):
    """An attempt failed or died with its worker; another one will follow at `retry_at`."""

    error: str
    retry_at: datetime
    places: Places = ()
    because: Ending = Ending.FAILED
    ran_for: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDied(JobFact):
    """The job will not be tried again unless an operator retries it."""

    error: str
    places: Places = ()
    because: Ending = Ending.FAILED
    ran_for: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSnoozed(JobFact):
    until: datetime
    ran_for: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobReleased(JobFact):
    """A worker that will not finish the job gave it back; no attempt was charged."""

    ran_for: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCancelRequested(JobFact):
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCancelled(JobFact):
    """The job was cancelled; `ran_for` is None unless that ended an attempt."""

    ran_for: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRetried(JobFact):
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseExpired(JobFact):
    """A lease ran out: its worker died or its hand-off was lost."""

    claimed: bool
    worker_id: str | None
    crashes: int
    """How often that has happened to the job while a worker had it, this time included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StaleOutcomeDropped(JobFact):
    """An outcome came after its lease was lost; it changed nothing."""

    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerMissing(JobFact):
    """A worker has no handler for the job's type; the job waits for one that does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerStuck(JobFact):
    """A handler did not stop when it was cancelled; it still occupies its slot."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopBlocked(Fact):
    """A worker's event loop has not gone round for a while: nothing else runs there.

    Of the job whose handler holds it all is None where that cannot be known.
    """

    blocked_for: timedelta
    job_id: UUID | None = None
    tenant_id: str | None = None
    use_case: str | None = None
    type: str | None = None
    attempt: int | None = None
    places: Places = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PoisonDropped(Fact):
    """A message that is no hand-off was taken off its queue."""

    queue: str
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RowUnreadable(Fact):
    """A stored row is no job any more; it was skipped and hides no other."""

    job_id: UUID | None
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RowUnwritable(Fact):
    """The store refuses to write a job's row; the rest of its batch was written."""

    job_id: UUID
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoreSkipped(Fact):
    """Something a scheduler does at intervals failed; everything else went on.

    Told when it begins to fail, and when it fails otherwise; of a store that did not answer, when
    that happens twice in a row.
    """

    chore: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UseCaseSkipped(Fact):
    """Dispatching one use case failed; the others went on."""

    use_case: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsPurged(Fact):
    """Finished jobs past their retention were forgotten."""

    use_case: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueUnattended(Fact):
    """Hand-offs wait in a queue that no live worker receives."""

    queue: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueUnfed(Fact):
    """Live workers receive a queue that no configured use case feeds."""

    queue: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportsDiffer(Fact):
    """A live worker receives a queue by another transport than hand-offs are sent by."""

    queue: str
    scheduler: str
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeUnattended(Fact):
    """Jobs wait whose type no live worker of their queue has a handler for."""

    queue: str
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsDiffer(Fact):
    """A scheduler keeps other limits than this process: what is kept depends on who has the turn.

    `use_cases` are those whose capacity differs; none if it is a queue, a late policy or a tenant.
    """

    scheduler_id: str
    host: str
    use_cases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class UseCaseUnknown(Fact):
    """Jobs are stored of a use case that is not configured: they wait, or are kept, for ever."""

    use_case: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UseCasePaused(Fact):
    """A use case has no capacity: its jobs wait until it has."""

    use_case: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerMissing(Fact):
    """Jobs are pending, and no scheduler ticks that would start them.

    `ticked_at` is when one last said that it does; None if nobody knows of any.
    """

    ticked_at: datetime | None
