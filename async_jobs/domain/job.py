"""The job record and the values around it. Frozen; `lifecycle.advance` makes the next one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar, cast
from uuid import UUID

from async_jobs.domain.backoff import BackoffPolicy

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
Payload: TypeAlias = "dict[str, JsonValue]"
JsonT = TypeVar("JsonT", bound="JsonValue")


class JobStatus(StrEnum):
    """Where a job stands. The comments name who moves it in and out."""

    PENDING = "pending"
    """Enqueued, or back for another attempt; a scheduler leases it once it is due."""
    RUNNING = "running"
    """Leased: handed off and waiting for a worker, or being executed by one."""
    SUCCEEDED = "succeeded"
    """A worker's handler returned; final."""
    DEAD = "dead"
    """Out of attempts or workers, rejected, or too late; final unless an operator retries it."""
    CANCELLED = "cancelled"
    """Somebody asked for it not to run; final unless an operator retries it."""


LIVE = frozenset({JobStatus.PENDING, JobStatus.RUNNING})
TERMINAL = frozenset(JobStatus) - LIVE


class Phase(StrEnum):
    """The part of a job's state that a compare-and-set compares, next to `lease_seq`."""

    PENDING = "pending"
    HANDED_OFF = "handed_off"
    CLAIMED = "claimed"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    DEAD = "dead"
    CANCELLED = "cancelled"


CLAIMED: Final = frozenset({Phase.CLAIMED, Phase.CANCELLING})
"""A worker has it."""

_RUNNING = JobStatus.RUNNING
_PHASES = {status: Phase(status.value) for status in JobStatus if status is not _RUNNING}
# Python 3.11 looks up members of an enum slowly, and each change of a job asks for its phase.
_HANDED_OFF, _CLAIMED, _CANCELLING = Phase.HANDED_OFF, Phase.CLAIMED, Phase.CANCELLING


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptError:
    """One attempt that failed or was cut off, as kept in a job's bounded history."""

    attempt: int
    at: datetime
    error: str


def copied(value: JsonT) -> JsonT:
    """Return a copy that shares nothing that can be changed: quicker than `deepcopy`."""
    return cast("JsonT", _copied(value))


def _copied(value: JsonValue) -> JsonValue:
    # Most of what a payload holds cannot be changed: only the rest is gone through.
    if isinstance(value, dict):
        copy = dict(value)
        for key, item in value.items():
            if isinstance(item, _CHANGEABLE):
                copy[key] = _copied(item)
        return copy
    if isinstance(value, list):
        return [_copied(item) if isinstance(item, _CHANGEABLE) else item for item in value]
    return value


