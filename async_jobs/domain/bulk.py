"""Bulk operations: one action of an operator over all jobs that a filter finds.

What becomes of each job is the lifecycle's to say; here is which event an action stands for, and
how far an operation has come.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Any, Final, NamedTuple, TypeAlias
from uuid import UUID

from async_jobs.domain.bounds import (
    RUN_AT_AHEAD_MAX,
    check_delay_tolerance,
    check_instant,
    check_priority,
)
from async_jobs.domain.errors import IllegalTransition, InvalidJobError
from async_jobs.domain.filters import JobQuery, check_query, check_window, query_record_of
from async_jobs.domain.job import Job, JobStatus
from async_jobs.domain.lifecycle import (
    Amended,
    Change,
    JobEvent,
    Restored,
    Retried,
    cancelling,
    change,
)

BULK_MAX: Final = 10_000_000
"""So many jobs one operation changes at most."""
COUNTED_MAX: Final = 1_000_000
"""So far a preview counts."""
TOKEN_LASTS: Final = timedelta(minutes=15)
_DIGEST_CHARACTERS: Final = 32
_HEAD: Final = re.compile(r"[0-9a-f]{1,9}\.[0-9]{1,7}")
"""What a token says: seconds and a count. Anybody can make a digest of anything else as well."""


class BulkAction(StrEnum):
    """What is done to each job."""

    CANCEL = "cancel"
    """It will not run (any further); what a worker executes is asked to stop."""
    RETRY = "retry"
    """A dead or cancelled job gets another life."""
    DELETE = "delete"
    """It is gone, with the records of its attempts. What runs is left alone."""
    RESCHEDULE = "reschedule"
    """A waiting job is due at another instant."""
    PRIORITISE = "prioritise"
    """A waiting job has another priority."""
    TOLERATE = "tolerate"
    """A waiting job has another delay tolerance."""
    UNDO = "undo"
    """What another operation cancelled waits again, with all that it had."""


_S = JobStatus
STATUSES: Final[Mapping[BulkAction, frozenset[JobStatus]]] = {
    BulkAction.CANCEL: frozenset({_S.PENDING, _S.RUNNING}),
    BulkAction.RETRY: frozenset({_S.DEAD, _S.CANCELLED}),
    BulkAction.DELETE: frozenset(_S),
    BulkAction.RESCHEDULE: frozenset({_S.PENDING}),
    BulkAction.PRIORITISE: frozenset({_S.PENDING}),
    BulkAction.TOLERATE: frozenset({_S.PENDING}),
    BulkAction.UNDO: frozenset({_S.CANCELLED}),
}
"""The statuses of the jobs that an action looks at. It deletes no running ones: it counts them."""

_USUAL: Final = {BulkAction.RETRY: frozenset({_S.DEAD})}
"""Where a filter names no status, what was cancelled on purpose is not retried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Amendment:
    """What an action changes to; each action but three has none.

    Attributes:
        run_at: when jobs are due, of `reschedule`.
        priority: of `prioritise`.
        delay_tolerance: of `tolerate`.
    """

    run_at: datetime | None = None
    priority: int | None = None
    delay_tolerance: timedelta | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON, without what is None."""
        seconds = None if self.delay_tolerance is None else self.delay_tolerance.total_seconds()
        run_at = None if self.run_at is None else self.run_at.isoformat()
        every = {"run_at": run_at, "priority": self.priority, "delay_tolerance_seconds": seconds}
        return {name: value for name, value in every.items() if value is not None}

    @classmethod
    def of_json(cls, value: Mapping[str, Any]) -> Amendment:
        """Return what `as_json` made JSON of."""
        run_at, seconds = value.get("run_at"), value.get("delay_tolerance_seconds")
        return cls(
            run_at=None if run_at is None else datetime.fromisoformat(run_at),
            priority=value.get("priority"),
            delay_tolerance=None if seconds is None else timedelta(seconds=seconds),
        )


_AMENDS: Final = {
    BulkAction.RESCHEDULE: "run_at",
    BulkAction.PRIORITISE: "priority",
    BulkAction.TOLERATE: "delay_tolerance",
}


class BulkState(StrEnum):
    """How far an operation is."""

    RUNNING = "running"
    CANCELLED = "cancelled"
    """An operator stopped it; what is done stays done."""
    FINISHED = "finished"


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkOperation:
    """One action over many jobs, and how far it is.

    Attributes:
        criteria: which jobs, among those that were there when it was created.
        amendment: what the action changes to.
        maximum: after how many jobs it ends.
        matched: how many jobs the filter matched when it was created, as far as that was counted.
        undoes: the operation whose cancellations an undo takes back.
        done: jobs that were changed.
        skipped: jobs that the action cannot happen to as they are by now.
        failed: jobs that the store refuses to change, and rows that are no jobs any more.
        problem: why the last one of these failed; None for none.
        cursor: the last job that was looked at; operations go by ids.
        due_at: when its next batch may be taken.
        ended_at: when it was finished or cancelled.
    """

    id: UUID
    action: BulkAction
    criteria: JobQuery
    amendment: Amendment = field(default_factory=Amendment)
    maximum: int
    matched: int
    actor: str
    address: str
    reason: str
    created_at: datetime
    due_at: datetime
    undoes: UUID | None = None
    done: int = 0
    skipped: int = 0
    failed: int = 0
    problem: str | None = None
    cursor: UUID | None = None
    state: BulkState = BulkState.RUNNING
    ended_at: datetime | None = None

    @property
    def looked_at(self) -> int:
        """How many jobs it has dealt with."""
        return self.done + self.skipped + self.failed

    @property
    def left(self) -> int:
        """How many more it may deal with."""
        return max(0, self.maximum - self.looked_at)

    @property
    def statuses(self) -> frozenset[JobStatus]:
        """The statuses of the jobs that it looks for."""
        return statuses_of(self.action, self.criteria)


class Batch(NamedTuple):
    """What became of the jobs of one batch.

    Attributes:
        cursor: the last job that was looked at; None if there was none.
        is_last: whether no job is behind it.
    """

    done: int
    skipped: int
    failed: int
    cursor: UUID | None
    is_last: bool
    problem: str | None = None


def after_batch(
    operation: BulkOperation, batch: Batch, *, now: datetime, pause: timedelta
) -> BulkOperation:
    """Return the operation after a batch; its next one is due after a pause."""
    after = replace(
        operation,
        done=operation.done + batch.done,
        skipped=operation.skipped + batch.skipped,
        failed=operation.failed + batch.failed,
        problem=batch.problem or operation.problem,
        cursor=batch.cursor or operation.cursor,
        due_at=now + pause,
    )
    if batch.is_last or not after.left:
        return replace(after, state=BulkState.FINISHED, ended_at=now)
    return after


def stopped(operation: BulkOperation, *, now: datetime) -> BulkOperation:
    """Return the operation without any more batches; one that has ended stays as it is."""
    if operation.state is not BulkState.RUNNING:
        return operation
    return replace(operation, state=BulkState.CANCELLED, ended_at=now)


# --- One job ---------------------------------------------------------------------------------


class Changed(NamedTuple):
    """An event happens to the job, by a change that the store compares and sets."""

    job: Job
    event: JobEvent
    change: Change


class Deleted(NamedTuple):
    """The job is deleted, with the records of its attempts, if it still is as it was read."""

    job: Job


class Skipped(NamedTuple):
    """Nothing happens to the job: the action cannot, as it is by now."""

    job: Job


Decision: TypeAlias = Changed | Deleted | Skipped


def decide(
    operation: BulkOperation, job: Job, *, now: datetime, all_are_kept: bool = False
) -> Decision:
    """Return what becomes of a job by an operation.

    Args:
        operation: which one.
        job: the job as it is now.
        now: the instant of the change.
        all_are_kept: see `lifecycle.change`.
    """
    if not is_matched(operation, job):
        return Skipped(job)
    if operation.action is BulkAction.DELETE:
        return Skipped(job) if job.status is JobStatus.RUNNING else Deleted(job)
    try:
        event = _event(operation, job)
        if event is not None:
            return Changed(job, event, change(job, event, now=now, all_are_kept=all_are_kept))
    except IllegalTransition:
        pass
    return Skipped(job)


def _event(operation: BulkOperation, job: Job) -> JobEvent | None:
    match operation.action:
        case BulkAction.CANCEL:
            return cancelling(job)
        case BulkAction.RETRY:
            return Retried()
        case BulkAction.UNDO:
            return Restored()
        case _:
            amendment = operation.amendment
            return Amended(
                run_at=amendment.run_at,
                delay_tolerance=amendment.delay_tolerance,
                priority=amendment.priority,
            )


def is_matched(operation: BulkOperation, job: Job) -> bool:
    """Tell whether a job is one of those that an operation is about."""
    if operation.action is BulkAction.UNDO:
        return True  # the store knows which those are
    criteria = operation.criteria
    # Whoever has found it by an error knows of its records; they are not read again.
    errors = () if criteria.error_group is None else (criteria.error_group,)
    found = replace(criteria, statuses=operation.statuses)
    return job.created_at <= operation.created_at and found.matches(job, errors)


# --- What operators ask for ------------------------------------------------------------------


def statuses_of(action: BulkAction, criteria: JobQuery) -> frozenset[JobStatus]:
    """Return the statuses of the jobs that an action looks for."""
    return criteria.statuses or _USUAL.get(action, STATUSES[action])


def check_bulk(
    action: BulkAction,
    criteria: JobQuery,
    amendment: Amendment,
    *,
    all_jobs: bool,
    now: datetime | None = None,
) -> Amendment:
    """Return what an operation is to change to, as it is kept.

    Args:
        action: what to do.
        criteria: which jobs.
        amendment: what the action changes to.
        all_jobs: whether a filter without any condition is meant.
        now: the instant of the call; None leaves an instant as it is given.

    Raises:
        InvalidJobError: with the field that is out of bounds.
    """
    if action is BulkAction.UNDO:
        raise InvalidJobError("action", "must be another one: an undo is of an operation")
    check_window(check_query(criteria))
    if criteria == JobQuery() and not all_jobs:
        raise InvalidJobError("filter", "must have a condition, or say `all` for every job")
    if not statuses_of(action, criteria) <= STATUSES[action]:
        possible = " or ".join(sorted(STATUSES[action]))
        raise InvalidJobError("statuses", f"must be {possible} to {action}")
    return _check_amendment(action, amendment, now)


def _check_amendment(action: BulkAction, amendment: Amendment, now: datetime | None) -> Amendment:
    wanted = _AMENDS.get(action)
    for each in fields(Amendment):
        value = getattr(amendment, each.name)
        if each.name == wanted and value is None:
            raise InvalidJobError(each.name, f"must be given to {action}")
        if each.name != wanted and value is not None:
            raise InvalidJobError(each.name, f"must not be given to {action}")
    if amendment.run_at is not None:
        run_at = check_instant("run_at", amendment.run_at)
        if now is None:
            return amendment
        if run_at > now + RUN_AT_AHEAD_MAX:
            days = RUN_AT_AHEAD_MAX.days
            raise InvalidJobError("run_at", f"must be no further than {days} days ahead")
        # Compared first: the calendar's first days have no UTC.
        return Amendment(run_at=now if run_at <= now else run_at.astimezone(UTC))
    if amendment.priority is not None:
        check_priority(amendment.priority)
    if amendment.delay_tolerance is not None:
        check_delay_tolerance(amendment.delay_tolerance)
    return amendment


def check_maximum(maximum: object) -> int:
    """Return how many jobs an operation may change, or raise `InvalidJobError`."""
    if type(maximum) is not int or not 1 <= maximum <= BULK_MAX:
        raise InvalidJobError("max", f"must be an integer from 1 to {BULK_MAX}")
    return maximum


# --- The token of a preview ------------------------------------------------------------------


class Seen(NamedTuple):
    """What a token says: how many jobs its holder has seen counted, and until when that holds."""

    jobs: int
    until: datetime


def token_of(
    action: BulkAction, criteria: JobQuery, amendment: Amendment, count: int, *, until: datetime
) -> str:
    """Return the token of a preview.

    It tells that whoever starts an operation has seen the count of just this action and filter, so
    that no mistyped filter is carried out unseen. It is no secret and no permission: any process
    can check it, as it holds a digest of what it is for.
    """
    seconds = int(until.timestamp())
    head = f"{seconds:x}.{count}"
    return f"{head}.{_digest(head, action, criteria, amendment)}"


def check_token(
    token: object,
    action: BulkAction,
    criteria: JobQuery,
    amendment: Amendment,
    *,
    now: datetime,
) -> Seen:
    """Return what a token says, or raise `InvalidJobError`: it is another one's, or too old."""
    head, dot, digest = (token if isinstance(token, str) else "").rpartition(".")
    is_one = dot and _HEAD.fullmatch(head) is not None
    if not is_one or digest != _digest(head, action, criteria, amendment):
        raise InvalidJobError(
            "token", "must be that of a preview of the same action and filter; preview again"
        )
    seconds, _, count = head.partition(".")
    seen = Seen(int(count), datetime.fromtimestamp(int(seconds, 16), UTC))
    if now >= seen.until:
        raise InvalidJobError("token", "has expired: jobs come and go; preview again")
    return seen


def _digest(head: str, action: BulkAction, criteria: JobQuery, amendment: Amendment) -> str:
    about = [head, action, query_record_of(criteria), amendment.as_json()]
    told = json.dumps(about, sort_keys=True, ensure_ascii=True)
    return sha256(told.encode()).hexdigest()[:_DIGEST_CHARACTERS]
