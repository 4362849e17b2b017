"""Why jobs wait, and who is there: what an operator is answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from async_jobs.domain.presence import SchedulerInfo, WorkerInfo


class Why(StrEnum):
    """Why a job is where it is. Stable: programs decide by it."""

    FINISHED = "finished"
    RUNNING = "running"
    CANCEL_REQUESTED = "cancel_requested"
    LEASE_OVER = "lease_over"
    HANDED_OFF = "handed_off"
    NOT_DUE = "not_due"
    UNKNOWN_USE_CASE = "unknown_use_case"
    NO_SCHEDULER = "no_scheduler"
    STARTS = "starts"
    EXPIRES = "expires"
    LATE = "late"
    USE_CASE_PAUSED = "use_case_paused"
    TENANT_PAUSED = "tenant_paused"
    PAUSED = "paused"
    USE_CASE_FULL = "use_case_full"
    TENANT_FULL = "tenant_full"
    WINDOW_FULL = "window_full"
    FAIR_SHARE = "fair_share"
    BEHIND = "behind"
    COMING_DUE = "coming_due"
    TRANSPORT_REFUSED = "transport_refused"
    NO_WORKER = "no_worker"
    NO_HANDLER = "no_handler"
    TRANSPORTS_DIFFER = "transports_differ"
    LIMITS_DIFFER = "limits_differ"
    WORKER_GONE = "worker_gone"
    OTHER = "other"
    """One that a newer version tells of."""

    @classmethod
    def _missing_(cls, value: object) -> Why:
        return cls.OTHER


class NextTurn(StrEnum):
    """What the next turn of a scheduler does with a job that is pending and due."""

    STARTS = "starts"
    """It is leased and handed off."""
    EXPIRES = "expires"
    """It is late, and becomes dead."""
    WAITS = "waits"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is so.

    Attributes:
        code: which.
        sentence: the same in words, with what to do where there is something to do.
        data: its numbers, names and instants (ISO 8601), as JSON values.
    """

    code: Why
    sentence: str
    data: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """When a job may start, as far as anybody can tell: an estimate, never a promise.

    Attributes:
        start_at: that instant; None where it is unknown.
        position: about how many starts there are until its own, if its tenant gets its share.
        at_least: there may be more.
        starts_per_second: how many jobs of its use case started in a second lately.
        basis: in words what it rests on, or why it is unknown.
    """

    start_at: datetime | None = None
    position: int | None = None
    at_least: bool = False
    starts_per_second: float | None = None
    basis: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The answer about one job.

    Attributes:
        at: when it was so.
        phase: as in the job's record.
        sentence: what matters most.
        reasons: all that holds, what matters most first; at least one.
        next_turn: what the next turn does with it; None for what is not pending and due.
        estimate: when it starts; None for what has started.
    """

    at: datetime
    job_id: UUID
    tenant_id: str
    use_case: str
    type: str
    phase: str
    sentence: str
    reasons: tuple[Finding, ...]
    next_turn: NextTurn | None = None
    estimate: Estimate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingReason:
    """Why some of the jobs wait that were looked at.

    Attributes:
        jobs: how many of them.
        change: what would have to change for them to start.
    """

    code: Why
    jobs: int
    sentence: str
    change: str
    data: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """The answer about the waiting jobs of a use case, of a tenant, or of a tenant in a use case.

    Attributes:
        at: when it was so.
        pending: how many wait, due or not.
        at_least: there may be more.
        looked_at: at how many that are due a turn looks; the reasons are of these.
        whole: these are all that are due.
        sentence: what matters most.
        reasons: the most frequent first.
    """

    at: datetime
    use_case: str | None
    tenant_id: str | None
    pending: int
    at_least: bool
    looked_at: int
    whole: bool
    sentence: str
    reasons: tuple[WaitingReason, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class UseCaseStatus:
    """One use case.

    Attributes:
        limit: how many of its jobs may run at once; None if it is not configured here.
        limit_from: the id of the control that says so; None for the environment.
        running: how many do, `unclaimed` of them not begun.
        pending: how many wait, due or not; `at_least` so many.
        starts_per_second: how many started in a second lately; None where nobody tells.
    """

    use_case: str
    queue: str | None
    limit: int | None
    running: int
    unclaimed: int
    pending: int
    at_least: bool = False
    starts_per_second: float | None = None
    limit_from: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStatus:
    """One queue: the live workers that receive it, their slots, and how many are busy.

    `unclaimed` is how many hand-offs for it nobody has claimed yet.
    """

    queue: str
    workers: int
    slots: int
    busy: int
    unclaimed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned:
    """One thing that keeps jobs waiting, and what to do about it."""

    code: str
    sentence: str
    data: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingControl:
    """A pause, or changed limits, that operators ordered.

    Attributes:
        scope: the names it applies to, by what they are names of.
        limits: what it sets, by name; None for a pause.
        actor, reason: who ordered it, and why; None where that is not for the caller to know.
    """

    id: UUID
    scope: Mapping[str, str] = field(hash=False)
    limits: Mapping[str, Any] | None = field(hash=False)
    since: datetime
    until: datetime | None
    version: int
    actor: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Who is there and what there is to do.

    For a caller within tenants, counts of jobs are of these tenants, and nobody is named who works
    for others too: `workers` and `schedulers` are empty. `controls` are those that may concern jobs
    of the caller's, what was changed last at the end.
    """

    at: datetime
    use_cases: tuple[UseCaseStatus, ...]
    queues: tuple[QueueStatus, ...]
    workers: tuple[WorkerInfo, ...] = ()
    schedulers: tuple[SchedulerInfo, ...] = ()
    warnings: tuple[Warned, ...] = ()
    controls: tuple[StandingControl, ...] = ()