_CHANGEABLE: Final = (dict, list)


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job as it stands. All instants are aware UTC; `deadline_at = run_at + delay_tolerance`.

    This is the one list of a job's fields: columns, statements, records and schemas are made from
    it, or held against it by a test. The first twenty fields are the public record; the rest is
    what the system needs to run it, kept in the same row. Without slots, because `having` copies
    all fields at once then.
    """

    id: UUID
    tenant_id: str
    use_case: str
    type: str
    queue: str
    status: JobStatus
    payload: Payload
    run_at: datetime
    delay_tolerance: timedelta
    deadline_at: datetime
    priority: int
    attempts: int
    max_attempts: int
    backoff_policy: BackoffPolicy
    lease_expires_at: datetime | None
    last_error: str | None
    dedupe_key: str | None
    enqueue_failed: bool
    created_at: datetime
    updated_at: datetime

    lease_seq: int = 0
    """Grows at every lease and when an operator retries, amends or restores the job; never reset.

    The fencing number."""
    started_at: datetime | None = None
    """Set at claim, cleared when the job is given back; of one that has ended, its last start."""
    worker_id: str | None = None
    """Who claimed it, for as long as `started_at` tells when."""
    cancel_requested: bool = False
    dispatches: int = 0
    """Leases that ended without a claim, since the last claim."""
    crashes: int = 0
    """Claimed leases that ran out: how often its worker died, or could not renew."""
    finished_at: datetime | None = None
    errors: tuple[AttemptError, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    result: JsonValue = None
    first_deadline_at: datetime | None = None
    """The deadline it had first; None as long as that is `deadline_at`."""
    first_started_at: datetime | None = None
    """When a worker with a handler for it first claimed it, once that lease has ended; None of a
    job that succeeded at that, as its `started_at` tells it: see `first_start`."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """What searches find it by, besides all else."""

    @classmethod
    def having(cls, fields: Mapping[str, Any]) -> Job:
        """Return the job with exactly these fields, all of them: quicker than `Job(...)`."""
        job = object.__new__(cls)
        job.__dict__.update(fields)
        return job

    def after(self, **changes: Any) -> Job:
        """Return the job with some fields changed: quicker than `dataclasses.replace`."""
        return Job.having({**self.__dict__, **changes})

    @property
    def phase(self) -> Phase:
        """What a compare-and-set on this job has to find."""
        if self.status is not _RUNNING:
            return _PHASES[self.status]
        if self.started_at is None:
            return _HANDED_OFF
        return _CANCELLING if self.cancel_requested else _CLAIMED

    @property
    def first_deadline(self) -> datetime:
        """The deadline that was promised to whoever enqueued it, however often it was put off."""
        return self.first_deadline_at or self.deadline_at

    @property
    def first_start(self) -> datetime | None:
        """When it first started; None until the lease of that start has ended."""
        at_once = self.started_at if self.status is JobStatus.SUCCEEDED else None
        return self.first_started_at or at_once


LASTING: Final = frozenset(
    {
        "id",
        "tenant_id",
        "use_case",
        "type",
        "queue",
        "payload",
        "max_attempts",
        "backoff_policy",
        "dedupe_key",
        "created_at",
        "headers",
        "labels",
    }
)
"""The fields of a job that no event changes: they are written once."""

CHANGING: Final = tuple(each.name for each in fields(Job) if each.name not in LASTING)
"""The others, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnqueueJobRequest:
    """What an application asks for. Whatever is None is taken from the use case.

    Attributes:
        tenant_id, use_case, type, queue, dedupe_key: 1-200 characters, no control characters.
        payload: a JSON object of at most 256 KiB encoded and 32 levels.
        id: chosen by the caller to make a repeated call harmless; else made by the service. Lists
            follow the ids, so that a UUIDv7 keeps them newest first.
        run_at: earliest start, aware, at most 366 days ahead; now when None or in the past.
        delay_tolerance: how late after `run_at` a start is still on time, 0-30 days.
        priority: within 16 bits; higher goes first among the tenant's own jobs.
        headers: trace context and the like, carried along untouched.
        labels: at most eight short names with short values, for searches to find it by.
    """

    tenant_id: str
    use_case: str
    type: str
    payload: Payload
    queue: str | None = None
    id: UUID | None = None
    run_at: datetime | None = None
    delay_tolerance: timedelta | None = None
    max_attempts: int | None = None
    backoff_policy: BackoffPolicy | None = None
    dedupe_key: str | None = None
    priority: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


class Enqueued(NamedTuple):
    """The answer to an enqueue: the id to ask about, and whether it was there already."""

    job_id: UUID
    duplicate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Which jobs to list; None means any. A tenant in the filter hides all other tenants."""

    tenant_id: str | None = None
    use_case: str | None = None
    status: JobStatus | None = None


class UnreadableJob(NamedTuple):
    """A stored row that is no job any more, as far as it can be told of.

    Attributes:
        status: as it is stored, which may be none that this version knows.
        problem: why it cannot be read. Never quotes a payload, a header or a result.
    """

    id: UUID
    tenant_id: str
    use_case: str
    status: str
    problem: str


class JobPage(NamedTuple):
    """One page, newest first; `next_cursor` is None on the last one.

    `unreadable` are the rows between its jobs that are no jobs any more, newest first too. They
    count towards the page's limit.
    """

    jobs: tuple[Job, ...]
    next_cursor: UUID | None
    unreadable: tuple[UnreadableJob, ...] = ()


class HandOff(NamedTuple):
    """The message a transport carries: a hint that a lease exists, never the truth.

    `lease_seq` is None for a bare job id put on the queue by hand: it stands for the job's
    current unclaimed lease. `tenant_id` lets a fair transport group by tenant.
    """

    job_id: UUID
    lease_seq: int | None
    tenant_id: str
